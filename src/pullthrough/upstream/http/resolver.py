"""Name look-ups that end: getaddrinfo knows no time limit and cannot be interrupted."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pullthrough.errors import UpstreamUnavailable
from pullthrough.upstream.http.abort import AbortHandle

#: Like socket.getaddrinfo: `lookup(host, port, type=socket.SOCK_STREAM)`.
Lookup = Callable[..., list[Any]]
system_lookup: Lookup = socket.getaddrinfo

#: Names that one upstream may have looked up at once: whoever redirects to ever new ones leaves a thread for each.
MAX_LOOKUPS = 16
#: How soon a waiting thread sees that it was aborted.
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class SocketAddress:
    family: int
    address: tuple[Any, ...]

    @property
    def host(self) -> str:
        return str(self.address[0])


@dataclass(slots=True)
class _Pending:
    done: threading.Event = field(default_factory=threading.Event)
    found: tuple[SocketAddress, ...] = ()
    error: OSError | UnicodeError | None = None


class Resolver:
    """Each look-up runs in a thread of its own, which is left behind when it takes too long; at most one a name."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], _Pending] = {}
        self._running: Counter[str] = Counter()

    def resolve(
        self, host: str, port: int, *, limit_seconds: float, abort: AbortHandle, upstream: str
    ) -> tuple[SocketAddress, ...]:
        """At least one address. Raises UpstreamUnavailable."""
        literal = _literal(host, port)
        if literal is not None:
            return (literal,)
        pending = self._join(host, port, upstream)
        left = limit_seconds
        while not pending.done.wait(min(left, _POLL_SECONDS)):
            abort.check(upstream)
            left -= _POLL_SECONDS
            if left <= 0:
                raise UpstreamUnavailable(
                    f"{host} could not be resolved within {limit_seconds:g} s",
                    upstream=upstream,
                    hint="Check this machine's name servers.",
                )
        if pending.error is not None or not pending.found:
            reason = getattr(pending.error, "strerror", None) or "no address"
            raise UpstreamUnavailable(f"{host} could not be resolved: {reason}", upstream=upstream) from pending.error
        return pending.found

    def _join(self, host: str, port: int, upstream: str) -> _Pending:
        with self._lock:
            pending = self._pending.get((host, port))
            if pending is None:
                if self._running[upstream] >= MAX_LOOKUPS:
                    raise UpstreamUnavailable(
                        f"{host} is not looked up: {MAX_LOOKUPS} other names for {upstream} have no answer yet",
                        upstream=upstream,
                        hint="Check this machine's name servers.",
                    )
                self._running[upstream] += 1
                pending = self._pending[host, port] = _Pending()
                threading.Thread(
                    target=self._run, args=(host, port, upstream, pending), name="lookup", daemon=True
                ).start()
            return pending

    def _run(self, host: str, port: int, upstream: str, pending: _Pending) -> None:
        try:
            found = self._lookup(host, port, type=socket.SOCK_STREAM)
            pending.found = tuple(dict.fromkeys(SocketAddress(family, address) for family, _, _, _, address in found))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA does not take
            pending.error = error
        finally:
            with self._lock:
                del self._pending[host, port]
                self._running[upstream] -= 1
                if not self._running[upstream]:
                    del self._running[upstream]
            pending.done.set()


def _literal(host: str, port: int) -> SocketAddress | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    if version == 4:
        return SocketAddress(socket.AF_INET, (host, port))
    return SocketAddress(socket.AF_INET6, (host, port, 0, 0))
