"""Stores of bodies in memory, for several workers at once. They pass the suite of tests/contracts/test_bodies.py.

`Memory` is what all workers share; a worker has stores of its own on it. Nothing here waits, and nothing has a clock: `now`
is set by the test.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pullthrough.errors import UploadUnknown
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.spans import Spans
from pullthrough.storage.bodies import (
    AbandonedBody,
    BodyFacts,
    GrowingKey,
    RemovedThing,
    Sight,
    Space,
    Told,
)


@dataclass(eq=False)
class Lump:
    """Bytes that lie somewhere."""

    data: bytearray = field(default_factory=bytearray)
    written_at: float = 0.0
    placed_at: float = 0.0
    #: Who writes it.
    holder: object | None = None
    told: Told | None = None


@dataclass
class Memory:
    blobs: dict[Digest, Lump] = field(default_factory=dict)
    growing: dict[GrowingKey, Lump] = field(default_factory=dict)
    uploads: dict[str, tuple[RepositoryName, Lump]] = field(default_factory=dict)
    #: What was told of bodies, also of those that are gone from their place.
    told: dict[GrowingKey, tuple[Lump, Told]] = field(default_factory=dict)
    total_bytes: int = 1 << 40
    now: float = 1.0

    def names(self) -> set[str]:
        return {*map(str, self.blobs), *map(str, self.growing), *map(str, self.told), *self.uploads}

    def place(self, lump: Lump, digest: Digest) -> None:
        lump.placed_at = self.now
        self.blobs[digest] = lump

    def used_bytes(self) -> int:
        lumps = [*self.blobs.values(), *self.growing.values(), *(lump for _, lump in self.uploads.values())]
        return sum(len(lump.data) for lump in lumps)


class MemoryBody:
    def __init__(self, lump: Lump) -> None:
        self._lump = lump

    @property
    def size_bytes(self) -> int:
        return len(self._lump.data)

    async def read(self, start: int, count: int) -> bytes:
        return bytes(self._lump.data[start : start + count])

    def close(self) -> None:
        """Nothing is open."""


class MemoryBodies:
    """One worker's view of the published bodies."""

    boot_id = "boot"

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def open(self, digest: Digest) -> MemoryBody | None:
        lump = self._memory.blobs.get(digest)
        return None if lump is None else MemoryBody(lump)

    async def find(self, digest: Digest) -> BodyFacts | None:
        lump = self._memory.blobs.get(digest)
        return None if lump is None else BodyFacts(len(lump.data), lump.written_at, lump.placed_at)

    async def delete(self, digest: Digest) -> int:
        lump = self._memory.blobs.pop(digest, None)
        return 0 if lump is None else len(lump.data)

    async def digests(self) -> AsyncIterator[list[Digest]]:
        if self._memory.blobs:
            yield list(self._memory.blobs)

    async def strangers(self) -> list[str]:
        return []

    async def space(self) -> Space:
        return Space(self._memory.total_bytes, self._memory.total_bytes - self._memory.used_bytes())


class MemorySink:
    def __init__(self, growing: MemoryGrowing) -> None:
        self._growing = growing

    def arrived(self) -> Spans:
        return Spans.of_first(len(self._growing.lump.data))

    def read(self, buffer: memoryview, position: int) -> int:
        data = self._growing.lump.data[position : position + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: memoryview, position: int) -> int:
        lump = self._growing.lump
        lump.data[position : position + len(data)] = data
        lump.written_at = self._growing.memory.now
        return len(data)

    def tell(self, told: Told) -> None:
        self._growing.memory.told[self._growing.key] = self._growing.lump, told


class MemoryGrowing:
    """A body on its way in, open in one worker."""

    def __init__(self, memory: Memory, key: GrowingKey) -> None:
        self.memory = memory
        self.key = key
        self.lump = memory.growing.setdefault(key, Lump(written_at=memory.now))
        self.sink = MemorySink(self)

    async def read(self, start: int, count: int) -> bytes:
        return bytes(self.lump.data[start : start + count])

    def close(self) -> None:
        if self.lump.holder is self:
            self.lump.holder = None

    def look(self) -> Sight:
        return self._sight(leads=False)

    async def claim(self) -> Sight:
        if self.lump.holder is None:
            self.lump.holder = self
        return self._sight(leads=self.lump.holder is self)

    async def reopen(self) -> Sight:
        self.close()
        self.lump = self.memory.growing.setdefault(self.key, Lump(written_at=self.memory.now))
        return await self.claim()

    def _sight(self, *, leads: bool) -> Sight:
        lump, told = self.memory.told.get(self.key, (None, None))
        known = told if lump is self.lump else None
        return Sight(
            leads=leads,
            is_current=self.memory.growing.get(self.key) is self.lump,
            is_published=self.memory.blobs.get(self.key.digest) is self.lump,
            arrived=self.sink.arrived(),
            told=known,
            is_sound=known is not None,
        )

    async def restart(self) -> None:
        self.lump = self.memory.growing[self.key] = Lump(written_at=self.memory.now, holder=self)

    async def tell(self, told: Told) -> None:
        self.sink.tell(told)

    async def retract(self, attempt: str) -> None:
        _, told = self.memory.told.get(self.key, (None, None))
        if told is not None and told.attempt == attempt:
            del self.memory.told[self.key]

    async def discard(self) -> None:
        if self.memory.growing.get(self.key) is self.lump:
            del self.memory.growing[self.key]

    def is_being_published(self) -> bool:
        lump = self.memory.blobs.get(self.key.digest)
        return lump is not None and lump.holder is not None

    async def publish(self, digest: Digest) -> None:
        if self.memory.blobs.get(digest) is not self.lump:
            await self.discard()
            self.memory.place(self.lump, digest)

    async def withdraw(self, digest: Digest) -> None:
        self.memory.growing[self.key] = self.memory.blobs.pop(digest)

    async def release(self) -> None:
        if self.lump.holder is self and not self.lump.data and self.look().is_current:
            told = self.look().told
            if told is not None:
                await self.retract(told.attempt)
            await self.discard()
        self.close()


