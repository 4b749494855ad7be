"""Fills of two workers on one folder, without sockets: who leads, who follows, and who may read whose bytes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import Rule
from pullthrough.engine.fills import HOLD_BACK_BYTES, Fill, Fills, LookAgain
from pullthrough.engine.partials import Partial, Sidecar, State, is_led, look_at
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import DigestMismatch, DiskFull, PullthroughError, StorageError, UpstreamUnavailable
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner, upstream_owner
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.folder import DataFolder
from pullthrough.storage.records import BlobRecord
from pullthrough.upstream.errands import Errand
from tests.owners import OWNER

BODY = bytes(range(256)) * 1000
DIGEST = digest_of(BODY)
OTHER = upstream_owner("r.example", "other", "joe")


@dataclass
class FakeBody:
    start: int
    total_bytes: int | None
    data: bytes
    etag: str = ""
    gate: threading.Event | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        if not self.data and self.gate is not None:
            self.gate.wait(10)
            raise UpstreamUnavailable("cut", upstream="r.example")
        count = min(len(buffer), len(self.data))
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class FakeUpstream:
    """Sends BODY, or as much of it as it may, then hangs until it is aborted or let go."""

    most: int | None = None
    body: bytes = BODY
    starts: list[int] = field(default_factory=list)
    niceness: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    #: Nothing is sent before.
    open: threading.Event | None = None
    fault: Exception | None = None

    #: Who waits in the queue, and how: each is let in once `admits` is set.
    queue: list[str] = field(default_factory=list)
    admits: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.admits.set()

    def errand(self) -> Errand:
        return Errand(30.0)

    @asynccontextmanager
    async def admit(self, repository: str, errand: Errand, *, behind: bool = False) -> AsyncIterator[None]:
        self.queue.append("behind" if behind else "ahead")
        await self.admits.wait()
        yield

    def open_blob(self, repository: str, digest: str, credential: object, *, start: int, **_: Any) -> FakeBody:
        self.starts.append(start)
        self.niceness.append(own_niceness())
        if self.open:
            self.open.wait(10)
        if self.fault:
            raise self.fault
        stop = len(self.body) if self.most is None else self.most
        return FakeBody(start, len(self.body), self.body[start:stop], gate=None if self.most is None else self.gate)


@dataclass
class FakeUpstreams:
    upstream: FakeUpstream

    def get(self, host: str) -> FakeUpstream:
        return self.upstream


@dataclass
class FakeCatalog:
    """What both workers see."""

    granted: set[tuple[str, str]] = field(default_factory=set)
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

    def publish_blob(self, repository: str, owner: Owner, digest: Digest, size_bytes: int, **_: object) -> None:
        self.may_publish.wait(10)
        self.granted.add((repository, digest))

    def grant_blob(self, repository: str, owner: Owner, digest: Digest) -> None:
        self.granted.add((repository, digest))


class NoMetrics:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@dataclass
class Worker:
    fills: Fills
    tasks: Tasks
    upstream: FakeUpstream
    ended: list[PullthroughError | None] = field(default_factory=list)


@dataclass
class House:
    folder: DataFolder
    catalog: FakeCatalog
    workers: list[Worker] = field(default_factory=list)

    def worker(self, upstream: FakeUpstream | None = None, boot_id: str = "boot") -> Worker:
        tasks, upstream = Tasks(), upstream or FakeUpstream()
        ended: list[PullthroughError | None] = []

        def call(function: Callable[..., Any], /, *arguments: Any) -> Any:
            return asyncio.get_running_loop().run_in_executor(None, function, *arguments)

        fills = Fills(
            store=BlobStore(self.folder),
            catalog=self.catalog,  # type: ignore[arg-type]  # as much of it as a fill needs
            call=call,  # type: ignore[arg-type]
            upstreams=FakeUpstreams(upstream),  # type: ignore[arg-type]
            tasks=tasks,
            metrics=NoMetrics(),  # type: ignore[arg-type]
            clock=lambda: 0.0,
            boot_id=boot_id,
            make_room=lambda _: None,
            max_fills=4,
            is_shared=True,
            ended=lambda _, error: ended.append(error),
        )
        worker = Worker(fills, tasks, upstream, ended)
        self.workers.append(worker)
        return worker

    @property
    def partial(self) -> Path:
        return BlobStore(self.folder).partial_path(DIGEST, OWNER)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with DataFolder.open(tmp_path / "data") as folder:
        house = House(folder, FakeCatalog())
        yield house
        for worker in house.workers:
            worker.upstream.gate.set()
            if worker.upstream.open:
                worker.upstream.open.set()
            await worker.tasks.close()
            worker.fills.close()


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def target(name: str = "hub/app", owner: Owner = OWNER) -> Target:
    rule = Rule(prefix="hub", upstream="r.example")
    return Target(rule, RepositoryName(name), name.partition("/")[2], owner)


async def body_of(fill: Fill) -> bytes:
    """As a client reads: attached before anything else, each part once it may be sent."""
    fill.attach()
    try:
        received = b""
        while (end := await fill.wait(len(received))) > len(received):
            received += os.pread(fill.fileno(), end - len(received), len(received))
        return received
    finally:
        fill.detach()


async def end_of(fill: Fill) -> None:
    """Raises what the fill ended with."""
    await fill.done
    await fill.wait(len(BODY))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads change it
            await asyncio.sleep(0.001)


async def test_two_workers_make_one_transfer(house: House) -> None:
    opened = threading.Event()
    first, second = house.worker(FakeUpstream(open=opened)), house.worker(FakeUpstream(open=opened))
    one, _ = first.fills.join(target(), DIGEST, size_bytes=None)
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: one.follows or two.follows)
    opened.set()
    assert [await body_of(one), await body_of(two)] == [BODY, BODY]
    assert len(first.upstream.starts) + len(second.upstream.starts) == 1
    await asyncio.gather(one.done, two.done)
    assert list(house.folder.fills_path.iterdir()) == []


async def test_a_fill_stands_behind_the_event_loop(house: House) -> None:
    worker, before = house.worker(), own_niceness()
    assert await body_of(worker.fills.join(target(), DIGEST, size_bytes=None)[0]) == BODY
    assert own_niceness() == before
    assert worker.upstream.niceness == [min(19, before + 7)]


async def test_a_reader_of_an_ended_fill_reads_on(house: House) -> None:
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    fill.attach()
    await fill.done
    assert await body_of(fill) == BODY
    fill.detach()
    assert fill.fileno() == -1


async def test_a_reader_does_not_keep_the_lock_of_a_failed_fill(house: House) -> None:
    """A slow client of the old attempt must not keep the next one from leading."""
    worker = house.worker(FakeUpstream(most=200_000))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    fill.attach()
    await fill.wait(0)
    fill.interrupt()
    worker.upstream.gate.set()
    with pytest.raises(UpstreamUnavailable):
        await end_of(fill)
    assert not is_led(house.partial)

    again = house.worker()
    next_fill, _ = again.fills.join(target(), DIGEST, size_bytes=None)
    assert await body_of(next_fill) == BODY
    assert again.upstream.starts == [200_000]
    fill.detach()


async def test_a_failure_of_an_earlier_attempt_is_not_believed(house: House) -> None:
    """Between a new leader's lock and its first word the file still has the last attempt's."""
    with Partial(house.partial) as leader:
        assert leader.try_lead()
        leader.write_sidecar(
            Sidecar(OWNER, "boot", State.FAILED, error={"type": "UpstreamDenied", "message": "old"}, attempt="old")
        )
        worker = house.worker()
        fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
        await until(lambda: fill.follows)
        leader.write_sidecar(Sidecar(OWNER, "boot", total_bytes=7, attempt="new"))
        await until(lambda: fill.size_bytes == 7)
        assert not fill.done.done()
        leader.write_sidecar(
            Sidecar(OWNER, "boot", State.FAILED, error={"type": "DiskFull", "message": "new"}, attempt="new")
        )
        with pytest.raises(DiskFull, match="new"):
            await end_of(fill)


async def test_a_verified_sidecar_that_outlived_its_file_does_not_release_another_one(house: House) -> None:
    """File numbers are given out again; the size tells."""
    with Partial(house.partial) as leader:
        assert leader.try_lead()
        leader.write_sidecar(Sidecar(OWNER, "boot", State.VERIFIED, len(BODY), attempt="old"))
        worker = house.worker()
        fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
        await until(lambda: fill.follows)
        os.pwrite(leader.fd, BODY[:-1], 0)
        leader.write_sidecar(Sidecar(OWNER, "boot", State.FILLING, len(BODY), attempt="new"))
        await until(lambda: fill.written_bytes > 0)
        assert fill.visible_bytes <= len(BODY) - 1 - HOLD_BACK_BYTES


async def test_a_follower_of_a_dead_leader_takes_over_where_it_was(house: House) -> None:
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY[:100_000], 0)
    leader.write_sidecar(Sidecar(OWNER, "boot", attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=len(BODY))
    await until(lambda: fill.written_bytes == 100_000)
    leader.close()
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [100_000]


async def test_another_owner_has_a_fill_of_its_own_and_hangs_on_nobody(house: House) -> None:
    """The other's upstream sends what it likes, a byte a second."""
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, b"EVIL" * 50_000, 0)
    leader.write_sidecar(Sidecar(OWNER, "boot", attempt="a"))
    worker = house.worker()
    fill, begun = worker.fills.join(target("hub/other", OTHER), DIGEST, size_bytes=None)
    assert begun
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [0]
    await fill.done
    assert house.catalog.granted == {("hub/other", DIGEST)}
    assert house.partial.exists()
    leader.close()


