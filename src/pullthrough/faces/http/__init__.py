"""HTTP on a connection, whatever the face: accepting, framing, limits, and sending bodies."""
