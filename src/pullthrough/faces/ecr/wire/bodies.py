"""Reading the bodies of requests, as far as their operations and this worker's memory allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.room import BodyOwner, Room

#: What needs no room: a connection may have as much in its buffers without a body.
SMALL_BYTES = 64 * 1024
#: For larger bodies that come in, or have and are not parsed yet: nine of the largest ones, two of them from one key at
#: one client.
MAX_HELD_BYTES = 256 * 1024 * 1024
#: How long a larger body waits for room before it is asked for. SDKs give up after a minute.
_PATIENCE_SECONDS = 45.0
#: A body has so long to begin, and then comes at this rate at least: who holds room pays for it.
_GRACE_SECONDS = 20.0
_BYTES_PER_SECOND = 64 * 1024
_ENCODINGS = ("", "identity")


class RequestBodies:
    """Reads the bodies of one worker's requests. Belongs to its event loop."""

    def __init__(
        self,
        max_held_bytes: int = MAX_HELD_BYTES,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self._room = Room(max_held_bytes)
        self._patience_seconds = patience_seconds
        self._grace_seconds = grace_seconds

    @staticmethod
    def read_now(request: web.BaseRequest, limit: int) -> bytes | None:
        """A small body that is here as a whole; None for any other, which `read` is for."""
        content, size = request.content, request.content_length
        if size is None or size > min(limit, SMALL_BYTES) or "Content-Encoding" in request.headers:
            return None
        is_whole = content.is_eof() and content.exception() is None and content.total_bytes == size
        return content.read_nowait() if is_whole else None

    @asynccontextmanager
    async def read(self, request: web.BaseRequest, limit: int, sender: BodyOwner) -> AsyncIterator[bytes]:
        """The body, which counts as held until the block ends. To be called once the sender's key is known.

        Raises ApiError where it is larger than `limit`, compressed, broken, comes too slowly, or there is no room for it.
        """
        if any(text.strip().lower() not in _ENCODINGS for text in _encodings(request)):
            raise ApiError("UnsupportedMediaTypeException", "Send the body without a Content-Encoding")
        size = limit if request.content_length is None else request.content_length
        if size > limit:
            raise _too_large(limit)
        async with AsyncExitStack() as stack:
            if size > SMALL_BYTES:
                try:
                    room = self._room.take(sender, size, patience_seconds=self._patience_seconds)
                    await stack.enter_async_context(room)
                except TimeoutError:
                    raise ApiError(
                        "ThrottlingException", "Too many large requests arrive at once; try again in a moment", 429
                    ) from None
            yield await self._receive(request, limit)

    async def _receive(self, request: web.BaseRequest, limit: int) -> bytes:
        if waits(request):
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # no part of the answer
        body = bytearray()
        began_at = asyncio.get_running_loop().time()
        try:
            while True:
                async with asyncio.timeout_at(began_at + self._grace_seconds + len(body) / _BYTES_PER_SECOND):
                    chunk = await request.content.readany()
                if not chunk:
                    return bytes(body)
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
        except TimeoutError:
            raise ApiError(
                "RequestTimeoutException",
                f"The body comes too slowly: after {self._grace_seconds:.0f} seconds it needs "
                f"{_BYTES_PER_SECOND // 1024} KiB a second",
            ) from None
        except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError):
            raise ApiError("SerializationException", "The body's chunks are not valid HTTP", 400) from None


def waits(request: web.BaseRequest) -> bool:
    """Whether the sender keeps the body back until it is told to go on; curl does so for a second."""
    expects = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1)
    return expects and request.content.total_bytes == 0


def is_left(request: web.BaseRequest) -> bool:
    """Whether the connection is of no use any more: too much of the body is still to come, or it never will."""
    if request.content.is_eof():
        return False
    return waits(request) or request.content_length is None or request.content_length > SMALL_BYTES


def _encodings(request: web.BaseRequest) -> list[str]:
    # aws-chunked is no compression; whoever reads the claim has a better answer to it.
    return [
        text
        for value in request.headers.getall("Content-Encoding", [])
        for text in value.split(",")
        if text.strip().lower() != "aws-chunked"
    ]


def _too_large(limit: int) -> ApiError:
    return ApiError(
        "RequestEntityTooLargeException", f"The body is too large: this operation takes up to {limit} bytes"
    )
