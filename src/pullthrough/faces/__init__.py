"""What answers requests, and what all of it shares."""
