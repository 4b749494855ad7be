"""What answers requests, each face by its own protocol, and what all of them share."""
