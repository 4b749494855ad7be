"""One body, received over as many answers of its upstream as that takes. Pure: it is told what came, and says what to ask.

    ask -> opened -> received... -> ended | broke -> ask ... -> None: all is here

A broken answer is resumed at the last good byte, with the entity tag of the answer before. An upstream that begins again from
the start is compared with what is here. What brings nothing again and again comes to an end.
"""

from __future__ import annotations

from dataclasses import dataclass

from pullthrough.errors import SizeMismatch, UpstreamInvalid, UpstreamUnavailable
from pullthrough.oci.digests import Digest

#: Attempts in a row that brought no byte before the fill gives up.
MAX_BARREN_ATTEMPTS = 4
#: Attempts in all: an upstream that breaks off after every few bytes must not be asked for ever.
MAX_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Ask:
    """The bytes from `start` on; `if_range` is the entity tag that they must still have, empty for any."""

    start: int
    if_range: str


class Receiving:
    """`expected_bytes` is the size that a manifest's descriptor gives; `written_bytes` is what an earlier attempt left."""

    def __init__(self, digest: Digest, upstream: str, expected_bytes: int | None, written_bytes: int) -> None:
        self.written_bytes = written_bytes
        self.total_bytes = expected_bytes
        self._digest = digest
        self._upstream = upstream
        self._etag = ""
        self._resumes = True
        self._barren = self._attempts = 0
        self._before = written_bytes
        self._is_open = False

    def ask(self) -> Ask | None:
        """What to ask for next; None where all is here. An empty blob is asked for as well: only the upstream can say that
        this repository has it."""
        is_whole = self.total_bytes is not None and self.written_bytes >= self.total_bytes
        if is_whole and (self.written_bytes or self._attempts):
            return None
        self._attempts += 1
        self._before = self.written_bytes
        self._is_open = False
        start = self.written_bytes if self._resumes else 0
        return Ask(start, self._etag if start else "")

    def opened(self, start: int, total_bytes: int | None, etag: str) -> bool:
        """An answer begins at `start`. Whether it names a size, which is one with all who named one before.

        Raises SizeMismatch; UpstreamInvalid where bytes would be missing.
        """
        self._is_open = True
        if total_bytes is not None:
            if self.total_bytes is not None and total_bytes != self.total_bytes:
                raise SizeMismatch(
                    f"{self._upstream} says that {self._digest} has {total_bytes:,} bytes; "
                    f"{self.total_bytes:,} were announced"
                )
            self.total_bytes = total_bytes
        self._etag = etag
        if start > self.written_bytes:
            raise UpstreamInvalid(
                f"{self._upstream} sent {self._digest} from byte {start:,} when asked for byte {self.written_bytes:,}",
                upstream=self._upstream,
            )
        return total_bytes is not None

    def came(self, count: int) -> None:
        """So many more bytes came, and are not written yet. Raises SizeMismatch where they are too many."""
        if self.total_bytes is not None and self.written_bytes + count > self.total_bytes:
            raise SizeMismatch(
                f"{self._upstream} sent more than the {self.total_bytes:,} bytes that {self._digest} has"
            )

    def ended(self) -> None:
        """The answer ended as its upstream meant it to. Raises UpstreamUnavailable where that was too early."""
        if self.total_bytes is None:
            self.total_bytes = self.written_bytes
        elif self.written_bytes < self.total_bytes:
            raise UpstreamUnavailable(
                f"{self._upstream} ended {self._digest} at byte {self.written_bytes:,} of {self.total_bytes:,}",
                upstream=self._upstream,
            )

    def broke(self, error: UpstreamInvalid | UpstreamUnavailable, *, is_stopped: bool) -> float:
        """The answer broke off, or did not come. Seconds to wait before the next one; raises the error where none is worth it."""
        if isinstance(error, UpstreamInvalid):
            if not self._resumes or self._before == 0:
                raise error
            # An answer that cannot be right, when asked for the rest: it may still know how to send the whole.
            self._resumes = False
            return 0.0
        self._barren = self._barren + 1 if self.written_bytes == self._before else 0
        if is_stopped or self._barren >= MAX_BARREN_ATTEMPTS or self._attempts >= MAX_ATTEMPTS:
            raise error
        # Opening a body has its own tries: only what came is worth more.
        if not self._is_open and (self.written_bytes == 0 or (self._barren and error.is_silence)):
            raise error
        return min(5.0, 0.2 * (1 << self._barren))

    def finish(self) -> int:
        """The size of the whole body. Raises SizeMismatch."""
        if self.written_bytes != self.total_bytes:
            raise SizeMismatch(
                f"{self._upstream} sent {self.written_bytes:,} bytes for {self._digest}, "
                f"{self.total_bytes or 0:,} were announced"
            )
        return self.written_bytes
