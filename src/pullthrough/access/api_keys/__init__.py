"""API keys: found, made, renewed and removed."""
