"""Values that are encrypted at rest: secrets, API keys, and the key that seals them."""