async def test_of_two_owners_who_ends_first_is_kept_and_the_other_ends_as_well(house: House) -> None:
    opened = threading.Event()
    slow, fast = house.worker(FakeUpstream(open=opened)), house.worker()
    last, _ = slow.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: bool(slow.upstream.starts))
    first, _ = fast.fills.join(target("hub/other", OTHER), DIGEST, size_bytes=None)
    assert await body_of(first) == BODY
    await first.done
    opened.set()
    assert await body_of(last) == BODY
    await last.done
    assert house.catalog.granted == {("hub/app", DIGEST), ("hub/other", DIGEST)}
    assert BlobStore(house.folder).size(DIGEST) == len(BODY)
    assert list(house.folder.fills_path.iterdir()) == []


async def test_another_name_of_the_same_owner_reads_along_and_may_read_it_after(house: House) -> None:
    opened = threading.Event()
    worker = house.worker(FakeUpstream(open=opened))
    fill, _ = worker.fills.join(target("hub/app"), DIGEST, size_bytes=None)
    same, begun = worker.fills.join(target("too/app"), DIGEST, size_bytes=None)
    assert (same, begun) == (fill, False)
    opened.set()
    assert await body_of(fill) == BODY
    await fill.done
    assert worker.upstream.starts == [0]
    assert house.catalog.granted == {("hub/app", DIGEST), ("too/app", DIGEST)}


