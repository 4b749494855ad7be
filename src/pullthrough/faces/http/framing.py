"""Where a request's head and its body end, and how long a head may be. Pure.

What they say is the business of aiohttp's parser. That limits lines and single headers, but not all of them together, and
does not say how far it has got; so it is given each head and each body by itself.
"""

from __future__ import annotations

#: Request line and headers together, or the trailers behind a body. A digest, a long name and a bearer token take 4 KiB;
#: other servers allow 32 to 64.
MAX_HEAD_BYTES = 64 * 1024
_END = b"\r\n\r\n"
_LINE_END = b"\r\n"


class Head:
    """One head, as it arrives. RFC 9112, section 2.1."""

    __slots__ = ("_last", "size_bytes")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """The next one."""
        self.size_bytes = 0
        self._last = b""

    @property
    def is_too_large(self) -> bool:
        return self.size_bytes > MAX_HEAD_BYTES

    def take(self, data: bytes) -> int:
        """How many of these bytes are up to an empty line, with it; all of them where there is none.

        An empty line may also stand before a request, so that the head may go on behind it.
        """
        count = self._end_in(data)
        if count:
            self._last = b""
        else:
            count = len(data)
            self._last = (self._last + data[-3:])[-3:]
        self.size_bytes += count
        return count

    def _end_in(self, data: bytes) -> int:
        """Behind the empty line; 0 where there is none. It may have begun in what came before."""
        if self._last:
            seam = (self._last + data[:3]).find(_END)
            if seam >= 0:
                return seam + len(_END) - len(self._last)
        end = data.find(_END)
        return end + len(_END) if end >= 0 else 0


class CountedBody:
    """A body of so many bytes. RFC 9112, section 6.2."""

    __slots__ = ("_left",)
    is_too_large = False
    has_trailers = False

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    @property
    def is_over(self) -> bool:
        return not self._left

    def take(self, data: bytes) -> int:
        """How many of these bytes belong to it."""
        count = min(self._left, len(data))
        self._left -= count
        return count


class ChunkedBody:
    """A body in chunks, with its trailers. RFC 9112, section 7.1.

    A line that is none is passed over: the parser refuses it.
    """

    __slots__ = ("_chunk_left", "_in_trailers", "_line", "_trailers_bytes", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        #: Of the chunk and the line's end behind it.
        self._chunk_left = 0
        #: What has come of a line that is not at its end.
        self._line = b""
        self._in_trailers = False
        self._trailers_bytes = 0

    @property
    def is_too_large(self) -> bool:
        """Its lines, that is; its chunks may have any size."""
        return self._trailers_bytes + len(self._line) > MAX_HEAD_BYTES

    @property
    def has_trailers(self) -> bool:
        """Whether there are any between it and its end."""
        return self._trailers_bytes > len(_LINE_END)

    def take(self, data: bytes) -> int:
        """How many of these bytes belong to it, or are left to be refused with it."""
        at = 0
        while at < len(data) and not self.is_over and not self.is_too_large:
            if self._chunk_left:
                count = min(self._chunk_left, len(data) - at)
                self._chunk_left -= count
                at += count
            else:
                end = data.find(b"\n", at) + 1 or len(data)
                self._line += data[at:end]
                at = end
                if self._line.endswith(b"\n"):
                    self._end_line()
        return at

    def _end_line(self) -> None:
        line, self._line = self._line, b""
        if self._in_trailers:
            self._trailers_bytes += len(line)
            self.is_over = line == _LINE_END
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return
        if size > 0:
            self._chunk_left = size + len(_LINE_END)
        else:
            self._in_trailers = True
