"""What the rest of the program may ask of storage, whatever is behind it.

A published body is read by range and never changes. A body on its way in grows, is led by one worker at a time, and becomes
the blob of its digest or goes. Neither has a path or a descriptor here: that a body lies in a file is an ability that some
have (`InFile`). Each interface has one suite of tests in tests/contracts that every implementation runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.oci.spans import Spans

# --- bodies that are here ---------------------------------------------------------------------------------------------


class Body(Protocol):
    """A body that is open for reading. Whoever opened it closes it; deleting it meanwhile takes nothing away from him."""

    async def read(self, start: int, count: int) -> bytes | bytearray:
        """`count` bytes from `start` on; fewer only where the body ends before. Raises OSError where they cannot be read."""
        ...

    def close(self) -> None:
        """May be called twice."""
        ...


@runtime_checkable
class InFile(Protocol):
    """The ability of a body that lies in a file of this machine: sendfile(2) takes it from there."""

    def fileno(self) -> int: ...


class SizedBody(Body, Protocol):
    """A published body: all of it is here."""

    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """A published body. Times are seconds since the epoch: when it was last written, and when it came into its place."""

    size_bytes: int
    written_at: float
    placed_at: float


@dataclass(frozen=True, slots=True)
class Space:
    """What the place of the bodies holds. `free_bytes` is what may still be written."""

    total_bytes: int
    free_bytes: int


class BodyStore(Protocol):
    """Published bodies by digest. Whether a repository may read one is the catalog's matter."""

    @property
    def boot_id(self) -> str:
        """Changes whenever what was written before may not be trusted unread, as after a power failure."""
        ...

    async def open(self, digest: Digest) -> SizedBody | None:
        """None where the body is not here."""
        ...

    async def find(self, digest: Digest) -> BodyFacts | None: ...

    async def delete(self, digest: Digest) -> int:
        """How many bytes went; 0 where there was none."""
        ...

    def digests(self) -> AsyncIterator[list[Digest]]:
        """All that are here, in no order, some at a time."""
        ...

    async def strangers(self) -> list[str]:
        """Names of things among the bodies that are none: left alone, and never read."""
        ...

    async def space(self) -> Space: ...


# --- bodies on their way in -------------------------------------------------------------------------------------------


class State(StrEnum):
    FILLING = "filling"
    #: Size and digest match: every byte may be sent. Publishing follows.
    VERIFIED = "verified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Told:
    """What the worker that leads tells those that follow. `owner` is the one whose bytes come in."""

    owner: str
    state: State = State.FILLING
    total_bytes: int | None = None
    error: dict[str, Any] | None = None
    #: One leader's turn at one body; never the same again.
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """A body on its way in, as it was seen at one moment."""

    #: Whether this worker leads: nobody else writes or tells.
    leads: bool
    #: Whether what is open here is what others who open it get; else it was given up, or is published.
    is_current: bool
    is_published: bool
    arrived: Spans
    #: What was told last of what is open here; None where nothing that can be relied on was.
    told: Told | None
    #: Whether the bytes are those that were written; not so where a power failure may have spoiled them.
    is_sound: bool


class Sink(Protocol):
    """Where the one who leads writes, and tells. Blocking, for his thread: a hop for each piece would cost more than the
    writing."""

    def arrived(self) -> Spans: ...

    def read(self, buffer: memoryview, position: int) -> int:
        """How many bytes were read; 0 at the end of what has arrived."""
        ...

    def write(self, data: memoryview, position: int) -> int:
        """How many bytes were taken. Raises DiskFull."""
        ...

    def tell(self, told: Told) -> None:
        """As `GrowingBody.tell`."""
        ...


class Publishable(Protocol):
    """A whole, verified body that is not published yet."""

    async def publish(self, digest: Digest) -> None:
        """Make it the blob of its digest, safe against power loss when this returns.

        At any instant of a crash there is either no blob or the whole one. Replaces a blob that is there already; who reads
        that one goes on doing so. Does nothing where it was done. Raises DiskFull, and then nothing was published.
        """
        ...

    async def withdraw(self, digest: Digest) -> None:
        """Undo `publish`."""
        ...


