"""Who we say we are to a registry: challenges, tokens, credentials, redirects, rate limits; one exchange at a time."""
