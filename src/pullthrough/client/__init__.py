"""The small built-in client of `pullthrough pull`: pulls an image through a registry, verifies it, and keeps nothing.

May not be imported by the engine. Imports `oci` and `errors` only.
"""