class GrowingBody(Body, Publishable, Protocol):
    """A body on its way in, open in one worker. The leader alone calls `tell`, `restart`, `discard` and writes."""

    @property
    def sink(self) -> Sink: ...

    def look(self) -> Sight:
        """Cheap, and never waits: followers look every few milliseconds."""
        ...

    async def claim(self) -> Sight:
        """Lead, if nobody does, and look. The lead ends with `release`, `close`, or the process."""
        ...

    async def reopen(self) -> Sight:
        """Open what others get now, or begin a new body, and claim that."""
        ...

    async def restart(self) -> None:
        """Begin again, empty, and go on leading. Who reads the old bytes keeps them."""
        ...

    async def tell(self, told: Told) -> None:
        """Raises DiskFull where there is no room even for that; a failure is told all the same, where it can be."""
        ...

    async def retract(self, attempt: str) -> None:
        """What was told is of no more use, unless it is of another attempt already."""
        ...

    async def discard(self) -> None:
        """The body goes; who reads it keeps it. What was told stays, so that followers learn what happened."""
        ...

    def is_being_published(self) -> bool:
        """Whether somebody, in whichever worker, is publishing the blob of this digest at this moment. Cheap, never waits."""
        ...

    async def release(self) -> None:
        """Stop leading. A body that has not a byte goes, for there is nothing to go on from."""
        ...


@dataclass(frozen=True, slots=True)
class GrowingKey:
    """Which body on its way in: what comes from another owner, or for another secret, is another one."""

    digest: Digest
    owner: Owner
    #: The ARN of the secret that it is asked for with; empty for none.
    secret: str = ""


@dataclass(frozen=True, slots=True)
class AbandonedBody:
    """A body on its way in that nobody writes. `name` is for `GrowingStore.remove`; the time is in seconds since the epoch."""

    name: str
    digest: Digest
    size_bytes: int
    written_at: float


@dataclass(frozen=True, slots=True)
class RemovedThing:
    name: str
    size_bytes: int


class GrowingStore(Protocol):
    """Bodies on their way in, of all workers."""

    async def open(self, key: GrowingKey) -> tuple[GrowingBody, Sight]:
        """The body, begun where there is none, and claimed. Raises DiskFull or StorageError."""
        ...

    async def peek(self, key: GrowingKey) -> Told | None:
        """What the leader tells, in whichever worker; None where there is none."""
        ...

    def is_led(self, key: GrowingKey) -> bool:
        """Whether some worker has begun it. Cheap, and never waits."""
        ...

    async def abandoned(self, written_before: float) -> list[AbandonedBody]: ...

    async def remove(self, name: str) -> int | None:
        """How many bytes went; None where somebody is writing it."""
        ...

    async def remove_useless(self) -> list[RemovedThing]:
        """What nothing can go on from goes. To be called while nothing is on its way in."""
        ...

    async def taken_bytes(self) -> int: ...


# --- bodies that clients push -----------------------------------------------------------------------------------------


class UploadBody(Publishable, Protocol):
    """What a client pushes, open for one request alone."""

    @property
    def size_bytes(self) -> int: ...

    async def append(self, data: bytes | bytearray | memoryview) -> None:
        """Raises DiskFull; `size_bytes` then says how much was still written."""
        ...

    async def digest(self, algorithm: str) -> Digest:
        """Of the whole body."""
        ...

    async def discard(self) -> None:
        """The upload is over, and what has arrived is gone."""
        ...

    async def finished(self) -> None:
        """It was published and recorded: the upload is over."""
        ...

    async def close(self) -> None:
        """Give it up to the next request, unless it is over."""
        ...


class UploadStore(Protocol):
    """Uploads of all workers: any of them takes part in one. All but `begin` raise UploadUnknown."""

    async def begin(self, repository: RepositoryName) -> str:
        """A new, empty upload's id. Raises DiskFull."""
        ...

    async def size(self, repository: RepositoryName, upload_id: str) -> int: ...

    async def try_open(self, repository: RepositoryName, upload_id: str) -> UploadBody | None:
        """None while another request has it."""
        ...

    async def remove_stale(self, older_than: float) -> list[RemovedThing]:
        """What was last written before then goes, unless somebody is writing it."""
        ...
