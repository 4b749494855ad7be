"""Whether the cache really works, end to end: a row a check, each failure with its reason and its fix."""
