"""Listening sockets, bound once for all workers."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from pullthrough.errors import ConfigurationError
from pullthrough.settings import ListenAddress

_BACKLOG = 1024


@dataclass(frozen=True)
class BoundAddress:
    """Bound sockets of one address. `mirror` is the prefix of the rule they are bound to; None for the main listener."""

    address: ListenAddress
    sockets: tuple[socket.socket, ...]
    mirror: str | None

    @property
    def port(self) -> int:
        """The one that was really bound."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    def url(self, scheme: str) -> str:
        return f"{scheme}://{ListenAddress(self.address.host, self.port)}"


def bind(address: ListenAddress, mirror: str | None) -> BoundAddress:
    """Exclusively: a second engine on the port must fail, not share it. Raises ConfigurationError."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = address.port
        for family, kind, protocol, _, where in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((where[0], port, *where[2:]))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            port = port or listening.getsockname()[1]
    except OSError as error:
        for listening in sockets:
            listening.close()
        reasons = {
            errno.EADDRINUSE: (
                f"{address} is in use",
                "stop what listens there, or choose another address with --listen",
            ),
            errno.EACCES: (f"this user may not listen on {address}", "choose a port above 1023 with --listen"),
            errno.EADDRNOTAVAIL: (f"{address} is no address of this machine", "choose another one with --listen"),
        }
        message, hint = reasons.get(error.errno or 0, (f"cannot listen on {address}: {error}", "check serve.listen"))
        raise ConfigurationError(message, hint=hint) from error
    return BoundAddress(address, tuple(sockets), mirror)


def bind_control(path: Path) -> socket.socket:
    """Only while holding the folder's lock: what stands there is then a dead engine's."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Through the folder's descriptor, since sun_path holds 107 bytes only: unix(7).
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    mask = os.umask(0o177)
    try:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.umask(mask)
        os.close(folder)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening
