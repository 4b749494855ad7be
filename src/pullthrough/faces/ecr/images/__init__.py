"""Handlers for images, their layers and manifests."""
