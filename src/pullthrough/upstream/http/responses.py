"""An answer and its body: bounded in size and time, its framing unambiguous, its connection kept only after the last byte."""

from __future__ import annotations

import http.client
import io
import re

from pullthrough.errors import UpstreamInvalid, UpstreamUnavailable
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass
from pullthrough.upstream.http.connections import Connections, HttpConnection
from pullthrough.upstream.http.observer import UpstreamObserver
from pullthrough.upstream.http.urls import Url

#: What is read of a body that nobody wants, so that its connection can be kept.
MAX_DISCARDED_BYTES = 64 * 1024
DISCARD_SECONDS = 5.0
#: A whole small body (a manifest, a token, a page of tags) must arrive within this time.
SMALL_BODY_SECONDS = 60.0

#: What a header may hold, for us to send it or to believe it.
HEADER_VALUE = re.compile(r"[\x20-\x7e]*", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n", re.ASCII | re.DOTALL)
_MAX_CHUNK_LINE_BYTES = 4 * 1024
_MAX_TRAILER_LINES = 100
_READ_BYTES = 64 * 1024
_REPORT_BYTES = 1024 * 1024


class Response:
    """An answer. Its body is read once, by one thread; `close` may come at any point and any number of times."""

    def __init__(
        self,
        upstream: str,
        method: str,
        url: Url,
        parsed: http.client.HTTPResponse,
        connection: HttpConnection,
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
        self._connection: HttpConnection | None = connection
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
        return value if isinstance(value, str) and HEADER_VALUE.fullmatch(value) else ""

    def headers_of(self, name: str) -> list[str]:
        return [value for value in self.headers.get_all(name, []) if HEADER_VALUE.fullmatch(value)]

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
                reason = "it stalled" if isinstance(error, TimeoutError) else reason_of(error)
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


def reason_of(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
