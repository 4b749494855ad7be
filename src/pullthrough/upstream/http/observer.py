"""What this layer tells those who count: metrics in a server, lists in a test."""

from __future__ import annotations

from typing import Protocol


class UpstreamObserver(Protocol):
    """Called from any thread, briefly and often; must not raise or block. `upstream` is the upstream's own host."""

    def on_request(self, upstream: str, method: str, status: int | None) -> None:
        """One HTTP request was made, for a token or after a redirect too. None: no answer came."""

    def on_bytes(self, upstream: str, size_bytes: int) -> None:
        """So many bytes of bodies arrived."""

    def on_budget(self, upstream: str, remaining: int | None, paused_until: float) -> None:
        """What the upstream says is left of its limit, and the Unix time until which it is not asked (0: it is)."""

    def on_health(self, upstream: str, healthy: bool) -> None:
        """It began or ceased to answer."""

    def on_credential(self, upstream: str, ok: bool) -> None:
        """A credential was accepted or turned out broken; called on each change only."""