@pytest.mark.parametrize("left", [None, (OWNER, "other boot"), (OTHER, "boot")])
async def test_leftovers_that_cannot_be_trusted_are_not_gone_on_with(
    house: House, left: tuple[str, str] | None
) -> None:
    with Partial(house.partial) as partial:
        partial.try_lead()
        os.pwrite(partial.fd, b"spoiled" * 1000, 0)
        if left:
            partial.write_sidecar(Sidecar(*left, attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [0]


async def test_a_blob_that_another_worker_just_publishes_is_not_transferred_again(house: House) -> None:
    """The file is in the store, the row is not in the catalog yet, and the lock is still held."""
    store = BlobStore(house.folder)
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY, 0)
    store.publish(house.partial, DIGEST)
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    sidecar = house.partial.with_name(house.partial.name + ".json")
    await until(sidecar.exists)
    house.catalog.granted.add(("hub/app", DIGEST))
    leader.close()
    with pytest.raises(LookAgain):
        await end_of(fill)
    assert worker.upstream.starts == []
    assert list(house.folder.fills_path.iterdir()) == []


async def test_a_follower_is_done_only_when_the_catalog_knows_the_blob(house: House) -> None:
    """What waits for the end, to grant the blob to one more repository, finds its row."""
    opened = threading.Event()
    leading, following = house.worker(FakeUpstream(open=opened)), house.worker()
    house.catalog.may_publish.clear()
    leading.fills.join(target(), DIGEST, size_bytes=len(BODY))
    await until(lambda: bool(leading.upstream.starts))
    follower, _ = following.fills.join(target("too/app"), DIGEST, size_bytes=len(BODY))
    await until(lambda: follower.follows)
    opened.set()
    assert await body_of(follower) == BODY
    await until(lambda: BlobStore(house.folder).size(DIGEST) is not None)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not follower.done.done()
    house.catalog.may_publish.set()
    await follower.done
    assert house.catalog.granted == {("hub/app", DIGEST), ("too/app", DIGEST)}


async def test_a_fill_that_is_published_before_anything_was_told_of_it_is_looked_up_again(house: House) -> None:
    """A small blob is filled between two looks."""
    leader = Partial(house.partial)
    leader.try_lead()
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: fill.follows)
    os.pwrite(leader.fd, BODY, 0)
    BlobStore(house.folder).publish(house.partial, DIGEST)
    house.catalog.granted.add(("hub/app", DIGEST))
    leader.close()
    with pytest.raises(LookAgain):
        await end_of(fill)


async def test_a_wrong_digest_reaches_readers_of_both_workers_and_leaves_nothing(house: House) -> None:
    opened = threading.Event()
    wrong = FakeUpstream(body=bytes(len(BODY)), open=opened)
    first, second = house.worker(wrong), house.worker(wrong)
    one, _ = first.fills.join(target(), DIGEST, size_bytes=None)
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: one.follows or two.follows)
    opened.set()
    for fill in (one, two):
        with pytest.raises(DigestMismatch):
            await body_of(fill)
    await until(lambda: not house.partial.exists())
    assert not BlobStore(house.folder).path(DIGEST).exists()


