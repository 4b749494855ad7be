"""Which client is which, as far as an address tells: whoever shares something out between clients counts by this."""

from __future__ import annotations

import ipaddress


def client_of(address: str | None) -> str:
    """The address, or for IPv6 the network of 64 bits that one machine may have all addresses of."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""  # none that is of a network
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
