"""IAM policy documents: what they say, and what they may ask of a request."""