class MemoryGrowings:
    """One worker's view of the bodies on their way in."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def open(self, key: GrowingKey) -> tuple[MemoryGrowing, Sight]:
        growing = MemoryGrowing(self._memory, key)
        return growing, await growing.claim()

    async def peek(self, key: GrowingKey) -> Told | None:
        lump, told = self._memory.told.get(key, (None, None))
        return told if lump is not None and lump.holder is not None else None

    def is_led(self, key: GrowingKey) -> bool:
        lump = self._memory.growing.get(key)
        return lump is not None and lump.holder is not None

    async def abandoned(self, written_before: float) -> list[AbandonedBody]:
        return [
            AbandonedBody(str(key), key.digest, len(lump.data), lump.written_at)
            for key, lump in self._memory.growing.items()
            if lump.holder is None and lump.written_at < written_before
        ]

    async def remove(self, name: str) -> int | None:
        for key, lump in list(self._memory.growing.items()):
            if str(key) == name and lump.holder is None:
                self._memory.told.pop(key, None)
                return len(self._memory.growing.pop(key).data)
        return None

    async def remove_useless(self) -> list[RemovedThing]:
        useless = [key for key in self._memory.growing if key not in self._memory.told]
        return [RemovedThing(str(key), len(self._memory.growing.pop(key).data)) for key in useless]

    async def taken_bytes(self) -> int:
        return sum(len(lump.data) for lump in self._memory.growing.values())


class MemoryUpload:
    def __init__(self, memory: Memory, upload_id: str, lump: Lump) -> None:
        self._memory = memory
        self._id = upload_id
        self._lump = lump
        lump.holder = self

    @property
    def size_bytes(self) -> int:
        return len(self._lump.data)

    async def append(self, data: bytes | bytearray | memoryview) -> None:
        self._lump.data += data
        self._lump.written_at = self._memory.now

    async def digest(self, algorithm: str) -> Digest:
        return Digest(f"{algorithm}:{hashlib.new(algorithm, self._lump.data).hexdigest()}")

    async def publish(self, digest: Digest) -> None:
        self._memory.place(self._lump, digest)

    async def withdraw(self, digest: Digest) -> None:
        del self._memory.blobs[digest]

    async def discard(self) -> None:
        self._memory.uploads.pop(self._id, None)

    async def finished(self) -> None:
        self._memory.uploads.pop(self._id, None)

    async def close(self) -> None:
        self._lump.holder = None


class MemoryUploads:
    """One worker's view of what clients push."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def begin(self, repository: RepositoryName) -> str:
        upload_id = str(uuid.uuid4())
        self._memory.uploads[upload_id] = repository, Lump(written_at=self._memory.now)
        return upload_id

    async def size(self, repository: RepositoryName, upload_id: str) -> int:
        return len(self._find(repository, upload_id).data)

    async def try_open(self, repository: RepositoryName, upload_id: str) -> MemoryUpload | None:
        lump = self._find(repository, upload_id)
        return None if lump.holder is not None else MemoryUpload(self._memory, upload_id, lump)

    async def remove_stale(self, older_than: float) -> list[RemovedThing]:
        stale = [
            upload_id
            for upload_id, (_, lump) in self._memory.uploads.items()
            if lump.holder is None and lump.written_at < older_than
        ]
        return [RemovedThing(name, len(self._memory.uploads.pop(name)[1].data)) for name in stale]

    def _find(self, repository: RepositoryName, upload_id: str) -> Lump:
        whose, lump = self._memory.uploads.get(upload_id, (None, Lump()))
        if whose != repository:
            raise UploadUnknown(f"there is no upload {upload_id} in {repository}")
        return lump
