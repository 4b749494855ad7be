"""One HTTP server of a worker: aiohttp's low-level one, with errors in the form that registry clients read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pullthrough.oci.codes import ErrorCode, error_body

_log = logging.getLogger(__name__)

#: Request line and single header fields; a digest, a long name and a bearer token fit many times over.
_MAX_LINE_BYTES = 16 * 1024
_MAX_HEADERS = 100
#: An idle connection is kept for this long.
_KEEPALIVE_SECONDS = 75.0
#: The rest of a body that was refused is read on for so long: a client that is still sending would else see only that its
#: connection is reset, and not why.
_LINGERING_SECONDS = 10.0
#: That connections are refused is said so often at most.
_REFUSED_LOG_SECONDS = 60.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


#: From the bytes of a request and the client's address to the whole answer, or None for the ordinary path.
FastAnswer = Callable[[bytes, str], bytes | None]


class _Protocol(web.RequestHandler):
    """Offers plain requests to the fast path, and answers what is not HTTP, or too large, in the specification's JSON."""

    def __init__(self, fast: FastAnswer | None, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fast = fast
        self._client = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if isinstance(peer, tuple) else ""

    def data_received(self, data: bytes) -> None:
        # Only between two requests: `_waiter` is pending exactly while aiohttp waits for the next one.
        if self._fast is not None:
            waiter = self._waiter
            if waiter is not None and not waiter.done() and not self._paused and self.transport is not None:
                answer = self._fast(bytes(data), self._client)
                if answer is not None:
                    self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                    self.transport.write(answer)
                    return
            if not (data.startswith((b"GET ", b"HEAD ")) and data.endswith(b"\r\n\r\n")):
                # Part of a request, or one with a body: from here on only aiohttp knows where the next one begins.
                self._fast = None
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had already begun")
        if status >= 500:
            _log.error("a request from %s failed", request.remote, exc_info=exc)
            text = "the cache failed; its log says why"
        else:
            text = "the request is not valid HTTP, or its line or headers are too long"
        response = web.Response(
            status=status, body=error_body(ErrorCode.UNSUPPORTED, text), content_type="application/json"
        )
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(self, handler: Handler, fast: FastAnswer | None, max_connections: int | None, **options: Any) -> None:
        super().__init__(handler, **options)
        self._fast = fast
        self._max_connections = max_connections
        self._quiet_until = 0.0

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._max_connections is None or len(self._connections) <= self._max_connections:
            return
        transport.abort()
        if self._loop.time() >= self._quiet_until:
            self._quiet_until = self._loop.time() + _REFUSED_LOG_SECONDS
            _log.warning(
                "%d connections are open: further ones are closed at once, so that files can still be opened; "
                "more need a higher limit of open files (LimitNOFILE, ulimit -n)",
                self._max_connections,
            )

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self._fast, self, loop=self._loop, **self._kwargs)


class Runner(web.ServerRunner):
    """Serves `handler` on the sites it is given; `cleanup` lets answers in flight finish.

    `max_connections`: more are closed as they come. An accept that finds no file descriptor is tried again and again,
    and each try is logged.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        shutdown_timeout_seconds: float,
        fast: FastAnswer | None = None,
        max_connections: int | None = None,
    ) -> None:
        super().__init__(
            _Server(
                handler,
                fast,
                max_connections,
                loop=asyncio.get_running_loop(),
                handler_cancellation=True,
                access_log=None,
                keepalive_timeout=_KEEPALIVE_SECONDS,
                max_line_size=_MAX_LINE_BYTES,
                max_field_size=_MAX_LINE_BYTES,
                max_headers=_MAX_HEADERS,
                lingering_time=_LINGERING_SECONDS,
            ),
            shutdown_timeout=shutdown_timeout_seconds,
        )
