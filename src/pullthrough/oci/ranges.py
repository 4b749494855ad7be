"""Byte ranges of a request: RFC 9110, section 14. Only single ranges; a list of ranges is answered whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pullthrough.errors import RangeNotSatisfiable

_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop`, of a body of known size; never empty."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start

    def content_range(self, size_bytes: int) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{size_bytes}"


def parse_range(header: str | None, size_bytes: int) -> ByteRange | None:
    """The range of a body of `size_bytes`, or None where the whole body is the answer.

    A header that is malformed, of another unit, or a list of ranges is ignored, as RFC 9110 section 14.2 asks.
    Raises RangeNotSatisfiable where the range has no byte in the body (section 15.5.17), or ends before it begins: the
    section lets us choose, and clients that get the whole body instead must notice that.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, stop = max(0, size_bytes - int(suffix)), size_bytes
    else:
        start = int(first)
        stop = min(int(last) + 1, size_bytes) if last else size_bytes
    if start >= stop:
        raise RangeNotSatisfiable(f"no byte of {header!r} is in a body of {size_bytes} bytes", size_bytes=size_bytes)
    return ByteRange(start, stop)
