"""A listening address that can go away and come back: the same port all the time, and nobody else gets it meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

#: A handler that does not end when cancelled would be a fault of the demo; then the stop goes on without it.
_STOP_SECONDS = 1.0


class Listener:
    """Serves `handler` on `address`, from `start` until `stop`, as often as wanted, in the loop that calls them.

    The port is chosen when the object is made. While stopped, connections are refused. `close` gives the port back.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._handler = handler
        self._tls = tls
        # Bound but never listening: it keeps the port ours, and refuses connections while we are stopped. Linux lets
        # a second socket listen on the port as long as both have SO_REUSEADDR and only one listens.
        self._reservation = _bound_socket(address, 0)
        self.address = address
        self.port: int = self._reservation.getsockname()[1]
        self._listening: socket.socket | None = None
        self._runner: web.ServerRunner | None = None
        self._server: _Server | None = None

    @property
    def host(self) -> str:
        """`address:port`, as in a URL."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def listening(self) -> bool:
        return self._runner is not None

    async def start(self) -> None:
        """Does nothing where it listens already."""
        if self._runner is not None:
            return
        # A client that goes away ends its handler, so that the records say how far it came.
        self._server = _Server(self._handler, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        self._listening = _bound_socket(self.address, self.port)
        site = web.SockSite(self._runner, self._listening, ssl_context=self._tls)
        await site.start()

    async def stop(self) -> None:
        """Refuse new connections and reset those there are, in the middle of whatever they do."""
        if self._runner is None or self._server is None or self._listening is None:
            return
        runner, self._runner = self._runner, None
        # First no more are accepted, and what was just accepted becomes a connection: the stock loop loses one, open, if
        # its server is closed in between (https://github.com/python/cpython/issues/109564).
        asyncio.get_running_loop().remove_reader(self._listening)
        await _turn_loop()
        for site in list(runner.sites):
            await site.stop()
        for transport in list(self._server.transports.values()):
            # On, for no seconds: the abort sends RST, as a machine that went away would (socket(7), SO_LINGER).
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        await _turn_loop()
        await runner.cleanup()

    async def close(self) -> None:
        """Stop for good."""
        await self.stop()
        self._reservation.close()


class _Server(web.Server):
    """Knows all its open connections, those too that aiohttp has done with and that still hold bytes for a client which
    does not read them."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler, **options)
        self.transports: dict[web.RequestHandler, asyncio.Transport] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.transports[handler] = transport

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.transports.pop(handler, None)


async def _turn_loop() -> None:
    """Let the loop finish what it has begun: a connection just accepted becomes visible, one just aborted ends.

    The stock loop needs three turns from accept() to the protocol's connection_made().
    """
    for _ in range(3):
        await asyncio.sleep(0)


def _bound_socket(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((address, port))
    return bound
