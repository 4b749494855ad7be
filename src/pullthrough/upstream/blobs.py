"""A blob's body on its way: where it begins, how long the whole is, and its bytes as they come."""

from __future__ import annotations

import re

from pullthrough.errors import UpstreamInvalid
from pullthrough.upstream.transport import Response

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)
_TOTAL = re.compile(r"bytes (?:[0-9]{1,18}-[0-9]{1,18}|\*)/([0-9]{1,18})", re.ASCII)
#: A strong entity tag, RFC 9110 section 8.8.3; weak ones do not say that bytes are the same.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"', re.ASCII)


class BlobBody:
    """For one thread. Whoever got it closes it; `with` does."""

    def __init__(self, response: Response, *, start: int, total_bytes: int | None) -> None:
        self._response = response
        #: 200: the whole blob; 206: from `start`.
        self.status = response.status
        #: Offset of the first byte in the blob.
        self.start = start
        #: The whole blob's size, where the upstream says it.
        self.total_bytes = total_bytes
        etag = response.header("ETag")
        #: For a later If-Range; empty where there is no strong one.
        self.etag = etag if _STRONG_ETAG.fullmatch(etag) else ""

    def __enter__(self) -> BlobBody:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def readinto(self, buffer: memoryview) -> int:
        """As many bytes as are there, waiting for the first of them only; 0 at the clean end.

        Raises UpstreamUnavailable where the body is cut, shorter than announced, stalls, or is aborted.
        """
        return self._response.readinto(buffer)

    def close(self) -> None:
        """Keeps the connection for the next request if the body was read to its end. May be called again."""
        self._response.finish()


def blob_body(response: Response, *, start: int, stop: int | None) -> BlobBody:
    """The body of an answer to a request for the bytes from `start` up to, not including, `stop`.

    An upstream may answer the whole blob instead. Raises UpstreamInvalid where it answers other bytes than it was asked
    for; the response is then closed.
    """
    if response.status == 200:
        return BlobBody(response, start=0, total_bytes=response.content_length)
    try:
        return BlobBody(response, start=start, total_bytes=_checked_total(response, start, stop))
    except ValueError as error:
        response.close()
        raise UpstreamInvalid(
            f"{response.url.authority} answered other bytes than it was asked for: {error}",
            upstream=response.upstream,
            status=response.status,
        ) from error


def _checked_total(response: Response, start: int, stop: int | None) -> int | None:
    if response.status != 206 or (start == 0 and stop is None):
        raise ValueError(f"status {response.status}")
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range"))
    if match is None:
        raise ValueError("Content-Range is missing or malformed")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first != start or last < first or (total is not None and last >= total):
        raise ValueError(f"Content-Range is {match[0]}")
    end = last + 1
    ends_with_blob = end == total if total is not None else stop is None
    if end != stop and not (ends_with_blob and (stop is None or end < stop)):
        raise ValueError(f"Content-Range is {match[0]}")
    if response.content_length not in (None, end - first):
        raise ValueError(f"Content-Range is {match[0]}, but Content-Length is {response.content_length}")
    return total


def named_size(response: Response) -> int | None:
    """The whole blob's size by the answer to a request for its first byte: 206, 200 or 416; None where it names none."""
    if response.status == 200:
        return response.content_length
    match = _TOTAL.fullmatch(response.header("Content-Range"))
    return int(match[1]) if match else None
