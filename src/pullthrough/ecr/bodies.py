"""Reading the bodies of requests, as far as their operations and this worker's memory allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from pullthrough.ecr.errors import ApiError

#: For a body to arrive; the largest takes this long at 100 KB a second.
_SECONDS = 300.0
#: Of all bodies that have arrived, in part or whole, and are not parsed yet: nine of the largest ones.
MAX_HELD_BYTES = 256 * 1024 * 1024


class Bodies:
    """Those of one worker. Belongs to its event loop."""

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, request: web.BaseRequest, limit: int) -> AsyncIterator[bytes]:
        """The body, which counts as held until the block ends.

        Raises ApiError where it is larger than `limit`, compressed, broken, takes too long, or there is no room for it.
        """
        # aws-chunked is no compression, and whoever verifies the signature has a better answer to it.
        if request.headers.get("Content-Encoding", "").lower() not in ("", "identity", "aws-chunked"):
            raise ApiError("UnsupportedMediaTypeException", "Send the body without a Content-Encoding")
        if (request.content_length or 0) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        try:
            await self._receive(request, limit, chunks)
            chunks[:] = [b"".join(chunks)]
            yield chunks[0]
        finally:
            self._held_bytes -= sum(map(len, chunks))

    async def _receive(self, request: web.BaseRequest, limit: int, chunks: list[bytes]) -> None:
        """Each of `chunks` is counted as held, also where this fails."""
        received = 0
        try:
            async with asyncio.timeout(_SECONDS):
                if waits(request):
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request.writer.output_size = 0  # no part of the answer
                async for chunk in request.content.iter_any():
                    chunks.append(chunk)
                    received += len(chunk)
                    self._held_bytes += len(chunk)
                    if received > limit:
                        raise _too_large(limit)
                    if self._held_bytes > self._max_held_bytes:
                        raise ApiError(
                            "ThrottlingException", "Too many large requests arrive at once; try again in a moment", 429
                        )
        except TimeoutError:
            raise ApiError(
                "RequestTimeoutException", f"The body did not arrive within {_SECONDS:.0f} seconds"
            ) from None
        except web.RequestPayloadError:
            raise ApiError("SerializationException", "The body's chunks are not valid HTTP", 400) from None


def waits(request: web.BaseRequest) -> bool:
    """Whether the sender keeps the body back until it is told to go on; curl does so for a second."""
    expects = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1)
    return expects and request.content.total_bytes == 0


def _too_large(limit: int) -> ApiError:
    return ApiError(
        "RequestEntityTooLargeException", f"The body is too large: this operation takes up to {limit} bytes"
    )
