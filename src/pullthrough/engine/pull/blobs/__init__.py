"""Blobs for clients: from the store, from a fill, by themselves, or passed through."""
