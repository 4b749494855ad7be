"""What is fetched ahead: names until there is room, a few at once, behind clients, each upstream for itself."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pullthrough.demo.images import OCI_LAYER
from pullthrough.engine.pull.blobs.prefetch import MAX_NAMES, Prefetches
from pullthrough.engine.rules import Target
from pullthrough.errors import StorageError, UpstreamDenied, UpstreamThrottled, UpstreamUnavailable
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.manifests import Descriptor
from pullthrough.oci.owners import Owner, upstream_owner
from pullthrough.storage.catalog.records import BlobRecord
from pullthrough.storage.files.locks import FileLocks
from pullthrough.upstream.errands import Errand
from tests.unit.engine.house import (
    BODY,
    DIGEST,
    FakeCatalog,
    FakeUpstream,
    House,
    Worker,
    body_of,
    call,
    target,
)
from tests.waiting import until

#: A manifest may name so many blobs and be an image still.
LAYERS = 9990
AT_ONCE = 3
#: What no upstream here sends: its digest is no body's.
LAYER = Descriptor(digest_of(b"some layer"), 1000, OCI_LAYER)
WHOLE = Descriptor(DIGEST, len(BODY), OCI_LAYER)


def layers(count: int) -> list[Descriptor]:
    return [Descriptor(digest_of(b"%d" % number), 1000, OCI_LAYER) for number in range(count)]


@dataclass
class Ready(FakeCatalog):
    """Has everything already, and counts what it is asked for; the first `broken` questions fail."""

    looks: list[Digest] = field(default_factory=list)
    broken: int = 0

    def find_blob(self, repository: str, owner: Owner, digest: Digest) -> BlobRecord:
        self.looks.append(digest)
        if len(self.looks) <= self.broken:
            raise StorageError("the catalog is busy")
        return BlobRecord(digest, 1000, published=True, verified_boot="", granted=True, named=True, kind="layer")


@dataclass
class Refusing(FakeUpstream):
    """Lets nobody in."""

    error: type[UpstreamUnavailable | UpstreamThrottled] = UpstreamUnavailable

    @asynccontextmanager
    async def admit(
        self, repository: str, errand: Errand | None = None, *, behind: bool = False
    ) -> AsyncIterator[None]:
        self.queue.append("behind" if behind else "ahead")
        if self.error is UpstreamThrottled:
            raise UpstreamThrottled("not now", upstream="r.example", retry_after_seconds=60)
        raise UpstreamUnavailable("not now", upstream="r.example")
        yield


def prefetches(house: House, worker: Worker, at_once: int = AT_ONCE) -> Prefetches:
    return Prefetches(
        fills=worker.fills,
        blob_rows=house.catalog,  # type: ignore[arg-type]  # as much of it as is needed
        call=call,
        upstreams=worker.upstreams,
        tasks=worker.tasks,
        locks=FileLocks(house.folder.locks_path),
        per_upstream=at_once,
    )


def of(host: str) -> Target:
    return target("hub/app", upstream_owner(host, "app"), host)


def files(house: House) -> int:
    """What stands in the folder of fills, but for what is said about them."""
    return sum(1 for path in house.folder.fills_path.iterdir() if path.suffix != ".json")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the folder of this very listing among them


async def test_of_a_large_image_only_names_are_kept(house: House) -> None:
    worker = house.worker()
    worker.upstream.admits.clear()
    before, tasks = open_files(), len(asyncio.all_tasks())
    prefetches(house, worker).want(target(), layers(LAYERS))
    await until(lambda: len(worker.upstream.queue) == AT_ONCE)
    assert worker.upstream.queue == ["behind"] * AT_ONCE
    assert files(house) == 0
    assert worker.fills.digests() == set()
    assert open_files() <= before + AT_ONCE, "a lock for each"
    assert len(asyncio.all_tasks()) == tasks + AT_ONCE


async def test_no_more_are_filled_at_once_than_may_be(house: House) -> None:
    worker = house.worker(FakeUpstream(open=threading.Event()))
    prefetches(house, worker).want(target(), layers(LAYERS))
    await until(lambda: len(worker.upstream.starts) == AT_ONCE)
    assert (files(house), len(worker.fills.digests())) == (AT_ONCE, AT_ONCE)
    assert len(worker.upstream.queue) == AT_ONCE


async def test_two_workers_share_what_may_be_at_once(house: House) -> None:
    may_go_on = threading.Event()
    fault = UpstreamDenied("no", upstream="r.example")
    first, second = house.worker(FakeUpstream(open=may_go_on, fault=fault)), house.worker()
    prefetches(house, first).want(target(), layers(AT_ONCE + 2))
    await until(lambda: len(first.upstream.starts) == AT_ONCE)
    prefetches(house, second).want(target(), [WHOLE])
    # It looks again and again; there is nothing else to wait for.
    for _ in range(100):
        await asyncio.sleep(0)
    assert second.upstream.queue == []
    may_go_on.set()
    await until(lambda: bool(house.catalog.granted))
    assert second.upstream.starts == [0]


async def test_what_another_worker_fetches_takes_no_place_of_what_is_at_once(house: House) -> None:
    may_go_on, image = threading.Event(), layers(AT_ONCE)
    fault = UpstreamDenied("no", upstream="r.example")
    first, second = (house.worker(FakeUpstream(open=may_go_on, fault=fault)) for _ in range(2))
    prefetches(house, first).want(target(), image[:1])
    await until(lambda: len(first.upstream.starts) == 1)
    prefetches(house, second).want(target(), image)
    await until(lambda: len(second.upstream.starts) == AT_ONCE - 1)
    assert files(house) == AT_ONCE
    may_go_on.set()


@pytest.mark.parametrize("calls", [1, 9])
async def test_no_more_names_are_kept_of_an_upstream_than_may_be(house: House, calls: int) -> None:
    """However many images they are of."""
    house.catalog = Ready()
    ahead = prefetches(house, house.worker())
    image = layers(LAYERS)
    for _ in range(calls):
        ahead.want(target(), image)
    await until(lambda: len(house.workers[0].tasks._tasks) == 0)
    assert house.catalog.looks[:5] == [layer.digest for layer in image[:5]], "in the image's order"
    assert sorted(house.catalog.looks) == sorted(layer.digest for layer in image[:MAX_NAMES])


async def test_each_upstream_has_room_for_its_own_names(house: House) -> None:
    house.catalog = Ready()
    ahead = prefetches(house, house.worker())
    for host in ("one.example", "two.example", "one.example"):
        ahead.want(of(host), layers(LAYERS))
    await until(lambda: len(house.workers[0].tasks._tasks) == 0)
    assert len(house.catalog.looks) == 2 * MAX_NAMES


async def test_an_upstream_that_hangs_leaves_the_prefetches_of_others_alone(house: House) -> None:
    hanging, good = FakeUpstream(open=threading.Event()), FakeUpstream()
    worker = house.worker(hanging=hanging, good=good)
    # More than the worker's fills together, of which each upstream may have one though all are taken.
    ahead = prefetches(house, worker, at_once=16)
    ahead.want(of("hanging.example"), layers(LAYERS))
    await until(lambda: len(hanging.starts) == 4)
    ahead.want(of("good.example"), [WHOLE])
    await until(lambda: house.catalog.granted == {("hub/app", DIGEST)})
    assert (len(hanging.starts), good.starts) == (4, [0])


async def test_an_upstream_whose_queue_stands_leaves_the_others_alone(house: House) -> None:
    hanging, good = FakeUpstream(), FakeUpstream()
    hanging.admits.clear()
    worker = house.worker(hanging=hanging, good=good)
    ahead = prefetches(house, worker)
    ahead.want(of("hanging.example"), layers(LAYERS))
    await until(lambda: len(hanging.queue) == AT_ONCE)
    ahead.want(of("good.example"), [WHOLE])
    await until(lambda: house.catalog.granted == {("hub/app", DIGEST)})
    assert hanging.starts == []


async def test_what_a_client_begins_meanwhile_is_not_fetched_again(house: House) -> None:
    worker = house.worker()
    worker.upstream.admits.clear()
    ahead = prefetches(house, worker)
    ahead.want(target(), [WHOLE])
    await until(lambda: worker.upstream.queue == ["behind"])
    fill, begun = worker.fills.join(target(), DIGEST, size_bytes=None)
    assert begun
    reading = asyncio.ensure_future(body_of(fill))
    await until(lambda: worker.upstream.queue[-1] == "ahead")
    worker.upstream.admits.set()
    assert await reading == BODY
    await until(lambda: len(worker.tasks._tasks) == 0)
    assert worker.upstream.starts == [0]


async def test_what_is_here_or_comes_in_is_not_asked_for(house: House) -> None:
    worker = house.worker(FakeUpstream(open=threading.Event()))
    house.catalog.granted.add(("hub/app", LAYER.digest))
    worker.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: len(worker.upstream.starts) == 1)
    ahead = prefetches(house, worker)
    ahead.want(target(), [LAYER, WHOLE])
    assert worker.upstream.open
    await until(lambda: len(worker.tasks._tasks) == 1)
    assert worker.upstream.queue == ["behind"], "the fill, for which no client waits"
    worker.upstream.open.set()


@pytest.mark.parametrize("error", [UpstreamUnavailable, UpstreamThrottled])
async def test_names_of_an_upstream_that_is_not_asked_are_dropped(
    house: House, error: type[UpstreamUnavailable | UpstreamThrottled]
) -> None:
    """Nobody waits for them; the client that does will hear why."""
    refusing = Refusing(error=error)
    worker = house.worker(refusing)
    ahead = prefetches(house, worker)
    ahead.want(target(), layers(50))
    await until(lambda: len(worker.tasks._tasks) == 0)
    assert refusing.queue == ["behind"] * 50
    assert (refusing.starts, files(house)) == ([], 0)
    ahead.want(target(), layers(1))
    await until(lambda: len(refusing.queue) == 51)


async def test_a_fill_that_fails_makes_room_for_the_next(house: House) -> None:
    worker = house.worker(FakeUpstream(fault=UpstreamDenied("no", upstream="r.example")))
    prefetches(house, worker).want(target(), layers(10))
    await until(lambda: len(worker.upstream.starts) == 10)


async def test_a_catalog_that_fails_for_one_is_asked_for_the_next(house: House) -> None:
    house.catalog = Ready(broken=AT_ONCE)
    worker = house.worker()
    prefetches(house, worker).want(target(), layers(50))
    await until(lambda: len(worker.tasks._tasks) == 0)
    assert len(house.catalog.looks) == 50
