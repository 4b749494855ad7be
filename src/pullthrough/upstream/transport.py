"""One HTTP/1.1 request and its answer, blocking, over http.client's parser.

Answers come from machines that may lie: heads and bodies have limits of size and time, framing must be unambiguous, and
a connection is used again only after a body that was read to its end.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
from collections.abc import Mapping
from typing import cast

from pullthrough.errors import UpstreamInvalid, UpstreamRefused, UpstreamUnavailable
from pullthrough.upstream.abort import AbortHandle
from pullthrough.upstream.addresses import AddressClass
from pullthrough.upstream.connections import Admits, Connection, Connections
from pullthrough.upstream.observer import UpstreamObserver
from pullthrough.upstream.urls import Url
from pullthrough.version import __version__

MAX_HEAD_BYTES = 64 * 1024
#: What is read of a body that nobody wants, so that its connection can be kept.
MAX_DISCARDED_BYTES = 64 * 1024
DISCARD_SECONDS = 5.0
#: A whole small body (a manifest, a token, a page of tags) must arrive within this time.
SMALL_BODY_SECONDS = 60.0

_USER_AGENT = f"pullthrough/{__version__}"
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n", re.ASCII | re.DOTALL)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*", re.ASCII)
_MAX_CHUNK_LINE_BYTES = 4 * 1024
_MAX_TRAILER_LINES = 100
_READ_BYTES = 64 * 1024
_REPORT_BYTES = 1024 * 1024


class Hung(UpstreamUnavailable):
    """The time for the first byte ran out; another try would take as long again."""


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
        connection: Connection,
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
                raise Hung(
                    f"{url.authority} did not answer within {first_byte_seconds:g} s", upstream=self.upstream
                ) from error
            if isinstance(error, OSError):  # RemoteDisconnected is one, too
                if connection.used and not head.begun:
                    raise _Stale from error
                raise UpstreamUnavailable(
                    f"{url.authority} broke the connection: {_reason(error)}", upstream=self.upstream
                ) from error
            if isinstance(error, (http.client.HTTPException, ValueError)):
                raise UpstreamInvalid(
                    f"{url.authority} did not answer in valid HTTP",
                    upstream=self.upstream,
                    hint="Check that the address is that of a registry.",
                ) from error
            raise


class Response:
    """An answer. Its body is read once, by one thread; `close` may come at any point and any number of times."""

    def __init__(
        self,
        upstream: str,
        method: str,
        url: Url,
        parsed: http.client.HTTPResponse,
        connection: Connection,
        connections: Connections,
        abort: AbortHandle,
        observe: UpstreamObserver,
    ) -> None:
        self.upstream = upstream
        self.method = method
        self.url = url
        self.status = parsed.status
        self.headers = parsed.headers
        self.address_class: AddressClass = connection.address_class
        #: What the request carried, so that no message repeats it.
        self.sent_authorization = ""
        self._connection: Connection | None = connection
        self._connections = connections
        self._abort = abort
        self._observe = observe
        self._unreported = 0
        self._chunked = False
        self._chunk_left = 0
        #: Bytes of the body still to come; None where only the end of the connection tells.
        self._left: int | None = None
        self._ended = False
        self._frame(parsed)

    # -- headers

    def header(self, name: str) -> str:
        """The first such header, without control characters; empty where there is none or it has any."""
        value = self.headers.get(name)
        return value if isinstance(value, str) and _HEADER_VALUE.fullmatch(value) else ""

    def headers_of(self, name: str) -> list[str]:
        return [value for value in self.headers.get_all(name, []) if _HEADER_VALUE.fullmatch(value)]

    @property
    def media_type(self) -> str:
        return self.header("Content-Type").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        """What the header says, for HEAD too."""
        values = {part.strip() for value in self.headers.get_all("Content-Length", []) for part in value.split(",")}
        if not values:
            return None
        text = values.pop()
        if values or _LENGTH.fullmatch(text) is None:
            raise ValueError("Content-Length is ambiguous")
        return int(text)

    # -- body

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of `buffer` with what is there, waiting only for the first byte of it; 0 at the end.

        Raises UpstreamUnavailable where the body is cut, stalls or is aborted, UpstreamInvalid where its chunks are
        none. After an error the connection is gone.
        """
        if self._ended:
            return 0
        connection = self._connection
        if connection is None:
            raise UpstreamUnavailable(f"the answer of {self.url.authority} was closed", upstream=self.upstream)
        try:
            if self._chunked:
                got = self._read_chunk(connection.reader, buffer)
            else:
                wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
                got = connection.reader.readinto1(buffer[:wanted])
                if not got and (self._left is not None or self._abort.aborted):
                    raise ConnectionError("it ended early")
                if self._left is not None:
                    self._left -= got
        except BaseException as error:
            self.close()
            self._abort.check(self.upstream)
            if isinstance(error, OSError):
                reason = "it stalled" if isinstance(error, TimeoutError) else _reason(error)
                raise UpstreamUnavailable(
                    f"the body from {self.url.authority} was cut off: {reason}", upstream=self.upstream
                ) from error
            raise
        self._ended = got == 0 or self._left == 0
        self._unreported += got
        if self._unreported >= _REPORT_BYTES or self._ended:
            self._report()
        return got

    def read(self, limit: int, what: str, *, total_seconds: float = SMALL_BODY_SECONDS) -> bytes:
        """The whole body. `what` names it in errors. Raises UpstreamInvalid past `limit` bytes, and closes."""
        try:
            if (self._left or 0) > limit:
                raise self._too_large(limit, what)
            if self._connection is not None:
                self._connection.wire.end_within(total_seconds)
            body, buffer = bytearray(), memoryview(bytearray(_READ_BYTES))
            while got := self.readinto(buffer):
                body += buffer[:got]
                if len(body) > limit:
                    raise self._too_large(limit, what)
        except BaseException:
            self.close()
            raise
        self.finish()
        return bytes(body)

    def discard(self) -> None:
        """Nobody wants the body; read it if it is short, to keep the connection. Raises only Aborted."""
        try:
            self.read(MAX_DISCARDED_BYTES, "an unwanted body", total_seconds=DISCARD_SECONDS)
        except (UpstreamUnavailable, UpstreamInvalid):
            self._abort.check(self.upstream)

    def finish(self) -> None:
        """Keep the connection if the body was read to its end, close it otherwise."""
        if self._ended and self._keep_alive and self._connection is not None:
            connection, self._connection = self._connection, None
            self._abort.detach()
            self._report()
            if self._abort.aborted:  # it was shut down in this very moment
                connection.close()
            else:
                self._connections.keep(connection)
        else:
            self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._abort.detach()
            connection.close()
            self._report()

    # -- framing, RFC 9112 section 6

    def _frame(self, parsed: http.client.HTTPResponse) -> None:
        """Raises ValueError where two readers could see two bodies."""
        self._keep_alive = not parsed.will_close
        encodings = [value.strip().lower() for value in self.headers.get_all("Transfer-Encoding", [])]
        length = self.content_length
        if self.method == "HEAD" or self.status in (204, 304):
            # will_close guesses from the length that is not there.
            self._keep_alive = "close" not in (self.headers.get("Connection") or "").lower() and parsed.version == 11
            self._left, self._ended = 0, True
        elif encodings:
            if encodings != ["chunked"]:
                raise ValueError("unknown Transfer-Encoding")
            self._chunked = True
            self._keep_alive = self._keep_alive and length is None
        elif length is not None:
            self._left, self._ended = length, length == 0
        else:
            self._keep_alive = False

    def _read_chunk(self, reader: io.BufferedReader, buffer: memoryview) -> int:
        if self._chunk_left == 0:
            line = reader.readline(_MAX_CHUNK_LINE_BYTES)
            if not line:
                raise ConnectionError("it ended early")
            match = _CHUNK.fullmatch(line)
            if match is None:
                raise self._invalid("sent a chunked body whose chunks are none")
            self._chunk_left = int(match[1], 16)
            if self._chunk_left == 0:
                self._read_trailer(reader)
                return 0
        got = reader.readinto1(buffer[: min(len(buffer), self._chunk_left)])
        if not got:
            raise ConnectionError("it ended early")
        self._chunk_left -= got
        if self._chunk_left == 0 and reader.readline(2) not in (b"\r\n", b"\n"):
            raise self._invalid("sent a chunked body whose chunks are none")
        return got

    def _read_trailer(self, reader: io.BufferedReader) -> None:
        for _ in range(_MAX_TRAILER_LINES):
            line = reader.readline(_MAX_CHUNK_LINE_BYTES)
            if not line:
                raise ConnectionError("it ended early")
            if line in (b"\r\n", b"\n"):
                return
        raise self._invalid("sent a trailer without end")

    def _too_large(self, limit: int, what: str) -> UpstreamInvalid:
        return self._invalid(f"sent more than {limit:,} bytes for {what}")

    def _invalid(self, what: str) -> UpstreamInvalid:
        return UpstreamInvalid(f"{self.url.authority} {what}", upstream=self.upstream, status=self.status)

    def _report(self) -> None:
        if self._unreported:
            self._observe.on_bytes(self.upstream, self._unreported)
            self._unreported = 0


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


def _request(connection: Connection, method: str, url: Url, headers: Mapping[str, str]) -> bytes:
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
        if _HEADER_VALUE.fullmatch(value) is None:
            raise AssertionError(f"the request header {name} holds what no header may hold")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
