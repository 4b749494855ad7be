"""Sending bodies at the client's pace, with flat memory: a blob's from a file that is whole or still growing, others from
memory.

Plain HTTP goes by sendfile in windows, each read into the page cache first where it is not there (in a thread: sendfile
would block the loop). TLS and bodies of unknown size go by a loop of bounded reads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Executor

from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter

from pullthrough.distribution.residency import is_resident, read_in
from pullthrough.engine.blobs import Content

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


class Sender:
    """Sends one body. `sent_bytes` counts what went out, whether or not the body was completed."""

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, content: Content, threads: Executor
    ) -> None:
        self._request = request
        self._response = response
        self._content = content
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self.sent_bytes = 0

    async def send(self, start: int, stop: int | None) -> None:
        """Send the bytes from `start` up to `stop`, or to the end where that is None, as they become available.

        Raises what `Content.wait` raises; ConnectionError when the client has gone.
        """
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        framed = self._response.chunked
        by_sendfile = not framed and transport.get_extra_info("sslcontext") is None
        offset = start
        while stop is None or offset < stop:
            end = await self._content.wait(offset)
            if end <= offset:
                return
            end = end if stop is None else min(end, stop)
            while offset < end:
                waits = False
                if by_sendfile:
                    count = min(end - offset, WINDOW_BYTES)
                    await self._send_file(transport, offset, count)
                else:
                    count = min(end - offset, CHUNK_BYTES)
                    if framed:
                        await self._response.write(await self._read(offset, count))
                    else:
                        # Past the response object, which would keep the plain bytes while the encrypted ones wait.
                        transport.write(await self._read(offset, count))
                        waits = transport.get_write_buffer_size() > 0
                        await self._request.writer.drain()
                offset += count
                self.sent_bytes += count
                # A client that reads as fast as we send never lets any of this wait, nor does one that has said it is
                # leaving: the loop would see to nothing else until the body's end.
                if not waits:
                    await asyncio.sleep(0)

    async def _send_file(self, transport: asyncio.Transport, offset: int, count: int) -> None:
        fd = self._content.fileno()
        if not is_resident(fd, offset, count):
            await self._loop.run_in_executor(self._threads, read_in, fd, offset, count)
        if transport.is_closing():
            raise ConnectionResetError("the client has gone")
        sent = await self._loop.sendfile(transport, _Descriptor(fd), offset, count, fallback=False)  # type: ignore[arg-type]  # it needs fileno() only
        if sent is not None and sent < count:
            raise ConnectionResetError("the file ended early, or the client has gone")

    async def _read(self, offset: int, count: int) -> bytes:
        """The bytes without leaving the loop where they are in memory; else from a thread."""
        fd = self._content.fileno()
        buffer = bytearray(count)
        try:
            got = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:
            got = 0
        if got < count:
            got = await self._loop.run_in_executor(self._threads, _read_fully, fd, buffer, offset)
            if got < count:
                raise ConnectionResetError("the file ended early")
        return buffer  # type: ignore[return-value]  # as good as bytes to the transport; made for this one write


def _read_fully(fd: int, buffer: bytearray, offset: int) -> int:
    view, filled = memoryview(buffer), 0
    while filled < len(buffer) and (count := os.preadv(fd, [view[filled:]], offset + filled)):
        filled += count
    return filled
