"""The blocking half of a fill: receive, write, hash, until the body is whole or the attempt is over.

Runs in a thread of its own with one reused buffer; hashing and file I/O release the GIL, so the event loop goes on. It
knows neither the loop nor the catalog; what to ask next is decided in receiving.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pullthrough.engine.pull.fills.receiving import Receiving
from pullthrough.errors import DigestMismatch, DiskFull, UpstreamInvalid, UpstreamUnavailable
from pullthrough.oci.digests import Digest, Hasher
from pullthrough.storage.bodies import Sink

#: One read from the upstream's socket; the kernel gives what is there, so small reads stay small.
_BUFFER_BYTES = 1024 * 1024
#: The same until so much has arrived: what is read, written and hashed at once delays the first client's first byte.
_FIRST_READ_BYTES = 128 * 1024


class Answer(Protocol):
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

    def __call__(self, start: int, if_range: str, /) -> Answer: ...


@dataclass(slots=True)
class Transfer:
    """One attempt series to fill `sink`, which may hold the first bytes already.

    `expected_bytes` is the size that a manifest's descriptor gives; `make_room(n)` tries to free n bytes; `progress(start,
    stop)` and `size_known(n)` are called from this thread.
    """

    digest: Digest
    sink: Sink
    upstream: str
    open_body: Opener
    expected_bytes: int | None
    stop: threading.Event
    progress: Callable[[int, int], None]
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
        receiving = Receiving(self.digest, self.upstream, self.expected_bytes, self._rehash(hasher, view))
        while (ask := receiving.ask()) is not None:
            try:
                body = self.open_body(ask.start, ask.if_range)
                try:
                    if receiving.opened(body.start, body.total_bytes, body.etag):
                        self.size_known(receiving.total_bytes or 0)
                    view = self._receive(body, hasher, receiving, view)
                finally:
                    body.close()
                receiving.ended()
            except (UpstreamInvalid, UpstreamUnavailable) as error:
                pause = receiving.broke(error, is_stopped=self.stop.is_set())
                if pause and self.wait(pause):
                    raise
        size_bytes = receiving.finish()
        if not self.digest.matches(hasher):
            actual = f"{self.digest.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch(
                f"{self.upstream} sent {actual} when asked for {self.digest}",
                expected=self.digest,
                actual=actual,
            )
        return size_bytes

    def _rehash(self, hasher: Hasher, view: memoryview) -> int:
        """Hash what an earlier attempt left. A new leader never trusts a hash that it did not see."""
        offset = 0
        while count := self.sink.read(view, offset):
            hasher.update(view[:count])
            offset += count
            if self.stop.is_set():
                raise UpstreamUnavailable("the fill was interrupted", upstream=self.upstream)
        if offset:
            self.progress(0, offset)
        return offset

    def _receive(self, body: Answer, hasher: Hasher, receiving: Receiving, view: memoryview) -> memoryview:
        """Append the body's bytes. One that begins before the end of the file is compared up to there first."""
        if body.start < receiving.written_bytes:
            self._compare(body, body.start, receiving.written_bytes, view)
        while count := body.readinto(view):
            chunk = view[:count]
            receiving.came(count)
            position = receiving.written_bytes
            self._write(chunk, receiving)
            hasher.update(chunk)
            self.progress(position, receiving.written_bytes)
            if receiving.written_bytes >= _BUFFER_BYTES > len(view):
                # Only now: clearing a megabyte takes as long as half of all that comes before the first byte.
                view = memoryview(bytearray(_BUFFER_BYTES))
        return view

    def _compare(self, body: Answer, position: int, end: int, view: memoryview) -> None:
        """Read again what is here already: the upstream does not resume. Other readers have these bytes."""
        here = memoryview(bytearray(len(view)))
        while position < end:
            count = body.readinto(view[: end - position])
            if not count:
                raise UpstreamUnavailable(f"{self.upstream} ended {self.digest} early", upstream=self.upstream)
            if self.sink.read(here[:count], position) < count or here[:count] != view[:count]:
                raise DigestMismatch(
                    f"{self.upstream} sent other bytes for {self.digest} than the first time",
                    expected=self.digest,
                    actual="(differs before its end)",
                )
            position += count

    def _write(self, chunk: memoryview, receiving: Receiving) -> None:
        """Makes room once, where there is none."""
        made_room = False
        position = receiving.written_bytes
        while chunk:
            try:
                count = self.sink.write(chunk, receiving.written_bytes)
            except DiskFull as error:
                if made_room:
                    raise DiskFull(f"the disk is full at byte {position:,} of {self.digest}") from (
                        error.__cause__ or error
                    )
                made_room = True
                self.make_room(max(len(chunk), (self.expected_bytes or 0) - position))
                continue
            receiving.written_bytes += count
            chunk = chunk[count:]
