"""The HTTP servers of a worker: listening sockets in, answers of faces out."""

from __future__ import annotations

import asyncio
import socket
import ssl

from aiohttp import web

from pullthrough.faces.face import Faces
from pullthrough.faces.http.acceptor import Acceptor, Notices
from pullthrough.faces.http.admission import Admission, Place
from pullthrough.faces.http.protocol import HttpProtocol

#: Between two looks at all connections for those that were reset.
_LOOK_SECONDS = 10.0
#: Looked at between two turns of the event loop, at a microsecond each.
_LOOKED_AT_ONCE = 500


class HttpServer:
    """Serves `faces` on the sockets it is given; `cleanup` lets answers in flight finish.

    `admission` and `notices` are shared by all runners whose connections count together.
    """

    def __init__(
        self,
        faces: Faces,
        admission: Admission,
        notices: Notices,
        *,
        shutdown_timeout_seconds: float,
    ) -> None:
        self._server = web.Server(faces.handle, handler_cancellation=True)
        self._admission = admission
        self._notices = notices
        self._fast = faces.at_once
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._acceptors: list[Acceptor] = []
        self._looking = asyncio.get_running_loop().create_task(self._look_for_resets())

    def listen(self, listening: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Takes the socket over, which is bound, listens and does not block."""
        acceptor = Acceptor(listening, self._make, self._admission, self._notices, tls=tls)
        acceptor.start()
        self._acceptors.append(acceptor)

    def _make(self, place: Place, client: str) -> HttpProtocol:
        return HttpProtocol(self._server, place, self._fast, client)

    async def _look_for_resets(self) -> None:
        """uvloop says that something came on a socket in error once, and stops watching it: where data and a reset came
        together, the data is read, and the reset is never heard of."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for number, connection in enumerate(self._server.connections, 1):
                assert isinstance(connection, HttpProtocol)
                connection.notice_reset()
                if number % _LOOKED_AT_ONCE == 0:
                    await asyncio.sleep(0)

    async def cleanup(self) -> None:
        self._looking.cancel()
        for acceptor in self._acceptors:
            await acceptor.stop()
        # Requests that have come are given to the handler before connections without one are closed.
        await asyncio.sleep(0)
        self._server.pre_shutdown()
        await self._server.shutdown(self._shutdown_timeout_seconds)
