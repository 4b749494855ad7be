"""Handlers for what is set up for the registry and its repositories."""
