"""TLS contexts of one upstream: which certificates are trusted, and when ours is shown.

The client certificate is a credential: only the endpoint's own host gets to see it. `ca_file` replaces the system's
certificates there; hosts that the upstream points to (token servers, object stores) are trusted by either.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from pathlib import Path


class SystemTrust:
    """The system's certificates, read once: that takes tens of milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = _prepared(ssl.create_default_context())
            return self._context


class TlsContexts:
    """Contexts are made when first needed and again when a file changes, so that renewed certificates need no restart.

    Raises OSError (ssl.SSLError is one) where a file cannot be read or is not what it should be.
    """

    def __init__(
        self,
        *,
        ca_file: Path | None,
        client_cert: Path | None,
        client_key: Path | None,
        system: Callable[[], ssl.SSLContext],
    ) -> None:
        self._ca_file, self._client_cert, self._client_key = ca_file, client_cert, client_key
        self._system = system
        self._lock = threading.Lock()
        self._made: dict[bool, tuple[object, ssl.SSLContext]] = {}

    def context(self, *, own: bool) -> ssl.SSLContext:
        """`own`: for the endpoint's own host."""
        if self._ca_file is None and (self._client_cert is None or not own):
            return self._system()
        with self._lock:
            signature = self._signature()
            made = self._made.get(own)
            if made is None or made[0] != signature:
                made = self._made[own] = (signature, self._make(own=own))
            return made[1]

    def _make(self, *, own: bool) -> ssl.SSLContext:
        if own and self._ca_file is not None:
            context = ssl.create_default_context(cafile=self._ca_file)
        else:
            context = ssl.create_default_context()
            if self._ca_file is not None:
                context.load_verify_locations(self._ca_file)
        if own and self._client_cert is not None:
            context.load_cert_chain(self._client_cert, self._client_key)
        return _prepared(context)

    def _signature(self) -> object:
        files = [path for path in (self._ca_file, self._client_cert, self._client_key) if path is not None]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in (path.stat() for path in files))


def _prepared(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context
