"""The registry face: the OCI distribution specification's API."""
