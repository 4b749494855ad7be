"""Commands of the engine: serve, and what is asked of a cache."""
