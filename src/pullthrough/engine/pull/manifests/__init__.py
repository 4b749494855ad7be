"""Manifests that clients pull: by digest, which never changes, and by tag."""
