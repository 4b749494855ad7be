"""Which proxy stands before a URL: the setting, else HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

The environment is read as Go programs such as docker and containerd read it, so that one set of variables serves all:
NO_PROXY holds hosts (with their subdomains), `host:port`, addresses, CIDR ranges or `*`; loopback is never proxied.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from pullthrough.upstream.http.address_classes import AddressClass, classify_name
from pullthrough.upstream.http.urls import Url, parse_url


@dataclass(frozen=True, slots=True)
class Proxy:
    url: Url
    #: Value of Proxy-Authorization; empty for none.
    authorization: str = field(default="", repr=False)


def parse_proxy(text: str) -> Proxy:
    """`http://[user[:password]@]host[:port]`; without a scheme, http. Raises ValueError with a sentence that continues
    "the proxy ..." and repeats nothing of it."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme == "https":
        raise ValueError("is reached over https://, which is not supported; give its http:// address")
    url = parse_url(f"{parts.scheme}://{host}")
    if not at:
        return Proxy(url)
    username, _, password = user.partition(":")
    login = base64.b64encode(f"{unquote(username)}:{unquote(password)}".encode()).decode()
    return Proxy(url, f"Basic {login}")


class Proxies:
    """The proxy of each URL, for one upstream. `setting` wins over the environment, also over NO_PROXY."""

    def __init__(self, setting: str, environ: Mapping[str, str]) -> None:
        self._setting = setting
        self._https = _read(environ, "https_proxy")
        # CGI servers put a request's `Proxy:` header there (CVE-2016-5385).
        self._http = "" if "REQUEST_METHOD" in environ else _read(environ, "http_proxy")
        self._bypassed = tuple(entry for entry in re.split(r"[,\s]+", _read(environ, "no_proxy").lower()) if entry)

    def of(self, url: Url) -> Proxy | None:
        """None: connect directly. Raises ValueError as `parse_proxy` does."""
        if self._setting:
            return parse_proxy(self._setting)
        text = self._https if url.scheme == "https" else self._http
        if not text or self._bypasses(url):
            return None
        return parse_proxy(text)

    def _bypasses(self, url: Url) -> bool:
        if classify_name(url.host) is AddressClass.LOOPBACK:
            return True
        return any(_covers(entry, url) for entry in self._bypassed)


def _read(environ: Mapping[str, str], name: str) -> str:
    """Lower case wins, as in every other program."""
    return environ.get(name) or environ.get(name.upper(), "")


def _covers(entry: str, url: Url) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(url.host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit():
        if int(port) != url.port:
            return False
        entry = host.strip("[]")
    entry = entry.removeprefix("*")
    return url.host == entry.removeprefix(".") or url.host.endswith("." + entry.removeprefix("."))
