"""What is there, read from AWS or an engine."""
