"""URLs as far as this client follows them: http and https, a plain host, no user.

What comes from an upstream (redirects, realms, links) becomes a `Url` here, at the edge, or is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import quote, urljoin, urlsplit

from pullthrough.upstream.http.redaction import redact_url

#: Signed addresses of object stores, with a session token inside, reach 4 KiB.
MAX_URL_LENGTH = 16 * 1024

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
#: Underscores are not allowed in host names, and used in them nevertheless.
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)
#: What stays as it is in a path and query: all that is not a control character, a space, or beyond ASCII.
_KEPT = "!#$%&'()*+,/:;=?@[]~-._|{}^`<>\""


@dataclass(frozen=True, slots=True)
class Url:
    """Made by `parse_url`. `host` is lower case, IPv6 without brackets; `target` is the path with its query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As in a Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def host_port(self) -> str:
        """Host and port, always both."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, target: str) -> Url:
        """The same server, another path."""
        return replace(self, target=target)

    def join(self, location: str) -> Url:
        """Where `location`, absolute or relative to this, points. Raises ValueError."""
        if len(location) > MAX_URL_LENGTH:
            raise ValueError("is too long")
        return parse_url(urljoin(self.text, location.strip()))

    @property
    def text(self) -> str:
        """The whole URL, for requests. It may hold a signature: never for logs."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        return redact_url(self.text)

    def __repr__(self) -> str:
        return f"Url({self})"


def parse_url(text: str) -> Url:
    """Raises ValueError with a sentence that continues "the URL ..." and does not repeat it."""
    if len(text) > MAX_URL_LENGTH:
        raise ValueError("is too long")
    if _UNSAFE.search(text):
        raise ValueError("holds a space, a backslash or a control character")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is malformed") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("holds a user or a password")
    host = host.removesuffix(".")
    if not (_is_ipv6(host) if ":" in host else len(host) <= 253 and _NAME.fullmatch(host)):
        raise ValueError("has no valid host")
    if port == 0:
        raise ValueError("has no valid port")
    target = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT)}" if parts.query else "")
    return Url(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], target)


def _is_ipv6(host: str) -> bool:
    try:
        return "%" not in host and bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False
