"""For whom a piece of work is done: the client, as far as queues share by it and an address tells.

It travels with the task that serves the request, and with the tasks which that one begins. Work of the engine's own is
for nobody: the empty text.
"""

from __future__ import annotations

import ipaddress
from contextvars import ContextVar

ASKER: ContextVar[str] = ContextVar("asker", default="")


def client_of(address: str | None) -> str:
    """The address, or for IPv6 the network of 64 bits that one machine may have all addresses of."""
    if not address or ":" not in address:
        return address or ""  # IPv4, or none
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
