"""Fills of two workers on one folder, without sockets: who leads, who follows, and who may read whose bytes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.folder import DataFolder
from pullthrough.storage.locks import Locks
from pullthrough.storage.records import BlobRecord

BODY = bytes(range(256)) * 1000
DIGEST = digest_of(BODY)


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

    @asynccontextmanager
    async def admit(self, *, behind: bool = False) -> AsyncIterator[None]:
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

    def find_blob(self, repository: str, digest: Digest) -> BlobRecord:
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

    def publish_blob(self, repository: str, digest: Digest, size_bytes: int, **_: object) -> None:
        self.may_publish.wait(10)
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
            locks=Locks(self.folder.locks_path),
            upstreams=FakeUpstreams(upstream),  # type: ignore[arg-type]
            tasks=tasks,
            metrics=NoMetrics(),  # type: ignore[arg-type]
            clock=lambda: 0.0,
            boot_id=boot_id,
            make_room=lambda _: None,
            max_fills=4,
            behind_per_upstream=3,
            ended=lambda _, error: ended.append(error),
        )
        worker = Worker(fills, tasks, upstream, ended)
        self.workers.append(worker)
        return worker

    @property
    def partial(self) -> Path:
        return BlobStore(self.folder).partial_path(DIGEST)


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


def target(name: str = "hub/app") -> Target:
    rule = Rule(prefix="hub", upstream="r.example")
    return Target(rule, RepositoryName(name), name.partition("/")[2])


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
    await asyncio.gather(one.owner(), two.owner())
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
            Sidecar("hub/app", "boot", State.FAILED, error={"type": "UpstreamDenied", "message": "old"}, attempt="old")
        )
        worker = house.worker()
        fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
        await until(lambda: fill.follows)
        leader.write_sidecar(Sidecar("hub/app", "boot", attempt="new"))
        await until(lambda: fill.known_owner == "hub/app")
        assert not fill.done.done()
        leader.write_sidecar(
            Sidecar("hub/app", "boot", State.FAILED, error={"type": "DiskFull", "message": "new"}, attempt="new")
        )
        with pytest.raises(DiskFull, match="new"):
            await end_of(fill)


async def test_a_verified_sidecar_that_outlived_its_file_does_not_release_another_one(house: House) -> None:
    """File numbers are given out again; the size tells."""
    with Partial(house.partial) as leader:
        assert leader.try_lead()
        leader.write_sidecar(Sidecar("hub/app", "boot", State.VERIFIED, len(BODY), attempt="old"))
        worker = house.worker()
        fill, _ = worker.fills.join(target("hub/other"), DIGEST, size_bytes=None)
        await until(lambda: fill.follows)
        os.pwrite(leader.fd, BODY[:-1], 0)
        leader.write_sidecar(Sidecar("hub/app", "boot", State.FILLING, len(BODY), attempt="new"))
        await until(lambda: fill.known_owner is not None)
        assert fill.visible_bytes <= len(BODY) - 1 - HOLD_BACK_BYTES


async def test_a_follower_of_a_dead_leader_takes_over_where_it_was(house: House) -> None:
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY[:100_000], 0)
    leader.write_sidecar(Sidecar("hub/app", "boot", attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=len(BODY))
    await until(lambda: fill.written_bytes == 100_000)
    leader.close()
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [100_000]


async def test_a_stranger_does_not_take_over_and_does_not_hang(house: House) -> None:
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY[:100_000], 0)
    leader.write_sidecar(Sidecar("hub/app", "boot", attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target("hub/other"), DIGEST, size_bytes=None)
    assert await fill.owner() == "hub/app"
    leader.close()
    with pytest.raises(LookAgain):
        await end_of(fill)
    assert worker.upstream.starts == []

    # The next one begins anew, with no byte of the other's.
    again, _ = worker.fills.join(target("hub/other"), DIGEST, size_bytes=None)
    assert await body_of(again) == BODY
    assert worker.upstream.starts == [0]


async def test_a_stranger_goes_on_for_the_owner_who_asked_here_as_well(house: House) -> None:
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY[:100_000], 0)
    leader.write_sidecar(Sidecar("hub/app", "boot", attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target("hub/other"), DIGEST, size_bytes=None)
    await fill.owner()
    same, begun = worker.fills.join(target("hub/app"), DIGEST, size_bytes=None)
    assert (same, begun) == (fill, False)
    leader.close()
    assert await body_of(fill) == BODY
    await fill.done
    assert worker.upstream.starts == [100_000]
    assert house.catalog.granted == {("hub/app", DIGEST)}


async def test_a_confirmed_repository_may_go_on(house: House) -> None:
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY[:100_000], 0)
    leader.write_sidecar(Sidecar("hub/app", "boot", attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target("hub/other"), DIGEST, size_bytes=None)
    await fill.owner()
    fill.confirm(RepositoryName("hub/other"))
    leader.close()
    assert await body_of(fill) == BODY
    await fill.done
    assert worker.upstream.starts == [100_000]
    assert house.catalog.granted == {("hub/other", DIGEST)}


@pytest.mark.parametrize("left", [None, ("hub/app", "other boot"), ("hub/other", "boot")])
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


async def test_a_proof_that_is_left_from_another_boot_is_begun_anew_under_its_readers(house: House) -> None:
    path = BlobStore(house.folder).partial_path(DIGEST, "hub/app")
    with Partial(path) as partial:
        partial.try_lead()
        os.pwrite(partial.fd, b"spoiled" * 20_000, 0)
        partial.write_sidecar(Sidecar("hub/app", "other boot", attempt="a"))
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=len(BODY), proof=True)
    assert await body_of(fill) == BODY


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
    leader, _ = leading.fills.join(target(), DIGEST, size_bytes=len(BODY))
    await leader.owner()
    follower, _ = following.fills.join(target("hub/other"), DIGEST, size_bytes=len(BODY))
    await follower.owner()
    opened.set()
    assert await body_of(follower) == BODY
    await until(lambda: BlobStore(house.folder).size(DIGEST) is not None)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not follower.done.done()
    house.catalog.may_publish.set()
    await follower.done
    assert house.catalog.granted == {("hub/app", DIGEST)}


async def test_a_fill_that_is_published_before_its_owner_is_known_is_nobodys(house: House) -> None:
    """A small blob is filled between two looks: whose it was can be read in the catalog only."""
    leader = Partial(house.partial)
    leader.try_lead()
    worker = house.worker()
    fill, _ = worker.fills.join(target("hub/other"), DIGEST, size_bytes=None)
    await until(lambda: fill.follows)
    os.pwrite(leader.fd, BODY, 0)
    BlobStore(house.folder).publish(house.partial, DIGEST)
    house.catalog.granted.add(("hub/app", DIGEST))
    leader.close()
    with pytest.raises(LookAgain):
        await end_of(fill)
    with pytest.raises(LookAgain):
        await fill.owner()


async def test_a_wrong_digest_reaches_readers_of_both_workers_and_leaves_nothing(house: House) -> None:
    opened = threading.Event()
    wrong = FakeUpstream(body=bytes(len(BODY)), open=opened)
    first, second = house.worker(wrong), house.worker(wrong)
    one, _ = first.fills.join(target(), DIGEST, size_bytes=None)
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await asyncio.gather(one.owner(), two.owner())
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


@pytest.mark.parametrize("begun", [True, False])
async def test_closing_leaves_no_file_of_a_prefetch_that_waits(house: House, begun: bool) -> None:
    worker = house.worker()
    held = [Locks(house.folder.locks_path).try_lock(f"prefetch r.example {number}") for number in range(3)]
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None, behind=True)
    if begun:
        await asyncio.sleep(0)
    assert house.partial.exists()
    await worker.tasks.close()
    assert fill.fileno() == -1
    assert list(house.folder.fills_path.iterdir()) == []
    for lock in held:
        assert lock
        lock.release()


async def test_closing_before_the_first_byte_leaves_nothing_and_a_follower_goes_on(house: House) -> None:
    opened = threading.Event()
    first, second = house.worker(FakeUpstream(open=opened)), house.worker()
    one, _ = first.fills.join(target(), DIGEST, size_bytes=None)
    await one.owner()
    await until(lambda: bool(first.upstream.starts))
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await two.owner()
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
    assert (told.repository, told.total_bytes) == ("hub/app", len(BODY))
    assert other.fills.size_of(target(), DIGEST) == worker.fills.size_of(target(), DIGEST) == len(BODY)
    assert other.fills.size_of(target("hub/other"), DIGEST) is None
    assert not house.partial.with_name("none").exists()


async def test_a_prefetch_in_the_queue_leaves_the_lead_to_a_client_of_another_worker(house: House) -> None:
    busy, other = house.worker(), house.worker()
    # All slots are taken, by whomever.
    held = [Locks(house.folder.locks_path).try_lock(f"prefetch r.example {number}") for number in range(3)]
    prefetch, _ = busy.fills.join(target(), DIGEST, size_bytes=None, behind=True)
    await asyncio.sleep(0)
    wanted, _ = other.fills.join(target(), DIGEST, size_bytes=None)
    assert await body_of(wanted) == BODY
    assert (len(busy.upstream.starts), len(other.upstream.starts)) == (0, 1)
    for lock in held:
        assert lock
        lock.release()
    with pytest.raises(LookAgain):
        await end_of(prefetch)


async def test_a_prefetch_in_the_queue_begins_at_once_when_a_client_wants_it(house: House) -> None:
    worker = house.worker()
    held = [Locks(house.folder.locks_path).try_lock(f"prefetch r.example {number}") for number in range(3)]
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None, behind=True)
    await asyncio.sleep(0)
    same, begun = worker.fills.join(target(), DIGEST, size_bytes=None)
    assert (same, begun) == (fill, False)
    assert await body_of(fill) == BODY
    for lock in held:
        assert lock
        lock.release()
