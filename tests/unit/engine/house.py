"""What fills are tested with, without sockets: workers on one folder, and upstreams that do as a test says."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pullthrough.declaration import Credential, Rule, SecretCredential
from pullthrough.engine.bodies import Bodies
from pullthrough.engine.pull.fills.fill import Fill
from pullthrough.engine.pull.fills.fills import Fills
from pullthrough.engine.pull.fills.landing import Landing
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import PullthroughError, UpstreamUnavailable
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner, upstream_owner
from pullthrough.storage.bodies import InFile
from pullthrough.storage.catalog.records import BlobRecord
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.growing import GrowingFiles
from pullthrough.storage.files.locks import FileLock, FileLocks
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import BlobBody
from tests.fakes.upstreams import MemoryBody, MemoryUpstream, MemoryUpstreams
from tests.owners import OWNER
from tests.waiting import PATIENCE_SECONDS

P = ParamSpec("P")
T = TypeVar("T")

BODY = bytes(range(256)) * 1000
DIGEST = digest_of(BODY)
OTHER = upstream_owner("r.example", "other", "joe")


@dataclass
class CutBody(MemoryBody):
    """Waits where its bytes end, and breaks off then."""

    gate: threading.Event = field(default_factory=threading.Event)

    def readinto(self, buffer: memoryview, /) -> int:
        if not self.data:
            self.gate.wait(PATIENCE_SECONDS)
            raise UpstreamUnavailable("cut", upstream="r.example")
        return super().readinto(buffer)


@dataclass
class FakeUpstream(MemoryUpstream):
    """Sends BODY for whatever blob, or as much of it as it may, then hangs until it is let go."""

    most: int | None = None
    body: bytes = BODY
    starts: list[int] = field(default_factory=list)
    niceness: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    #: Nothing is sent before.
    open: threading.Event | None = None

    #: Who waits in the queue, and how: each is let in once `admits` is set.
    queue: list[str] = field(default_factory=list)
    admits: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.admits.set()

    def admits_at_once(self, repository: str) -> bool:
        return self.admits.is_set()

    @asynccontextmanager
    async def admit(
        self, repository: str, errand: Errand | None = None, *, behind: bool = False
    ) -> AsyncIterator[None]:
        self.queue.append("behind" if behind else "ahead")
        await self.admits.wait()
        yield

    def open_blob(
        self,
        repository: str,
        digest: Digest,
        credential: Credential | None,
        *,
        start: int = 0,
        stop: int | None = None,
        if_range: str = "",
        errand: Errand | None = None,
        abort: AbortHandle,
    ) -> BlobBody:
        self.starts.append(start)
        self.niceness.append(own_niceness())
        if self.open:
            self.open.wait(PATIENCE_SECONDS)
        if self.fault:
            raise self.fault
        size, status = len(self.body), 206 if start else 200
        if self.most is None:
            return MemoryBody(status, start, size, self.body[start:])
        return CutBody(status, start, size, self.body[start : self.most], gate=self.gate)


class FakeUpstreams(MemoryUpstreams):
    """`upstream` answers for all hosts but `others`."""

    def __init__(self, upstream: FakeUpstream, others: dict[str, FakeUpstream]) -> None:
        super().__init__()
        self._upstream = upstream
        self._others = others

    def get(self, host: str) -> FakeUpstream:
        return self._others.get(host, self._upstream)

    def all(self) -> list[FakeUpstream]:
        return [self._upstream, *self._others.values()]


@dataclass
class FakeCatalog:
    """What both workers see."""

    granted: set[tuple[str, str]] = field(default_factory=set)
    #: Of what was published, whether it was asked for as nobody.
    asked_as_nobody: list[bool] = field(default_factory=list)
    #: Clear: who publishes waits, with the file in its place already.
    may_publish: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_publish.set()

    def find_blob(self, repository: str, owner: Owner, digest: Digest) -> BlobRecord:
        published = any(each == digest for _, each in self.granted)
        return BlobRecord(
            digest=digest,
            size_bytes=None,
            published=published,
            verified_boot="",
            granted=(repository, digest) in self.granted,
            named=False,
            kind="layer",
        )

    def publish_blob(
        self, repository: str, owner: Owner, digest: Digest, size_bytes: int, *, asked_as_nobody: bool, **_: object
    ) -> None:
        self.may_publish.wait(PATIENCE_SECONDS)
        self.asked_as_nobody.append(asked_as_nobody)
        self.granted.add((repository, digest))

    def grant_blob(self, repository: str, owner: Owner, digest: Digest) -> None:
        self.granted.add((repository, digest))

    def unknown_blobs(self, digests: Sequence[Digest]) -> list[Digest]:
        return [digest for digest in digests if all(digest != known for _, known in self.granted)]


class NoMetrics:
    def fills(self, *, active: int, queued: int) -> None: ...
    def fill_published(self, upstream: str, seconds: float) -> None: ...
    def fill_failed(self, upstream: str) -> None: ...
    def digest_mismatch(self, upstream: str) -> None: ...


def call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    return asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))


async def no_room(_needed_bytes: int) -> None:
    """There is enough."""


@dataclass
class Worker:
    fills: Fills
    tasks: Tasks
    upstream: FakeUpstream
    upstreams: FakeUpstreams
    ended: list[PullthroughError | None] = field(default_factory=list)


@dataclass
class House:
    folder: DataFolder
    catalog: FakeCatalog
    workers: list[Worker] = field(default_factory=list)

    def worker(self, upstream: FakeUpstream | None = None, boot_id: str = "boot", **others: FakeUpstream) -> Worker:
        """`others` are the upstreams of `<name>.example`."""
        tasks, upstream = Tasks(), upstream or FakeUpstream()
        upstreams = FakeUpstreams(upstream, {f"{name}.example": other for name, other in others.items()})
        ended: list[PullthroughError | None] = []

        files = BlobFiles(self.folder)
        files.boot_id = boot_id
        catalog: Any = self.catalog  # as much of it as a fill needs
        bodies = Bodies(
            FileBodies(files, call),
            catalog,
            FileLocks(self.folder.locks_path),
            run=call,
            run_slow=call,
            make_room=no_room,
        )
        fills = Fills(
            store=GrowingFiles(files, call),
            landing=Landing(bodies, catalog, call, lambda: 0.0),
            upstreams=upstreams,
            tasks=tasks,
            watcher=NoMetrics(),
            make_room=no_room,
            max_fills=4,
            is_shared=True,
            ended=lambda _, error: ended.append(error),
        )
        worker = Worker(fills, tasks, upstream, upstreams, ended)
        self.workers.append(worker)
        return worker

    @property
    def partial(self) -> Path:
        return BlobFiles(self.folder).partial_path(DIGEST, OWNER)


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def target(name: str = "hub/app", owner: Owner = OWNER, host: str = "r.example", secret: str = "") -> Target:
    """`secret` is the ARN of the one that the upstream is asked with."""
    rule = Rule(prefix="hub", upstream=host, credential=SecretCredential(secret) if secret else None)
    return Target(rule, RepositoryName(name), name.partition("/")[2], owner)


async def body_of(fill: Fill) -> bytes:
    """As a client reads: attached before anything else, each part once it may be sent."""
    fill.attach()
    try:
        received = b""
        while (end := await fill.wait(len(received))) > len(received):
            assert fill.body is not None
            received += await fill.body.read(len(received), end - len(received))
        return received
    finally:
        fill.detach()


async def end_of(fill: Fill) -> None:
    """Raises what the fill ended with."""
    await fill.done
    await fill.wait(len(BODY))


def fileno(fill: Fill) -> int:
    """That of the growing file; -1 where it is closed, or there is none yet."""
    return fill.body.fileno() if isinstance(fill.body, InFile) else -1


class BriefLocks(FileLocks):
    """Finds no descriptor left, the first time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = 0
        self.asked_again = asyncio.Event()

    def try_lock(self, key: str) -> FileLock | None:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        self.asked_again.set()
        return super().try_lock(key)
