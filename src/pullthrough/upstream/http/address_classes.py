"""Classes of addresses, to keep an untrusted registry from pointing this machine at its own neighbourhood.

Ranges: https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry
"""

from __future__ import annotations

import ipaddress
import socket
from enum import StrEnum
from typing import Protocol


class AddressClass(StrEnum):
    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    #: RFC 6598, between a provider and its customers; some clouds number their pods from it.
    SHARED = "carrier-grade NAT"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    #: Where clouds hand out credentials. Never connected to.
    METADATA = "cloud metadata"


_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean, OpenStack
        "169.254.169.253",  # AWS: name server of the VPC
        "169.254.169.123",  # AWS: time
        "169.254.170.2",  # AWS: credentials of ECS tasks
        "169.254.170.23",  # AWS: credentials of EKS pods
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure: wire server
        "192.0.0.192",  # Oracle
    )
)
_METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
    }
)

_IPV4_PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_IPV4_SHARED = ipaddress.IPv4Network("100.64.0.0/10")
_IPV6_PRIVATE = tuple(map(ipaddress.IPv6Network, ("fc00::/7", "fec0::/10")))
#: RFC 4291 compatible, 4291 mapped, 2765 translated, 6052 and 8215 NAT64: the IPv4 address is in the last 32 bits.
_IPV4_AT_END = tuple(
    map(
        ipaddress.IPv6Network,
        ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    )
)
_TEREDO = ipaddress.IPv6Network("2001::/32")
_6TO4 = ipaddress.IPv6Network("2002::/16")


def classify(address: str) -> AddressClass:
    """The class of a numeric address. An IPv4 address inside an IPv6 one decides. Raises ValueError for a name."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip in _METADATA_ADDRESSES:
        return AddressClass.METADATA
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.is_loopback:
            return AddressClass.LOOPBACK
        if ip.is_unspecified:
            return AddressClass.UNSPECIFIED
        embedded = _embedded(ip)
        return classify(str(embedded)) if embedded is not None else _classify_ipv6(ip)
    return _classify_ipv4(ip)


def classify_name(host: str) -> AddressClass:
    """The class as far as a name or a literal shows it, for connections that a proxy makes. A name that says nothing
    counts as public."""
    host = host.lower().rstrip(".")
    if host in _METADATA_NAMES:
        return AddressClass.METADATA
    if host == "localhost" or host.endswith(".localhost"):
        return AddressClass.LOOPBACK
    try:
        return classify(host)
    except ValueError:
        pass
    try:
        # 127.1, 0x7f000001, 2130706433: not addresses by any RFC, but every resolver takes them.
        return classify(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        return AddressClass.PUBLIC


class Admits(Protocol):
    """Which classes of addresses a connection may have."""

    def __call__(self, address_class: AddressClass, /) -> bool: ...


def anywhere_but_metadata(address_class: AddressClass) -> bool:
    """For what the settings name: people may run a registry on loopback or in their own network."""
    return address_class is not AddressClass.METADATA


def public_only(address_class: AddressClass) -> bool:
    """For what nobody who owns this machine has named."""
    return address_class is AddressClass.PUBLIC


def public_or(endpoint_class: AddressClass) -> Admits:
    """For what an upstream points to: the internet, or the neighbourhood that the endpoint itself is in."""
    return lambda address_class: (
        address_class is AddressClass.PUBLIC
        or (address_class is endpoint_class and address_class is not AddressClass.METADATA)
    )


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if any(ip in network for network in _IPV4_AT_END):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _6TO4:
        return ipaddress.IPv4Address(int(ip) >> 80 & 0xFFFFFFFF)
    if ip in _TEREDO:
        return ipaddress.IPv4Address(~int(ip) & 0xFFFFFFFF)
    return None


def _classify_ipv4(ip: ipaddress.IPv4Address) -> AddressClass:
    if ip.is_loopback:
        return AddressClass.LOOPBACK
    if ip.is_unspecified:
        return AddressClass.UNSPECIFIED
    if ip.is_link_local:
        return AddressClass.LINK_LOCAL
    if ip.is_multicast:
        return AddressClass.MULTICAST
    if ip in _IPV4_SHARED:
        return AddressClass.SHARED
    if any(ip in network for network in _IPV4_PRIVATE):
        return AddressClass.PRIVATE
    return AddressClass.PUBLIC if ip.is_global else AddressClass.RESERVED


def _classify_ipv6(ip: ipaddress.IPv6Address) -> AddressClass:
    if ip.is_link_local:
        return AddressClass.LINK_LOCAL
    if ip.is_multicast:
        return AddressClass.MULTICAST
    if any(ip in network for network in _IPV6_PRIVATE):
        return AddressClass.PRIVATE
    return AddressClass.PUBLIC if ip.is_global and not ip.is_reserved else AddressClass.RESERVED
