"""Connections that are kept for the next request, and those that are opened for this one."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass, Admits
from pullthrough.upstream.http.dialing import Dialer
from pullthrough.upstream.http.proxies import Proxy
from pullthrough.upstream.http.urls import Url
from pullthrough.upstream.http.wires import TlsWire, Wire

#: Servers in use close idle connections after 20 s (S3) to 75 s (nginx).
IDLE_SECONDS = 15.0
MAX_IDLE = 8

_READ_BUFFER_BYTES = 64 * 1024


@dataclass(slots=True)
class HttpConnection:
    """A connected socket. One request at a time; closed by whoever holds it, or kept by `Connections.keep`."""

    sock: socket.socket
    wire: Wire
    key: tuple[str, str, int, bool]
    #: Class of the address connected to; behind a proxy, of the name.
    address_class: AddressClass
    #: The proxy, where requests must carry the whole URL (plain HTTP through a proxy).
    forward_proxy: Proxy | None
    reader: io.BufferedReader = field(init=False)
    used: bool = False
    idle_since: float = 0.0

    def __post_init__(self) -> None:
        self.reader = io.BufferedReader(self.wire, _READ_BUFFER_BYTES)

    def close(self) -> None:
        self.sock.close()

    @property
    def is_quiet(self) -> bool:
        """False where the other side has closed it or sent something unasked."""
        return self.wire.is_quiet(self.reader)


class Connections:
    """Opens, keeps and closes the connections of one upstream. Thread-safe."""

    def __init__(self, dialer: Dialer, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._dialer = dialer
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str, int, bool], deque[HttpConnection]] = {}
        self._closed = False

    def take(self, url: Url, *, own: bool, admits: Admits, abort: AbortHandle) -> HttpConnection:
        """A kept connection, or a new one. `own`: to the endpoint's own host. Raises as `Dialer.dial` does."""
        key = (url.scheme, url.host, url.port, own)
        now = self._monotonic()
        while True:
            with self._lock:
                kept = self._idle.get(key)
                connection = kept.pop() if kept else None
            if connection is None:
                dialled = self._dialer.dial(url, own=own, admits=admits, abort=abort)
                sock = dialled.sock
                wire = TlsWire(sock) if isinstance(sock, ssl.SSLSocket) else Wire(sock)
                return HttpConnection(sock, wire, key, dialled.address_class, dialled.forward_proxy)
            if now - connection.idle_since < IDLE_SECONDS and connection.is_quiet and admits(connection.address_class):
                connection.used = True
                return connection
            connection.close()

    def keep(self, connection: HttpConnection) -> None:
        """For a connection whose answer was read to its end."""
        now = connection.idle_since = self._monotonic()
        dropped: list[HttpConnection] = []
        with self._lock:
            # Of hosts that nobody asks again, too: redirects lead to ever new ones.
            for key, kept in list(self._idle.items()):
                while kept and now - kept[0].idle_since >= IDLE_SECONDS:
                    dropped.append(kept.popleft())
                if not kept:
                    del self._idle[key]
            kept = self._idle.setdefault(connection.key, deque())
            if self._closed or len(kept) >= MAX_IDLE:
                dropped.append(connection)
            else:
                kept.append(connection)
        for each in dropped:
            each.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            kept = [connection for connections in self._idle.values() for connection in connections]
            self._idle.clear()
        for connection in kept:
            connection.close()
