"""HTTP on one connection: aiohttp's, within limits for what has not said who it is.

    bytes -> the fast path, or one request at a time to aiohttp's parser -> task, handler, answer

aiohttp limits each line of a head; here all of them together are limited, and the time that they may take. It parses up
to 32 requests ahead; here the next one waits, unread, until the one before is answered. It inflates what is compressed;
here nothing is.
"""

from __future__ import annotations

import asyncio
import logging
import socket

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo

from pullthrough.faces.face import FastAnswer, Handler
from pullthrough.faces.http.admission import Place
from pullthrough.faces.http.framing import MAX_HEAD_BYTES, ChunkedBody, CountedBody, Head
from pullthrough.oci.codes import ErrorCode, error_body

_log = logging.getLogger(__name__)

#: Request line and single header fields; a digest, a long name and a bearer token fit many times over.
_MAX_LINE_BYTES = 16 * 1024
_MAX_HEADERS = 100
#: From a connection's begin, or a head's first byte, to the head's end.
_HEAD_SECONDS = 30.0
#: An idle connection is kept for this long.
_KEEPALIVE_SECONDS = 75.0
#: The rest of a body that was refused is read on for so long: a client that is still sending would else see only that its
#: connection is reset, and not why.
_LINGERING_SECONDS = 10.0

_NO_BODY = CountedBody(0)
#: The parser knows others, such as that of a request line that names none.
_VERSIONS = ((1, 0), (1, 1))

#: include/net/tcp_states.h
_TCP_CLOSE = 7


def _is_reset(connection: socket.socket) -> bool:
    try:
        # The first byte of struct tcp_info: tcp(7).
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:
        return False  # a unix socket


class _Refused(HttpProcessingError):
    """By us, in words that may be told."""


