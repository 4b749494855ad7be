"""Handlers of Secrets Manager's API."""
