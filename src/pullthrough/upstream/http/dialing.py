"""Opening a connection: to which address, through which proxy, with which TLS.

The address that is checked is the address that is connected to: a name is looked up once, what may not be connected to
is struck from the answer, and one of the rest is taken. The name stays in SNI and Host.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from errno import EINPROGRESS
from os import strerror

from pullthrough.errors import UpstreamRefused, UpstreamUnavailable
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import (
    AddressClass,
    Admits,
    anywhere_but_metadata,
    classify_name,
    public_only,
)
from pullthrough.upstream.http.proxies import Proxies, Proxy
from pullthrough.upstream.http.redaction import clean_text
from pullthrough.upstream.http.resolver import Resolver, SocketAddress
from pullthrough.upstream.http.tls import TlsContexts
from pullthrough.upstream.http.urls import Url

#: RFC 8305, section 5: the pause before the next address is tried beside those that have not answered yet.
NEXT_ADDRESS_SECONDS = 0.25

_POLL_SECONDS = 0.1
_MAX_PROXY_ANSWER_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class Dialled:
    """A connected socket, whoever takes it closes it."""

    sock: socket.socket
    #: Class of the address connected to; behind a proxy, of the name.
    address_class: AddressClass
    #: The proxy, where requests must carry the whole URL (plain HTTP through a proxy).
    forward_proxy: Proxy | None


class Dialer:
    """For one upstream. Any thread."""

    def __init__(
        self,
        upstream: str,
        *,
        proxies: Proxies,
        tls: TlsContexts,
        resolver: Resolver,
        connect_timeout_seconds: float,
        classify: Callable[[str], AddressClass],
        monotonic: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._proxies = proxies
        self._tls = tls
        self._resolver = resolver
        self._connect_seconds = connect_timeout_seconds
        self._classify = classify
        self._monotonic = monotonic

    def dial(self, url: Url, *, own: bool, admits: Admits, abort: AbortHandle) -> Dialled:
        """`own`: to the endpoint's own host. Raises UpstreamUnavailable where there is no connection to be had within the
        connect timeout, UpstreamRefused where there may be none (the address, the certificate)."""
        self.check_name(url)
        deadline = self._monotonic() + self._connect_seconds
        try:
            proxy = self._proxies.of(url)
        except ValueError as error:
            raise self._refused(
                f"the proxy for {url.authority} {error}", hint="Correct the setting `proxy`, or HTTPS_PROXY."
            ) from error
        if proxy is None:
            sock, address_class = self._connect(url, admits, deadline, abort)
        else:
            address_class = classify_name(url.host)
            self._check_class(url, (address_class,), admits)
            self.check_name(proxy.url)
            sock, _ = self._connect(proxy.url, anywhere_but_metadata, deadline, abort)
        try:
            abort.attach(sock, self._upstream)
            try:
                if url.scheme == "https":
                    if proxy is not None:
                        self._tunnel(sock, url, proxy, deadline)
                    sock = self._secure(sock, url, deadline, own=own, abort=abort)
            finally:
                abort.detach()
        except BaseException:
            sock.close()
            raise
        return Dialled(sock, address_class, proxy if url.scheme == "http" else None)

    def _connect(
        self, url: Url, admits: Admits, deadline: float, abort: AbortHandle
    ) -> tuple[socket.socket, AddressClass]:
        found = self._resolver.resolve(
            url.host,
            url.port,
            limit_seconds=max(0.0, deadline - self._monotonic()),
            abort=abort,
            upstream=self._upstream,
        )
        classes = {address: self._classify(address.host) for address in found}
        self._check_class(url, classes.values(), admits)
        admitted = [address for address in found if admits(classes[address])]
        sock, address = self._race(url, admitted, deadline, abort)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock, classes[address]

    def _race(
        self, url: Url, addresses: list[SocketAddress], deadline: float, abort: AbortHandle
    ) -> tuple[socket.socket, SocketAddress]:
        """The first address that answers; the next is tried beside the ones that are silent (RFC 8305)."""
        waiting, trying = deque(addresses), dict[socket.socket, SocketAddress]()
        reason, next_at = "", self._monotonic()
        selector = selectors.DefaultSelector()
        try:
            while waiting or trying:
                abort.check(self._upstream)
                now = self._monotonic()
                if now >= deadline:
                    reason = f"no answer within {self._connect_seconds:g} s"
                    break
                if waiting and (not trying or now >= next_at):
                    address = waiting.popleft()
                    next_at = now + NEXT_ADDRESS_SECONDS
                    try:
                        sock = socket.socket(address.family, socket.SOCK_STREAM)
                    except OSError as error:  # this machine has no IPv6 at all
                        reason = error.strerror or str(error)
                        continue
                    sock.setblocking(False)
                    trying[sock] = address
                    code = sock.connect_ex(address.address)
                    if code not in (0, EINPROGRESS):
                        reason = strerror(code)
                        trying.pop(sock)
                        sock.close()
                        continue
                    selector.register(sock, selectors.EVENT_WRITE)
                for key, _ in selector.select(min(_POLL_SECONDS, deadline - now)):
                    assert isinstance(key.fileobj, socket.socket)
                    sock = key.fileobj
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    address = trying.pop(sock)
                    selector.unregister(sock)
                    if code == 0:
                        return sock, address
                    reason = strerror(code)
                    sock.close()
        finally:
            selector.close()
            for sock in trying:
                sock.close()
        raise UpstreamUnavailable(
            f"{url.host_port} cannot be connected to: {reason[:1].lower() + reason[1:]}",
            upstream=self._upstream,
            hint="Check that the address is right and that this machine may reach it.",
        )

    def _tunnel(self, sock: socket.socket, url: Url, proxy: Proxy, deadline: float) -> None:
        """CONNECT, RFC 9110 section 9.3.6."""
        lines = [f"CONNECT {url.host_port} HTTP/1.1", f"Host: {url.host_port}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        answer = bytearray()
        try:
            sock.settimeout(max(0.001, deadline - self._monotonic()))
            sock.sendall("\r\n".join((*lines, "", "")).encode())
            while not answer.endswith(b"\r\n\r\n") and len(answer) < _MAX_PROXY_ANSWER_BYTES:
                # By single bytes: what follows the blank line belongs to TLS.
                sock.settimeout(max(0.001, deadline - self._monotonic()))
                byte = sock.recv(1)
                if not byte:
                    break
                answer += byte
        except OSError as error:
            raise UpstreamUnavailable(
                f"the proxy {proxy.url.authority} gave no connection to {url.host_port}: {_reason(error)}",
                upstream=self._upstream,
            ) from error
        status = answer.partition(b"\r\n")[0].decode("latin-1")
        if not status.startswith(("HTTP/1.1 2", "HTTP/1.0 2")):
            raise UpstreamUnavailable(
                f"the proxy {proxy.url.authority} gave no connection to {url.host_port}: "
                f"{clean_text(status, limit=100) or 'it closed the connection'}",
                upstream=self._upstream,
                hint="The proxy wants a user and password: http://user:password@host:port." if " 407" in status else "",
            )

    def _secure(
        self, sock: socket.socket, url: Url, deadline: float, *, own: bool, abort: AbortHandle
    ) -> ssl.SSLSocket:
        try:
            context = self._tls.context(own=own)
        except OSError as error:
            raise self._refused(
                f"the certificate files for {self._upstream} cannot be used: {_reason(error)}",
                hint="Check ca_file, client_cert and client_key.",
            ) from error
        sock.settimeout(max(0.001, deadline - self._monotonic()))
        secured: ssl.SSLSocket | None = None
        try:
            secured = context.wrap_socket(sock, server_hostname=url.host, do_handshake_on_connect=False)
            abort.attach(secured, self._upstream)
            secured.do_handshake()
        except BaseException as error:
            if secured is not None:
                secured.close()
            abort.check(self._upstream)
            if isinstance(error, ssl.SSLCertVerificationError):
                raise self._refused(
                    f"the certificate of {url.authority} is not trusted: {error.verify_message or _reason(error)}",
                    hint="If it is signed by a CA of your own, name that in ca_file.",
                ) from error
            if isinstance(error, (TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
                raise self._unavailable(url, error) from error
            if isinstance(error, ssl.SSLError):
                plain = error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
                raise self._refused(
                    f"{url.authority} and this machine agree on no TLS: {_reason(error)}",
                    hint="It seems to speak plain HTTP: name it as http:// in `endpoint`." if plain else "",
                ) from error
            if isinstance(error, OSError):
                raise self._unavailable(url, error) from error
            raise
        return secured

    # -- what may not be

    def check_name(self, url: Url) -> None:
        """Raises UpstreamRefused where the name alone says that nothing may lead there."""
        if classify_name(url.host) is AddressClass.METADATA:
            self._refuse_class(url, AddressClass.METADATA, anywhere_but_metadata)

    def _check_class(self, url: Url, classes: Collection[AddressClass], admits: Admits) -> None:
        refused = [address_class for address_class in classes if not admits(address_class)]
        if len(refused) == len(classes):
            self._refuse_class(url, refused[0], admits)

    def _refuse_class(self, url: Url, address_class: AddressClass, admits: Admits) -> None:
        # Not the address itself: whoever points us around could otherwise read our name service through our messages.
        hint = ""
        if address_class is AddressClass.METADATA:
            reason = "cloud metadata addresses are never connected to"
        elif admits is public_only:
            reason = (
                f"it has a {address_class.value} address, and the settings do not name {self._upstream}: rules made "
                "through the API lead to public addresses only"
            )
            hint = f'If it is right, name it in pullthrough.toml: [upstreams."{self._upstream}"].'
        else:
            reason = f"it has a {address_class.value} address, and the endpoint has none of that kind"
        which = "" if url.authority == self._upstream else f" leads to {url.authority}, which"
        raise self._refused(f"{self._upstream}{which} is refused: {reason}", hint=hint)

    def _refused(self, message: str, *, hint: str = "") -> UpstreamRefused:
        return UpstreamRefused(message, upstream=self._upstream, hint=hint)

    def _unavailable(self, url: Url, error: OSError) -> UpstreamUnavailable:
        return UpstreamUnavailable(f"{url.authority} gave no TLS connection: {_reason(error)}", upstream=self._upstream)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return (error.strerror or str(error) or type(error).__name__).lower()
