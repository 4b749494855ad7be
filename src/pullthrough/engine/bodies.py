"""The life of a body: what is stored under its digest, the row that knows it, and the lock of the two.

The rule that keeps a crash at any instant harmless is written here and nowhere else:

    publishing      the body comes into its place, safe against power loss; then its row is written
    taking away     the row goes; then the body does

In between a crash leaves a body without a row, which the next start takes up (keep/check.py), and never a row without its
body. Whoever does either holds the body's named lock, over all workers, so that nobody takes away what another one has just
put into its place.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pullthrough.errors import DiskFull, StorageError
from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import BodyStore, Publishable, SizedBody
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.catalog.records import BlobRecord
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)

#: Room for the catalog to grow by what is recorded of a body.
ROW_BYTES = 64 * 1024
#: Read and hashed at once.
_CHUNK_BYTES = 1024 * 1024


class BodyStep(Enum):
    """What is to be done next to publish a body."""

    #: Put the body into its place; done again, it changes nothing.
    PLACE = auto()
    RECORD = auto()
    MAKE_ROOM = auto()
    #: Take the body out of its place, unless the catalog knows it by now: it may have been there before.
    WITHDRAW = auto()


def publication() -> Generator[BodyStep, StorageError | None, None]:
    """The steps of publishing one body; each is answered with the error it ended with, or None.

    A full disk gets one more chance, after room was made. Raises the error that remains.
    """
    error: StorageError | None = None
    for chance in range(2):
        if chance:
            yield BodyStep.MAKE_ROOM
        error = yield BodyStep.PLACE
        if error is None:
            error = yield BodyStep.RECORD
        if not isinstance(error, DiskFull):
            break
    if error is not None:
        yield BodyStep.WITHDRAW
        raise error


@dataclass(frozen=True, slots=True)
class Reading:
    """What a body holds. `actual` is None where it could not be read to its end, and `error` says why."""

    size_bytes: int
    actual: Digest | None
    error: str = ""


class Bodies:
    """The bodies of one worker. `run` is the catalog's threads, `run_slow` those for bodies; `make_room` frees so many bytes."""

    def __init__(
        self,
        store: BodyStore,
        blob_rows: BlobRows,
        locks: Locks,
        *,
        run: Runner,
        run_slow: Runner,
        make_room: Callable[[int], Awaitable[None]],
    ) -> None:
        self._store = store
        self._blob_rows = blob_rows
        self._locks = locks
        self._run = run
        self._run_slow = run_slow
        self._make_room = make_room
        self._open: Counter[Digest] = Counter()

    def being_read(self) -> set[Digest]:
        """What this worker has open. Any thread."""
        return set(self._open)

    # --- reading -----------------------------------------------------------------------------------------------------

    def is_proved(self, record: BlobRecord) -> bool:
        """Whether the body was written, or read whole, since what was written before could be trusted."""
        return record.verified_boot == self._store.boot_id

    async def is_stored(self, digest: Digest) -> bool:
        """Whether it is really here, whatever the catalog says."""
        return await self._store.find(digest) is not None

    async def open(self, record: BlobRecord) -> OpenBody | None:
        """None where it is missing or cut short on our side: a body of the wrong length is no body."""
        body = await self._store.open(record.digest)
        if body is None:
            return None
        if body.size_bytes != record.size_bytes:
            body.close()
            return None
        return OpenBody(body, record.digest, self._open)

    async def read(self, digest: Digest, pause: Callable[[], Awaitable[object]] | None = None) -> Reading | None:
        """Read and hash all of it; None where there is none. `pause` is awaited after each part."""
        body = await self._store.open(digest)
        if body is None:
            return None
        hasher = digest.hasher()
        size = 0
        try:
            while chunk := await body.read(size, _CHUNK_BYTES):
                await self._run_slow(hasher.update, chunk)
                size += len(chunk)
                if pause:
                    await pause()
        except OSError as error:  # a bad sector
            return Reading(size, None, error.strerror or str(error))
        finally:
            body.close()
        return Reading(size, Digest(f"{digest.algorithm}:{hasher.hexdigest()}"))

    async def prove(self, digest: Digest) -> bool:
        """After what may have spoiled it: read it once before it is trusted again. False where it was damaged, and is gone."""
        if await self._is_whole(digest):
            await self._run(self._blob_rows.verify_blob, digest, self._store.boot_id)
            return True
        await self.forget(digest, lambda: self._is_whole(digest))
        return False

    async def _is_whole(self, digest: Digest) -> bool:
        found = await self.read(digest)
        return found is not None and found.actual == digest

    # --- publishing and taking away ----------------------------------------------------------------------------------

    async def publish(self, body: Publishable, digest: Digest, record: Callable[[str], object]) -> None:
        """Make a whole, verified body the blob of its digest, or leave it as it was.

        `record` writes the row, in a thread of the catalog; it is told in which boot the body was proved. Raises DiskFull,
        or another StorageError.
        """

        async def do(step: BodyStep) -> None:
            match step:
                case BodyStep.PLACE:
                    await body.publish(digest)
                case BodyStep.RECORD:
                    await self._run(record, self._store.boot_id)
                case BodyStep.MAKE_ROOM:
                    await self._make_room(ROW_BYTES)
                case BodyStep.WITHDRAW:
                    if await self._run(self._blob_rows.unknown_blobs, [digest]):
                        await body.withdraw(digest)

        async with self._locks.hold(_lock(digest)):
            steps = publication()
            error: StorageError | None = None
            while True:
                try:
                    step = steps.send(error) if error else next(steps)
                except StopIteration:
                    return
                error = None
                try:
                    await do(step)
                except StorageError as caught:
                    error = caught

    async def forget(self, digest: Digest, is_good: Callable[[], Awaitable[bool]]) -> None:
        """Take away a body that is missing or damaged, unless somebody has published it anew since that was seen."""
        async with self._locks.hold(_lock(digest)):
            if not await is_good():
                await self._run(self._blob_rows.forget_blob, digest)
                await self._store.delete(digest)

    async def forget_short(self, record: BlobRecord) -> None:
        """One that `open` did not find whole."""

        async def is_good() -> bool:
            found = await self._store.find(record.digest)
            return found is not None and found.size_bytes == record.size_bytes

        await self.forget(record.digest, is_good)

    async def collect(self, digests: Sequence[Digest]) -> dict[Digest, int]:
        """Take away bodies whose rows are gone; the bytes that went with each. One that the catalog knows again stays, and
        so does one that somebody is publishing."""
        freed = dict.fromkeys(digests, 0)
        for digest in await self._unknown(digests):
            if lock := self._locks.try_lock(_lock(digest)):
                with lock:
                    if await self._unknown([digest]):
                        freed[digest] = await self._store.delete(digest)
        return freed

    async def _unknown(self, digests: Collection[Digest]) -> list[Digest]:
        return await self._run(self._blob_rows.unknown_blobs, digests)

    async def unrecorded(self) -> AsyncIterator[list[Digest]]:
        """Bodies without a row, some at a time."""
        async for part in self._store.digests():
            if unknown := await self._unknown(part):
                yield unknown

    async def adopt(self, digests: Sequence[Digest], *, is_proved: bool) -> None:
        """Write the rows of bodies that have none, or a wrong one. No repository may read them by that."""
        found = []
        for digest in digests:
            if facts := await self._store.find(digest):
                found.append((digest, facts.size_bytes, facts.written_at))
        await self._run(self._blob_rows.adopt_blobs, found, verified_boot=self._store.boot_id if is_proved else "")


class OpenBody:
    """A published body that a client reads: it counts as being read until it is closed."""

    def __init__(self, body: SizedBody, digest: Digest, counted: Counter[Digest]) -> None:
        self.body = body
        self.size_bytes = body.size_bytes
        self._digest = digest
        self._counted = counted
        self._is_open = True
        counted[digest] += 1

    def close(self) -> None:
        """May be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        self.body.close()
        self._counted[self._digest] -= 1
        if not self._counted[self._digest]:
            del self._counted[self._digest]


def _lock(digest: Digest) -> str:
    return f"blob:{digest}"
