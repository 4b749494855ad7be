"""What the demo's registry answers with, before it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from multidict import CIMultiDict, MultiMapping

from pullthrough.demo.images import Blob
from pullthrough.errors import RangeNotSatisfiable
from pullthrough.oci.codes import ErrorCode, error_body
from pullthrough.oci.ranges import ByteRange, parse_range

_CHUNK_BYTES = 256 * 1024


@dataclass(slots=True)
class Reply:
    """An answer whose body is `body[start:stop]`. Content-Length follows from that; it is not among the headers."""

    status: int
    headers: CIMultiDict[str]
    body: bytes | Blob = b""
    start: int = 0
    stop: int = -1

    def __post_init__(self) -> None:
        if self.stop < 0:
            self.stop = self.whole_bytes

    @property
    def whole_bytes(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.size_bytes

    @property
    def length_bytes(self) -> int:
        return self.stop - self.start

    async def chunks(self, chunk_bytes: int = _CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The body in pieces; files are read in a thread."""
        for start in range(self.start, self.stop, chunk_bytes):
            stop = min(start + chunk_bytes, self.stop)
            if isinstance(self.body, bytes):
                yield self.body[start:stop]
            elif isinstance(self.body.body, bytes):
                yield self.body.body[start:stop]
            else:
                yield await asyncio.to_thread(self.body.read, start, stop)


def answer_blob(blob: Blob, headers: MultiMapping[str], *, etag: str = "") -> Reply:
    """200, 206, 304 or 416 by RFC 9110; If-Range with another ETag gives the whole body."""
    etag = etag or f'"{blob.digest}"'
    answer = Reply(
        200,
        CIMultiDict(
            {
                "Content-Type": "application/octet-stream",
                "Docker-Content-Digest": str(blob.digest),
                "ETag": etag,
                "Accept-Ranges": "bytes",
            }
        ),
        blob,
    )
    if etag in headers.get("If-None-Match", ""):
        return replace(answer, status=304, body=b"", stop=0)
    if headers.get("If-Range", etag) != etag:
        return answer
    try:
        asked = parse_range(headers.get("Range"), blob.size_bytes)
    except RangeNotSatisfiable:
        refused = text_reply(416, "")
        refused.headers["Content-Range"] = f"bytes */{blob.size_bytes}"
        return refused
    return answer if asked is None else partial(answer, asked)


def partial(answer: Reply, asked: ByteRange) -> Reply:
    """The 206 for one range of a 200."""
    headers = answer.headers.copy()
    headers["Content-Range"] = asked.content_range(answer.whole_bytes)
    return replace(answer, status=206, headers=headers, start=asked.start, stop=asked.stop)


def failure(status: int, code: ErrorCode, message: str, detail: object = None) -> Reply:
    """An error in the specification's JSON."""
    return Reply(
        status,
        CIMultiDict({"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}),
        error_body(code, message, detail),
    )


def json_reply(document: object, *, status: int = 200) -> Reply:
    return Reply(
        status,
        CIMultiDict({"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}),
        json.dumps(document).encode(),
    )


def text_reply(status: int, text: str) -> Reply:
    return Reply(status, CIMultiDict({"Content-Type": "text/plain; charset=utf-8"}), text.encode())
