"""Which bytes of a body have arrived: sorted spans that neither touch nor overlap. Pure, and never changed once made, so that
one thread may replace what another one reads.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Spans:
    """Each span is the bytes `start` up to, not including, `stop`."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_first(cls, size_bytes: int) -> Self:
        """So many bytes from the beginning on."""
        return cls(((0, size_bytes),)) if size_bytes else cls()

    def add(self, start: int, stop: int) -> Spans:
        """These, and the bytes from `start` up to `stop`."""
        if start >= stop:
            return self
        before = [span for span in self.spans if span[1] < start]
        after = [span for span in self.spans if span[0] > stop]
        joined = self.spans[len(before) : len(self.spans) - len(after)]
        if joined:
            start, stop = min(start, joined[0][0]), max(stop, joined[-1][1])
        return Spans((*before, (start, stop), *after))

    @property
    def end(self) -> int:
        """Where the last of them ends; 0 for none."""
        return self.spans[-1][1] if self.spans else 0

    @property
    def size_bytes(self) -> int:
        return sum(stop - start for start, stop in self.spans)

    def end_from(self, offset: int) -> int:
        """Where the bytes end that are here from `offset` on without a gap; `offset` itself where it is not here."""
        index = bisect_right(self.spans, (offset, _ENDLESS)) - 1
        return max(offset, self.spans[index][1]) if index >= 0 else offset


_ENDLESS = float("inf")
