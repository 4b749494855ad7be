"""The blocking half of a fill: receive, write, hash, until the file is whole or the attempt is over.

Runs in a thread of its own with one reused buffer; hashing and file I/O release the GIL, so the event loop goes on. It
knows neither the loop nor the catalog.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pullthrough.errors import (
    DigestMismatch,
    DiskFull,
    SizeMismatch,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from pullthrough.oci.digests import Digest, Hasher
from pullthrough.upstream.transport import Hung

#: One read from the upstream's socket; the kernel gives what is there, so small reads stay small.
_BUFFER_BYTES = 1024 * 1024
#: The same until so much has arrived: what is read, written and hashed at once delays the first client's first byte.
_FIRST_READ_BYTES = 128 * 1024
#: Attempts in a row that brought no byte before the fill gives up.
MAX_BARREN_ATTEMPTS = 4
#: Attempts in all: an upstream that breaks off after every few bytes must not be asked for ever.
MAX_ATTEMPTS = 100
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Body(Protocol):
    """One answer of the upstream, as `upstream.BlobBody` gives it."""

    @property
    def start(self) -> int: ...
    @property
    def total_bytes(self) -> int | None: ...
    @property
    def etag(self) -> str: ...

    def readinto(self, buffer: memoryview, /) -> int: ...
    def close(self) -> None: ...


class Opener(Protocol):
    """Asks the upstream for the blob's bytes from `start`."""

    def __call__(self, start: int, if_range: str, /) -> Body: ...


@dataclass(slots=True)
class Transfer:
    """One attempt series to fill `fd`, which may hold the first bytes already.

    `expected_bytes` is the size that a manifest's descriptor gives; `make_room(n)` tries to free n bytes; `progress(n)`
    and `size_known(n)` are called from this thread.
    """

    digest: Digest
    fd: int
    upstream: str
    open_body: Opener
    expected_bytes: int | None
    stop: threading.Event
    progress: Callable[[int], None]
    size_known: Callable[[int], None]
    make_room: Callable[[int], None]
    wait: Callable[[float], bool]

    def run(self) -> int:
        """Returns the size of the whole, verified body.

        Raises UpstreamError when the upstream will not give it (what has arrived stays and can be continued),
        DigestMismatch or SizeMismatch when it gave something else, DiskFull.
        """
        view = memoryview(bytearray(_FIRST_READ_BYTES))
        hasher = self.digest.hasher()
        written = self._rehash(hasher, view)
        total = self.expected_bytes
        etag = ""
        resumes = True
        barren = attempts = 0
        # An empty blob is asked for as well: only the upstream can say that this repository has it.
        while total is None or written < total or (written == 0 and attempts == 0):
            attempts += 1
            before = written
            opened = False
            try:
                start = written if resumes else 0
                body = self.open_body(start, etag if start else "")
                opened = True
                try:
                    total = self._agree(body, total)
                    etag = body.etag
                    written = self._receive(body, hasher, written, total, view)
                finally:
                    body.close()
                if total is None:
                    total = written
                elif written < total:
                    raise UpstreamUnavailable(
                        f"{self.upstream} ended {self.digest} at byte {written:,} of {total:,}", upstream=self.upstream
                    )
            except UpstreamInvalid:
                if not resumes or before == 0:
                    raise
                # An answer that cannot be right, when asked for the rest: it may still know how to send the whole.
                resumes, written = False, self._size()
            except UpstreamUnavailable as error:
                barren = barren + 1 if written == before and self._size() == before else 0
                written = self._size()
                if self.stop.is_set() or barren >= MAX_BARREN_ATTEMPTS or attempts >= MAX_ATTEMPTS:
                    raise
                # Opening a body has its own tries, and silence would take as long again: only what came is worth more.
                if not opened and (written == 0 or (barren and isinstance(error, Hung))):
                    raise
                if self.wait(min(5.0, 0.2 * 2**barren)):
                    raise
        if written != total:
            raise SizeMismatch(f"{self.upstream} sent {written:,} bytes for {self.digest}, {total:,} were announced")
        if not self.digest.matches(hasher):
            actual = f"{self.digest.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch(
                f"{self.upstream} sent {actual} when asked for {self.digest}",
                expected=self.digest,
                actual=actual,
            )
        return written

    def _size(self) -> int:
        return os.fstat(self.fd).st_size

    def _rehash(self, hasher: Hasher, view: memoryview) -> int:
        """Hash what an earlier attempt left. A new leader never trusts a hash that it did not see."""
        offset = 0
        while count := os.preadv(self.fd, [view], offset):
            hasher.update(view[:count])
            offset += count
            if self.stop.is_set():
                raise UpstreamUnavailable("the fill was interrupted", upstream=self.upstream)
        if offset:
            self.progress(offset)
        return offset

    def _agree(self, body: Body, total: int | None) -> int | None:
        """One size from all who name one: the manifest's descriptor and each answer."""
        if body.total_bytes is None:
            return total
        if total is not None and body.total_bytes != total:
            raise SizeMismatch(
                f"{self.upstream} says that {self.digest} has {body.total_bytes:,} bytes; {total:,} were announced"
            )
        self.size_known(body.total_bytes)
        return body.total_bytes

    def _receive(self, body: Body, hasher: Hasher, written: int, total: int | None, view: memoryview) -> int:
        """Append the body's bytes. One that begins before the end of the file is compared up to there first."""
        position = body.start
        if position > written:
            raise UpstreamInvalid(
                f"{self.upstream} sent {self.digest} from byte {position:,} when asked for byte {written:,}",
                upstream=self.upstream,
            )
        if position < written:
            position = self._compare(body, position, written, view)
        while count := body.readinto(view):
            chunk = view[:count]
            if total is not None and position + count > total:
                raise SizeMismatch(f"{self.upstream} sent more than the {total:,} bytes that {self.digest} has")
            self._write(chunk, position)
            hasher.update(chunk)
            position += count
            self.progress(position)
            if position >= _BUFFER_BYTES > len(view):
                # Only now: clearing a megabyte takes as long as half of all that comes before the first byte.
                view = memoryview(bytearray(_BUFFER_BYTES))
        return position

    def _compare(self, body: Body, position: int, end: int, view: memoryview) -> int:
        """Read again what is here already: the upstream does not resume. Other readers have these bytes."""
        while position < end:
            count = body.readinto(view[: end - position])
            if not count:
                raise UpstreamUnavailable(f"{self.upstream} ended {self.digest} early", upstream=self.upstream)
            if os.pread(self.fd, count, position) != view[:count]:
                raise DigestMismatch(
                    f"{self.upstream} sent other bytes for {self.digest} than the first time",
                    expected=self.digest,
                    actual="(differs before its end)",
                )
            position += count
        return position

    def _write(self, chunk: memoryview, position: int) -> None:
        made_room = False
        done = 0
        while done < len(chunk):
            try:
                done += os.pwrite(self.fd, chunk[done:], position + done)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if made_room:
                    raise DiskFull(f"the disk is full at byte {position:,} of {self.digest}") from error
                made_room = True
                self.make_room(max(len(chunk), (self.expected_bytes or 0) - position))
