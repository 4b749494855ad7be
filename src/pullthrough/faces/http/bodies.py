"""Sending bodies at the client's pace, with flat memory: a blob's from a file that is whole or still growing, others from
memory.

Plain HTTP goes by sendfile in windows, each read into the page cache first where it is not there (in a thread: sendfile
would block the loop). TLS and bodies of unknown size go by a loop of bounded reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence

from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter

from pullthrough.engine.pull.blobs.content import Part
from pullthrough.faces.http.residency import is_resident, read_in
from pullthrough.storage.bodies import InFile
from pullthrough.threads import Runner

#: Sent between two turns of the event loop. Other requests wait for it: larger is no faster, and delays small answers.
WINDOW_BYTES = 1 * 1024 * 1024
#: One read on the way to a TLS connection, of which the plain bytes and the encrypted ones wait for a slow client. Smaller
#: ones cost time, larger ones memory.
CHUNK_BYTES = 240 * 1024
#: Of a body from memory, copied for a client that does not take it at once. Smaller bodies are sent whole.
SLICE_BYTES = 64 * 1024


def paced(*parts: bytes | memoryview) -> bytes | Payload:
    """What to give `web.Response` as its body, so that no more than a slice of it is copied for a slow client."""
    return b"".join(parts) if sum(map(len, parts)) <= SLICE_BYTES else _Slices(parts)


class _Slices(Payload):
    """The next one goes when the one before has left this process. aiohttp would give all of it to the transport."""

    _value: Sequence[bytes | memoryview]

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        super().__init__(parts)
        self._size = sum(map(len, parts))

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Raises ConnectionError where the client has gone."""
        for part in self._value:
            view = memoryview(part)
            for start in range(0, len(view), SLICE_BYTES):
                await writer.write(view[start : start + SLICE_BYTES])
                await writer.drain()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)


class _Descriptor:
    """What `loop.sendfile` wants of a file object."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


class BodySender:
    """Sends one body. `sent_bytes` counts what went out, whether or not the body was completed."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse, run: Runner) -> None:
        self._request = request
        self._response = response
        self._run = run
        self._loop = asyncio.get_running_loop()
        self.sent_bytes = 0

    async def send(self, pieces: AsyncIterable[Part | bytes]) -> None:
        """Send the pieces as they become available.

        Raises what ends them; ConnectionError when the client has gone.
        """
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        may_sendfile = not self._response.chunked and transport.get_extra_info("sslcontext") is None
        async for piece in pieces:
            if isinstance(piece, bytes):
                await self._send_bytes(piece)
            elif may_sendfile and isinstance(piece.body, InFile):
                await self._send_file(transport, piece, piece.body.fileno())
            else:
                await self._send_read(transport, piece)

    async def _send_bytes(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            part = memoryview(data)[start : start + SLICE_BYTES]
            await self._response.write(part)
            self.sent_bytes += len(part)

    async def _send_file(self, transport: asyncio.Transport, piece: Part, fd: int) -> None:
        for offset in range(piece.start, piece.stop, WINDOW_BYTES):
            count = min(piece.stop - offset, WINDOW_BYTES)
            if not is_resident(fd, offset, count):
                await self._run(read_in, fd, offset, count)
            if transport.is_closing():
                raise ConnectionResetError("the client has gone")
            sent = await self._loop.sendfile(transport, _Descriptor(fd), offset, count, fallback=False)  # type: ignore[arg-type]  # it needs fileno() only
            if sent is not None and sent < count:
                raise ConnectionResetError("the file ended early, or the client has gone")
            self.sent_bytes += count
            await self._give_way()

    async def _send_read(self, transport: asyncio.Transport, piece: Part) -> None:
        for offset in range(piece.start, piece.stop, CHUNK_BYTES):
            data = await piece.body.read(offset, min(piece.stop - offset, CHUNK_BYTES))
            if len(data) < min(piece.stop - offset, CHUNK_BYTES):
                raise ConnectionResetError("the body ended early")
            waits = False
            if self._response.chunked:
                await self._response.write(data)
            else:
                # Past the response object, which would keep the plain bytes while the encrypted ones wait.
                transport.write(data)
                waits = transport.get_write_buffer_size() > 0
                await self._request.writer.drain()
            self.sent_bytes += len(data)
            if not waits:
                await self._give_way()

    async def _give_way(self) -> None:
        """A client that reads as fast as we send never lets any of this wait, nor does one that has said it is leaving: the
        loop would see to nothing else until the body's end."""
        await asyncio.sleep(0)
