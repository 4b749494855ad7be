"""The owner of what tests keep in a catalog, where it does not matter whose it is."""

from __future__ import annotations

from pullthrough.oci.owners import upstream_owner

OWNER = upstream_owner("registry.example.com", "acme/app")
