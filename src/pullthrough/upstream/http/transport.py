"""One HTTP/1.1 request and its answer, blocking, over http.client's parser.

Answers come from machines that may lie: heads and bodies have limits of size and time, framing must be unambiguous, and
a connection is used again only after a body that was read to its end.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Mapping
from typing import cast

from pullthrough.errors import UpstreamInvalid, UpstreamRefused, UpstreamUnavailable
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import Admits
from pullthrough.upstream.http.connections import Connections, HttpConnection
from pullthrough.upstream.http.observer import UpstreamObserver
from pullthrough.upstream.http.responses import HEADER_VALUE, Response, reason_of
from pullthrough.upstream.http.urls import Url
from pullthrough.version import __version__

MAX_HEAD_BYTES = 64 * 1024

_USER_AGENT = f"pullthrough/{__version__}"


class _Stale(Exception):
    """The server closed a kept connection before it had seen our request."""


class Transport:
    """Requests of one upstream. Thread-safe."""

    def __init__(
        self,
        upstream: str,
        connections: Connections,
        *,
        first_byte_timeout_seconds: float,
        stall_timeout_seconds: float,
        observe: UpstreamObserver,
    ) -> None:
        self.upstream = upstream
        self._connections = connections
        self._first_byte_seconds = first_byte_timeout_seconds
        self._stall_seconds = stall_timeout_seconds
        self._observe = observe

    def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        *,
        own: bool,
        admits: Admits,
        is_body: bool = False,
        abort: AbortHandle,
    ) -> Response:
        """The answer, its body unread. The caller must `finish`, `discard` or `close` it. `is_body`: it is a blob that is
        asked for, and its first byte may take as long as any pause in it.

        Raises UpstreamUnavailable (network), UpstreamRefused (address, certificate), UpstreamInvalid (not HTTP as it
        should be).
        """
        first_byte_seconds = self._first_byte_seconds
        if is_body:
            first_byte_seconds = max(first_byte_seconds, self._stall_seconds)
        while True:
            try:
                connection = self._connections.take(url, own=own, admits=admits, abort=abort)
                response = self._exchange(connection, method, url, headers, first_byte_seconds, abort)
            except _Stale:
                continue
            except UpstreamRefused:
                raise  # nothing was sent
            except BaseException:
                self._observe.on_request(self.upstream, method, None)
                raise
            self._observe.on_request(self.upstream, method, response.status)
            return response

    def _exchange(
        self,
        connection: HttpConnection,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        first_byte_seconds: float,
        abort: AbortHandle,
    ) -> Response:
        head = _Head(connection.reader)
        try:
            abort.attach(connection.sock, self.upstream)
            connection.wire.limit(stall_seconds=first_byte_seconds, total_seconds=first_byte_seconds)
            connection.wire.send(_request(connection, method, url, headers))
            # It only ever calls makefile() of what it takes for a socket.
            parsed = http.client.HTTPResponse(cast("socket.socket", head), method=method)
            parsed.begin()
            while 101 < parsed.status < 200:  # hints before the answer; http.client itself skips 100 only
                parsed = http.client.HTTPResponse(cast("socket.socket", head), method=method)
                parsed.begin()
            connection.wire.limit(stall_seconds=self._stall_seconds)
            return Response(self.upstream, method, url, parsed, connection, self._connections, abort, self._observe)
        except BaseException as error:
            abort.detach()
            connection.close()
            abort.check(self.upstream)
            if isinstance(error, TimeoutError):
                raise UpstreamUnavailable(
                    f"{url.authority} did not answer within {first_byte_seconds:g} s",
                    upstream=self.upstream,
                    is_silence=True,
                ) from error
            if isinstance(error, OSError):  # RemoteDisconnected is one, too
                if connection.used and not head.begun:
                    raise _Stale from error
                raise UpstreamUnavailable(
                    f"{url.authority} broke the connection: {reason_of(error)}", upstream=self.upstream
                ) from error
            if isinstance(error, (http.client.HTTPException, ValueError)):
                raise UpstreamInvalid(
                    f"{url.authority} did not answer in valid HTTP",
                    upstream=self.upstream,
                    hint="Check that the address is that of a registry.",
                ) from error
            raise


class _Head:
    """What http.client reads an answer's head from: bounded, and an end in the middle of it is an error."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader
        self._left = MAX_HEAD_BYTES
        self.begun = False

    def makefile(self, mode: str) -> _Head:
        return self

    def readline(self, limit: int) -> bytes:
        line = self._reader.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.HTTPException("the head is too large")
        if not line.endswith(b"\n") and (line or self.begun):
            raise ConnectionError("it ended in the headers")
        self.begun = self.begun or bool(line)
        return line

    def flush(self) -> None:
        pass

    def close(self) -> None:
        """http.client closes what it was given; the reader stays for the body."""


def _request(connection: HttpConnection, method: str, url: Url, headers: Mapping[str, str]) -> bytes:
    proxy = connection.forward_proxy
    sent = {
        "Host": url.authority,
        "User-Agent": _USER_AGENT,
        # A body must arrive as its digest was computed.
        "Accept-Encoding": "identity",
        **headers,
    }
    if proxy is not None and proxy.authorization:
        sent["Proxy-Authorization"] = proxy.authorization
    lines = [f"{method} {url.text if proxy is not None else url.target} HTTP/1.1"]
    for name, value in sent.items():
        if HEADER_VALUE.fullmatch(value) is None:
            raise AssertionError(f"the request header {name} holds what no header may hold")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("ascii")
