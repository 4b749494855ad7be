"""Network addresses: listeners, hosts and URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pullthrough.oci.names import canonical_host, is_host, plain_host
from pullthrough.settings.values.base import PathBase, ValueType, text_of, texts_of


class ListenAddress(NamedTuple):
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect. A name other than localhost counts as reachable from elsewhere."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def parse_listen(text: str) -> ListenAddress:
    """`127.0.0.1:5000`, `localhost:5000`, `[::1]:5000`; port 0 lets the system choose. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None or int(port) > 65535:
        raise ValueError("is not an address and a port (0 to 65535) such as '127.0.0.1:5000' or '[::1]:5000'")
    if not host:
        raise ValueError(f"names no address; for all addresses write '0.0.0.0:{port}' or '[::]:{port}'")
    if host.startswith("[") and host.endswith("]"):
        try:
            return ListenAddress(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError("has no valid IPv6 address between its brackets") from None
    if ":" in host:
        raise ValueError("is ambiguous; put an IPv6 address in brackets, as in '[::1]:5000'")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return ListenAddress(str(ipaddress.IPv4Address(host)), int(port))
        except ValueError:
            raise ValueError("has no valid IPv4 address") from None
    if not is_host(host):
        raise ValueError("has no valid host name or address")
    return ListenAddress(host.lower(), int(port))


def is_upstream_host(text: str) -> bool:
    """Whether this is a host, with or without a port that exists."""
    port = text.rpartition(":")[2] if not text.endswith("]") and ":" in text else ""
    return is_host(text) and (not port or 0 < int(port) <= 65535)


@dataclass(frozen=True, slots=True)
class Listen(ValueType[str]):
    accepted = "an address and port such as `127.0.0.1:5000`, `0.0.0.0:5000` or `[::1]:5000`"

    def parse(self, value: object, place: PathBase) -> str:
        return str(parse_listen(text_of(value)))


@dataclass(frozen=True, slots=True)
class Mirrors(ValueType[Mapping[str, str]]):
    accepted = "a table from address and port to a rule's prefix"

    def parse(self, value: object, place: PathBase) -> Mapping[str, str]:
        if not isinstance(value, dict):
            raise ValueError("is not a table such as { \"127.0.0.1:5001\" = 'docker-hub' }")
        mirrors: dict[str, str] = {}
        for address, prefix in value.items():
            try:
                listen = str(parse_listen(address))
            except ValueError as error:
                raise ValueError(f"has the address {address[:80]!r}, which {error}") from None
            if listen in mirrors and parse_listen(listen).port:
                raise ValueError(f"has the address {listen} twice")
            if not isinstance(prefix, str):
                raise ValueError(f"has something other than the prefix of a rule for {listen}")
            mirrors[listen] = prefix
        return mirrors

    def from_text(self, text: str, place: PathBase) -> Mapping[str, str]:
        pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("is not a list such as '127.0.0.1:5001=docker-hub,127.0.0.1:5002=github'")
        return self.parse({address.strip(): prefix.strip() for address, _, prefix in pairs}, place)


@dataclass(frozen=True, slots=True)
class UpstreamHost(ValueType[str]):
    accepted = "a registry's host, with a port where it is not 443"

    def parse(self, value: object, place: PathBase) -> str:
        return canonical_host(_host(text_of(value)))


@dataclass(frozen=True, slots=True)
class Hosts(ValueType[tuple[str, ...]]):
    accepted = "a list of hosts, each with a port where it is not 443"

    def parse(self, value: object, place: PathBase) -> tuple[str, ...]:
        return tuple(dict.fromkeys(plain_host(_host(text)) for text in texts_of(value)))


@dataclass(frozen=True, slots=True)
class Urls(ValueType[tuple[str, ...]]):
    """Where to connect. Without a user: credentials have their own settings, and an address is shown in logs."""

    accepted = "an `http://` or `https://` URL, or a list of them that is tried in order"
    private = True

    def parse(self, value: object, place: PathBase) -> tuple[str, ...]:
        texts = texts_of([value] if isinstance(value, str) else value)
        return tuple(dict.fromkeys(_url(text) for text in texts if text))

    def show(self, value: tuple[str, ...]) -> object:
        return value[0] if len(value) == 1 else list(value)


@dataclass(frozen=True, slots=True)
class ProxyUrl(ValueType[str]):
    """May hold a user and a password, as HTTPS_PROXY may; hence never shown whole."""

    accepted = "an `http://` URL"
    private = True

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        return _url(text, schemes=("http",), with_user=True, with_path=False) if text else ""

    def show(self, value: str) -> str:
        if "@" not in value:
            return value
        scheme, _, rest = value.partition("://")
        return f"{scheme}://…@{rest.rpartition('@')[2]}"

    def user_of(self, value: str) -> str:
        """The user and the password in it; empty for none."""
        return value.partition("://")[2].rpartition("@")[0]


@dataclass(frozen=True, slots=True)
class HostTemplate(ValueType[str]):
    """The name by which clients know this registry."""

    accepted = "a host, with its port, in which `{account}` and `{region}` stand for those two settings"

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        if text:
            _host(text.replace("{account}", "0").replace("{region}", "0"))
        return text


@dataclass(frozen=True, slots=True)
class WebhookUrl(ValueType[str]):
    """Where to post events. Such addresses often hold a secret of their own: shown up to the host only."""

    accepted = "an `http://` or `https://` URL"
    private = True

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        address, mark, query = text.partition("?")
        if re.search(r"[^!-~]|#", query):
            raise ValueError("has a query that holds a space, a fragment or a character beyond ASCII")
        return _url(address) + mark + query if text else ""

    def show(self, value: str) -> str:
        host = "/".join(value.split("/")[:3]).partition("?")[0]
        return value if value == host else f"{host}/…"


def _host(text: str) -> str:
    if "://" in text:
        raise ValueError("is a URL; write the host only, without the scheme")
    if "/" in text:
        raise ValueError("has a path; write the host only")
    if not is_upstream_host(text):
        raise ValueError("is not a host such as 'registry.example.com' or '127.0.0.1:5001'")
    return text


def _url(
    text: str, *, schemes: tuple[str, ...] = ("http", "https"), with_user: bool = False, with_path: bool = True
) -> str:
    """The URL, scheme and host in lower case, without a slash at its end. The sentences repeat no part of it."""
    form = " or ".join(f"{scheme}://host[:port]" for scheme in schemes)
    if re.search(r"[\s\\\x00-\x1f\x7f]", text):
        raise ValueError("holds a space, a backslash or a control character")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"is not a URL of the form {form}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"is not a URL of the form {form}")
    if "@" in parts.netloc and not with_user:
        raise ValueError("holds a user or a password; credentials have settings of their own")
    if "?" in text or "#" in text:
        raise ValueError("has a query or a fragment")
    user, _, host = parts.netloc.rpartition("@")
    if not is_host(host) or port == 0 or host.endswith(":"):
        raise ValueError(f"has no valid host; the form is {form}")
    path = parts.path.rstrip("/")
    if path and not with_path:
        raise ValueError("has a path")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("has '.' or '..' in its path")
    return urlunsplit((parts.scheme, f"{user}@{host.lower()}" if user else host.lower(), path, "", ""))