async def test_closing_waits_for_the_thread_that_writes_and_leaves_the_bytes(house: House) -> None:
    worker = house.worker(FakeUpstream(most=200_000))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await fill.wait(0)
    closing = asyncio.ensure_future(worker.tasks.close())
    await asyncio.sleep(0)
    worker.upstream.gate.set()
    await closing
    assert fill.fileno() == -1
    assert house.partial.read_bytes() == BODY[:200_000]
    told = json.loads(house.partial.with_name(house.partial.name + ".json").read_text())
    assert told["state"] == "filling"


async def test_a_fault_of_our_own_is_told_to_who_waits_and_leaves_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    worker = house.worker(FakeUpstream(fault=ZeroDivisionError("a fault")))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    async with asyncio.timeout(10):
        with pytest.raises(StorageError, match="failed on our side"):
            await fill.wait(0)
        await asyncio.wait((fill.done,))
    assert "ZeroDivisionError: a fault" in caplog.text
    assert list(house.folder.fills_path.iterdir()) == []
    worker.upstream.fault = None
    assert await body_of(worker.fills.join(target(), DIGEST, size_bytes=None)[0]) == BODY


async def test_closing_leaves_no_file_of_a_fill_in_the_queue(house: House) -> None:
    worker = house.worker()
    worker.upstream.admits.clear()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: fill.is_queued and bool(worker.upstream.queue))
    assert list(house.folder.fills_path.iterdir()) == []
    await worker.tasks.close()
    assert fill.fileno() == -1
    assert list(house.folder.fills_path.iterdir()) == []


async def test_closing_before_the_first_byte_leaves_nothing_and_a_follower_goes_on(house: House) -> None:
    opened = threading.Event()
    first, second = house.worker(FakeUpstream(open=opened)), house.worker()
    first.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: bool(first.upstream.starts))
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: two.follows)
    closing = asyncio.ensure_future(first.tasks.close())
    await asyncio.sleep(0)
    first.upstream.most = 0
    opened.set()
    await closing
    assert await body_of(two) == BODY
    await two.done
    assert second.upstream.starts == [0]
    assert list(house.folder.fills_path.iterdir()) == []


async def test_what_is_being_filled_can_be_looked_at_from_outside(house: House) -> None:
    worker, other = house.worker(FakeUpstream(most=200_000)), house.worker()
    published = BlobStore(house.folder).path(DIGEST)
    assert look_at(house.partial, published) is None
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await fill.wait(0)
    told = look_at(house.partial, published)
    assert told is not None
    assert (told.owner, told.total_bytes) == (OWNER, len(BODY))
    assert other.fills.size_of(target(), DIGEST) == worker.fills.size_of(target(), DIGEST) == len(BODY)
    assert other.fills.size_of(target("hub/app", OTHER), DIGEST) is None
    assert not house.partial.with_name("none").exists()


async def test_what_waits_in_the_queue_follows_when_another_worker_has_begun_it(house: House) -> None:
    busy, other = house.worker(), house.worker(FakeUpstream(most=200_000))
    busy.upstream.admits.clear()
    waiting, _ = busy.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: waiting.is_queued)
    other.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: waiting.follows and waiting.visible_bytes > 0)
    other.upstream.most = None
    other.upstream.gate.set()
    assert await body_of(waiting) == BODY
    assert busy.upstream.starts == []


async def test_what_nobody_waits_for_any_more_goes_behind_and_comes_ahead_again(house: House) -> None:
    worker = house.worker()
    worker.upstream.admits.clear()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    fill.attach()
    await until(lambda: worker.upstream.queue == ["ahead"])
    fill.detach()
    await until(lambda: worker.upstream.queue == ["ahead", "behind"])
    fill.attach()
    await until(lambda: worker.upstream.queue == ["ahead", "behind", "ahead"])
    worker.upstream.admits.set()
    assert await body_of(fill) == BODY
    fill.detach()


async def test_a_turn_that_is_brought_along_is_given_back_at_the_end(house: House) -> None:
    worker = house.worker()
    given_back: list[str] = []
    admitted = AsyncExitStack()
    admitted.callback(given_back.append, "the turn")
    fill, begun = worker.fills.join(target(), DIGEST, size_bytes=None, admitted=admitted)
    assert begun
    assert await body_of(fill) == BODY
    await fill.done
    assert (worker.upstream.queue, given_back) == ([], ["the turn"])
