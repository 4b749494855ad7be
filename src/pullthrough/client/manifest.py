"""Pull nothing but a manifest, with a login: what `verify` does to see that a rule works."""

from __future__ import annotations

from pullthrough.client.registry import STALL_TIMEOUT_SECONDS, Login, PulledManifest, open_registry
from pullthrough.oci.names import ImageReference


async def fetch_manifest(
    image: ImageReference,
    *,
    registry: str,
    login: Login | None = None,
    stall_timeout_seconds: float = STALL_TIMEOUT_SECONDS,
    use_proxies: bool = False,
) -> PulledManifest:
    """The manifest, or index, of `image` from the registry at the URL `registry`; one request, redirects aside.

    Its digest is verified: against the one asked for, else the one that the registry states. Raises as `pull_image` does.
    """
    async with open_registry(
        registry, login=login, stall_timeout_seconds=stall_timeout_seconds, use_proxies=use_proxies
    ) as opened:
        return await opened.fetch_manifest(image)