class HttpProtocol(web.RequestHandler):
    """Belongs to one connection; `place` is told what it does. `fast` is None where there is no fast path."""

    __slots__ = (
        "_body",
        "_client",
        "_deadline",
        "_fast",
        "_framing",
        "_head",
        "_held",
        "_is_answering",
        "_is_halted",
        "_is_last",
        "_place",
    )

    def __init__(self, server: web.Server, place: Place, fast: FastAnswer | None, client: str) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for none
            auto_decompress=False,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            lingering_time=_LINGERING_SECONDS,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
            max_line_size=_MAX_LINE_BYTES,
        )
        self._place = place
        self._fast = fast
        self._client = client
        #: What has come and is not handed to the parser yet.
        self._held = b""
        self._head = Head()
        #: The body that the parser is in, at its end where it is in none; and what of it has been handed to the parser.
        self._body = EMPTY_PAYLOAD
        self._framing: CountedBody | ChunkedBody = _NO_BODY
        #: From the end of a request's head to the end of its answer.
        self._is_answering = False
        #: No other request is taken.
        self._is_last = False
        #: Nothing is read from the socket before what is held is handed on.
        self._is_halted = False
        self._deadline: asyncio.TimerHandle | None = None

    # --- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        # Paused from the first byte that the socket does not take: answers that wait are no reason to make others, and a
        # request is over when its answer has left this process.
        self.transport.set_write_buffer_limits(high=1, low=0)
        self._place.close = self.transport.abort
        self._deadline = self._loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._held = b""
        self._stop_deadline()
        self._place.leave()

    def notice_reset(self) -> None:
        """Close the connection where the other side has reset it, which uvloop may not have told."""
        if self.transport is not None and _is_reset(self.transport.get_extra_info("socket")):
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._is_answering:
            self._place.rest()  # the fast path's answer is out

    # --- requests ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not data:
            # aiohttp asks its parser to go on with what that has.
            self._parse(data)
        else:
            # Between two requests, and nothing else is under way: `_waiter` is pending exactly while aiohttp waits for one.
            waiter = self._waiter
            if (
                self._fast is not None
                and waiter is not None
                and not self._held
                and not self._head.size_bytes
                and not self._paused
                and not waiter.done()
                and (answer := self._fast(bytes(data), self._client)) is not None
            ):
                self._send_fast(answer)
                return
            self._held += data
        self._hand_on()

    def _send_fast(self, answer: bytes) -> None:
        if self.transport is None:
            return
        if self._deadline is not None:
            self._stop_deadline()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self.transport.write(answer)
        if self._paused:
            self._place.work()
        else:
            self._place.rest()

    def _hand_on(self) -> None:
        """What is held, up to the end of the request that is under way; the rest waits until it is answered."""
        while self._held and not self._reading_paused:
            if self._close or self._force_close:
                self._held = b""
            elif not self._body.is_eof():
                if self._framing.is_over:
                    break  # the parser was halted at its last byte
                self._parse_body()
            elif self._is_last:
                self._held = b""
            elif not self._is_answering:
                self._parse_head()
            elif len(self._held) <= MAX_HEAD_BYTES:
                break
            else:
                self.close()  # after the answer: what came without waiting for it was too much to be kept
        if self._held:
            self._is_halted = True
            self._pause_transport_reading()
        elif self._is_halted:
            self._is_halted = False
            if not self._reading_paused and not self._buffer_paused:
                self._resume_transport_reading()

    def _take(self, count: int) -> bytes:
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def _parse_head(self) -> None:
        piece = self._take(self._head.take(self._held))
        if self._head.is_too_large:
            self._refuse(431, f"the request's line and headers have more than {MAX_HEAD_BYTES:,} bytes")
            return
        self._parse(piece)
        if self._head.size_bytes and self._deadline is None:
            self._deadline = self._loop.call_later(_HEAD_SECONDS, self._head_is_late)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout  # it is not idle any more

    def _parse_body(self) -> None:
        piece = self._take(self._framing.take(self._held))
        if self._framing.is_too_large:
            self._break_body_off()
            return
        self._parse(piece)
        if self._framing.is_over and self._framing.has_trailers:
            # aiohttp's parser takes them for headers of the next request, which behind a proxy may be another client's.
            self._is_last, self._held = True, b""
            self.close()

    def _parse(self, piece: bytes) -> None:
        """By aiohttp's parser, which has a message for us where a head is at its end, or something is wrong."""
        count = self._request_count
        super().data_received(piece)
        if self._request_count != count:
            self._head.begin()
            message, payload = self._messages[-1]
            if isinstance(message, _ErrInfo) and not self._body.is_eof():
                self._messages.pop()
                self._break_body_off()
                return
            if isinstance(message, _ErrInfo):
                self._is_last = True
            elif message.version not in _VERSIONS:
                self._messages.pop()
                self._refuse(505, "HTTP/1.1 is spoken here, and 1.0")
                return
            elif "Transfer-Encoding" in message.headers and not (message.chunked and message.version == (1, 1)):
                # One that is empty, which the parser passes over, or of HTTP/1.0, which has none: somebody before us may
                # have seen the body end elsewhere.
                self._messages.pop()
                self._refuse(400, "the Transfer-Encoding is not the chunked one of HTTP/1.1")
                return
            else:
                self._body = payload
                if payload is EMPTY_PAYLOAD:
                    self._framing = _NO_BODY
                elif message.chunked:
                    self._framing = ChunkedBody()
                else:
                    self._framing = CountedBody(int(message.headers.get("Content-Length", "0")))
                self._is_last = message.should_close
            self._begin_answer()
        if self._upgraded:
            # There is nothing to upgrade to. The parser takes what follows for another protocol's.
            self._is_last = True
            self.close()

    def _break_body_off(self) -> None:
        """What came is no body: its request, where nobody has looked at it yet, is answered with that; else whoever reads
        the body is told, and the connection ends with the answer."""
        text = "the body is not as its headers say"
        if self._is_answering:
            self._body.set_exception(web.RequestPayloadError(text))
        self._body.feed_eof()
        if self._messages:
            self._messages.pop()
            self._refuse(400, text)
        else:
            self._is_last, self._held = True, b""
            self.close()

    def _begin_answer(self) -> None:
        self._is_answering = True
        self._stop_deadline()
        self._place.work()

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Handler
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super()._handle_request(request, start_time, request_handler)
        finally:
            self._is_answering = bool(self._messages)
            if not self._is_answering:
                self._place.rest()
                if self._held:
                    self._loop.call_soon(self._hand_on)

    def _resume_transport_reading(self) -> None:
        if not self._is_halted:
            super()._resume_transport_reading()

    # --- what is no request ------------------------------------------------------------------------------------------

    def _head_is_late(self) -> None:
        self._deadline = None
        if self._head.size_bytes:
            self._refuse(408, f"the request's line and headers were not complete within {_HEAD_SECONDS:.0f} s")
        else:
            self._place.close()

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, text: str) -> None:
        """Answer what nobody waits for the rest of."""
        self._is_last, self._held = True, b""
        self._request_count += 1
        self._messages.append((_ErrInfo(status, _Refused(code=status), text), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._begin_answer()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had already begun")
        if isinstance(exc, _Refused) and message is not None:
            text = message
        elif status >= 500:
            _log.error("a request from %s failed", request.remote, exc_info=exc)
            text = "the cache failed; its log says why"
        else:
            text = "the request is not valid HTTP, or its line or headers are too long"
        response = web.Response(
            status=status, body=error_body(ErrorCode.UNSUPPORTED, text), content_type="application/json"
        )
        response.force_close()
        return response
