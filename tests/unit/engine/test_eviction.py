from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.keep.eviction import EvictionReport, Evictor
from pullthrough.engine.keep.planning import STEP_BYTES, STEP_IMAGES, Limits
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName, parse_repository_name, parse_tag
from pullthrough.operations.json_form import to_json
from pullthrough.operations.room import EvictAnswer
from pullthrough.server.storage import on_a_loop_of_its_own
from pullthrough.settings import SizeLimit
from pullthrough.storage.bodies import Space
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.claims import NotKept
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.catalog.records import Totals
from pullthrough.storage.catalog.usage import Usage
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.files.growing import GrowingFiles
from pullthrough.storage.files.locks import FileLocks
from pullthrough.storage.registry.repositories import Repositories
from tests.contracts.images import Sample, image, index
from tests.effort import examples
from tests.owners import OWNER

P = ParamSpec("P")
T = TypeVar("T")

NGINX = parse_repository_name("docker-hub/library/nginx")
OTHER = parse_repository_name("quay/acme/other")
DAY = 86_400.0
NOW = 1_000 * DAY
NO_LIMIT = SizeLimit()


def body(name: str, size: int = 1000) -> bytes:
    return name.encode().ljust(size, b".")


class DiskOfSize(BlobFiles):
    """A store on a disk of 100,000 bytes, of which only the blobs take any."""

    def disk(self) -> Space:
        used = sum(size for _, size in self.iterate()) + self.partial_bytes()
        return Space(100_000, 100_000 - used)


class WeightlessUsage(Usage):
    """So that only the blobs take any."""

    def content_bytes(self) -> int:
        return 0


@dataclass
class Runs:
    """An evictor, from outside a loop."""

    evictor: Evictor

    def run(self, *, dry_run: bool, needed_bytes: int = 0) -> EvictionReport:
        return on_a_loop_of_its_own(self.evictor.run(dry_run=dry_run, needed_bytes=needed_bytes))


async def at_once(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


async def no_room(_needed_bytes: int) -> None:
    """Nothing is published here."""


@dataclass
class Store:
    """A catalog and its files, and what the engine says is in use."""

    folder: DataFolder
    catalog: Catalog
    blobs: BlobFiles
    locks: FileLocks
    generation: Generation
    now: float = NOW
    in_use: set[Digest] = field(default_factory=set)
    steps: int = 0

    def add(
        self,
        name: str,
        *,
        layers: Sequence[bytes] = (),
        tag: str = "",
        repository: RepositoryName = NGINX,
        pulled: float | None = None,
        stored: float = 1.0,
    ) -> Sample:
        """An image with all its blobs; times in days before now for pulls, in seconds for storing."""
        config = body(f"config of {name}", 100)
        what = image(config, layers or [body(f"layer of {name}")])
        for blob in (config, *(layers or [body(f"layer of {name}")])):
            self.publish(blob, repository)
        return self.save(what, tag, repository, pulled, stored)

    def add_index(
        self,
        children: Sequence[Sample],
        *,
        tag: str = "",
        pulled: float | None = None,
        repository: RepositoryName = NGINX,
    ) -> Sample:
        return self.save(index(children), tag, repository, pulled, 1.0)

    def save(self, what: Sample, tag: str, repository: RepositoryName, pulled: float | None, stored: float) -> Sample:
        self.catalog.manifests.save_manifest(
            repository, OWNER, what.digest, what.body, what.manifest, tag=parse_tag(tag) if tag else None, now=stored
        )
        if pulled is not None:
            self.pull(what, pulled, repository)
        return what

    def pull(self, what: Sample, days_ago: float, repository: RepositoryName = NGINX) -> None:
        self.catalog.inventory.record_pulls({(repository, what.digest): self.now - days_ago * DAY}, {})

    def publish(self, content: bytes, repository: RepositoryName = NGINX, stored: float = 1.0) -> Digest:
        digest = self.file(content)
        self.catalog.blobs.publish_blob(repository, OWNER, digest, len(content), boot_id="boot", now=stored)
        return digest

    def file(self, content: bytes) -> Digest:
        digest = digest_of(content)
        partial = self.blobs.partial_path(digest, OWNER)
        partial.write_bytes(content)
        self.blobs.publish(partial, digest)
        return digest

    def evictor(
        self,
        *,
        max_size: int | None = None,
        min_free: SizeLimit = NO_LIMIT,
        between: Callable[[], object] = lambda: None,
        sleep: Callable[[float], object] = lambda _seconds: None,
    ) -> Runs:
        """`between` happens between the steps."""

        async def pause() -> None:
            self.steps += 1
            between()

        async def asleep(seconds: float) -> None:
            sleep(seconds)

        growing, store = GrowingFiles(self.blobs, at_once), FileBodies(self.blobs, at_once)
        evictor = Evictor(
            self.catalog.usage,
            self.catalog.inventory,
            store,
            growing,
            Bodies(store, self.catalog.blobs, self.locks, run=at_once, run_slow=at_once, make_room=no_room),
            Limits(SizeLimit(size_bytes=max_size), min_free),
            run=at_once,
            run_slow=at_once,
            in_use=lambda: self.in_use,
            locks=FileLocks(self.folder.locks_path, sleep=asleep),
            clock=lambda: self.now,
            pause=pause,
        )
        return Runs(evictor)

    def evict(self, *, max_size: int | None = None, needed_bytes: int = 0, dry_run: bool = False) -> list[str]:
        report = self.evictor(max_size=max_size).run(dry_run=dry_run, needed_bytes=needed_bytes)
        self.assert_consistent()
        return names(report)

    def evict_all(self) -> list[str]:
        return self.evict(max_size=0)

    def has(self, what: Sample, repository: RepositoryName = NGINX) -> bool:
        return self.catalog.manifests.find_manifest(repository, None, what.digest) is not None

    def assert_consistent(self) -> None:
        """Every row has its file and every file its row."""
        assert dict(self.blobs.iterate()) == {
            blob.digest: blob.size_bytes for blob in self.catalog.blobs.stored_blobs()
        }
        assert self.catalog.database.find_damage() == []


def names(report: EvictionReport) -> list[str]:
    """The images' tags in order; what has none by its repository, a blob by its digest."""
    return [item.image.partition(":")[2] or item.image or item.digest for item in report.evicted]


@contextmanager
def open_store(path: Path, *, catalog_counts: bool) -> Iterator[Store]:
    with DataFolder.open(path, boot_id="boot") as folder:
        generation = Generation(folder.generation_path, 0, 1)
        catalog = Catalog.open(folder.catalog_path, generation)
        if not catalog_counts:
            catalog.usage = WeightlessUsage(catalog.database)
        yield Store(folder, catalog, DiskOfSize(folder), FileLocks(folder.locks_path), generation)
        catalog.close()
        generation.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "data", catalog_counts=False) as store:
        yield store


@pytest.fixture
def heavy(tmp_path: Path) -> Iterator[Store]:
    """A store whose catalog counts."""
    with open_store(tmp_path / "data", catalog_counts=True) as store:
        yield store


# Order and amount


def test_the_least_recently_pulled_image_goes_first_and_no_more_than_is_needed(store: Store) -> None:
    old, older, new = (store.add(name, tag=name, pulled=days) for name, days in (("old", 5), ("older", 9), ("new", 1)))
    assert store.evict(max_size=3300) == []
    assert store.evict(max_size=3299) == ["older"]
    assert (store.has(older), store.has(old), store.has(new)) == (False, True, True)
    assert store.catalog.usage.stored_bytes() == 2200


def test_what_was_pulled_long_after_it_was_stored_counts_as_recent(store: Store) -> None:
    store.add("hot", tag="hot", stored=1, pulled=0.5)
    store.add("cold", tag="cold", stored=NOW - DAY)
    assert store.evict(max_size=2000) == ["cold"]


def test_an_evicted_image_is_gone_by_tag_and_by_digest_alike(store: Store) -> None:
    gone = store.add("gone", tag="gone", pulled=3)
    store.catalog.answers.save_listing(NGINX, OWNER, f"referrers:{gone.digest}", b"{}", now=1)
    before = store.generation.read()
    store.evict_all()
    assert store.catalog.manifests.find_tag(NGINX, OWNER, parse_tag("gone")) is None
    assert not store.has(gone)
    assert store.catalog.answers.find_listing(NGINX, OWNER, f"referrers:{gone.digest}") is None
    assert not Repositories(store.catalog.database).is_there(NGINX, OWNER)
    assert store.generation.read() != before


def test_what_was_evicted_can_be_filled_again(store: Store) -> None:
    store.add("image", tag="image", pulled=3)
    store.evict_all()
    again = store.add("image", tag="image", pulled=0)
    assert store.has(again)
    assert store.catalog.blobs.find_blob(NGINX, OWNER, digest_of(body("layer of image"))).granted
    assert store.evict_all() == []  # just pulled


def test_nothing_goes_while_the_limits_hold(store: Store) -> None:
    store.add("image", pulled=300)
    assert store.evict() == []
    assert store.evict(max_size=10_000) == []
    assert store.steps == 0


def test_a_changed_limit_applies_to_what_is_stored_already(store: Store) -> None:
    store.add("image", tag="image", pulled=300)
    assert store.evict(max_size=10_000) == []
    assert store.evict(max_size=10) == ["image"]


def test_min_free_binds_where_it_is_the_tighter_limit(store: Store) -> None:
    for number in range(10):
        store.add(f"n{number}", tag=f"n{number}", pulled=10 - number)
    evictor = store.evictor(max_size=50_000, min_free=SizeLimit(percent=91))
    report = evictor.run(dry_run=False)
    assert names(report) == ["n0", "n1"]
    assert (
        "under min_free by 2.0 KiB" in report.evicted[0].reason or "under min_free by 2000" in report.evicted[0].reason
    )
    assert report.limit_bytes == 9_000
    assert report.stored_bytes == 8_800


def test_needed_bytes_make_room_beyond_the_limits(store: Store) -> None:
    store.add("old", tag="old", pulled=9)
    store.add("new", tag="new", pulled=1)
    assert store.evict(needed_bytes=97_800) == []
    assert store.evict(needed_bytes=97_801) == ["old"]
    assert store.evict(max_size=1100, needed_bytes=1) == ["new"]


# Shared blobs


def test_a_blob_that_another_image_names_stays_until_that_one_goes(store: Store) -> None:
    shared = body("shared", 5000)
    first = store.add("first", layers=[shared, body("a")], tag="first", pulled=9)
    second = store.add("second", layers=[shared, body("b")], tag="second", pulled=1)
    assert store.evict(max_size=6200) == ["first"]
    assert not store.has(first)
    assert store.blobs.size(digest_of(shared)) == 5000
    report = store.evictor(max_size=0).run(dry_run=False)
    assert [item.freed_bytes for item in report.evicted] == [6100]
    assert not store.has(second)
    assert store.blobs.size(digest_of(shared)) is None


def test_a_blob_shared_with_another_repository_stays_readable_there(store: Store) -> None:
    shared = body("shared", 5000)
    store.add("mine", layers=[shared], tag="mine", pulled=9)
    theirs = store.add("theirs", layers=[shared], tag="theirs", repository=OTHER, pulled=1)
    store.evict(max_size=5100)
    assert store.has(theirs, OTHER)
    assert store.catalog.blobs.find_blob(OTHER, OWNER, digest_of(shared)).granted
    assert store.blobs.size(digest_of(shared)) == 5000


def test_a_manifest_kept_by_another_repository_stays_there(store: Store) -> None:
    store.add("same", tag="mine", pulled=9)
    same = store.add("same", tag="theirs", repository=OTHER, pulled=1)
    assert store.evict(max_size=0)[0] == "mine"
    store.add("same", tag="theirs", repository=OTHER, pulled=0)
    assert store.has(same, OTHER)


def test_whole_images_go_though_the_last_of_several_frees_the_shared_blob(store: Store) -> None:
    shared = body("shared", 5000)
    for number in range(3):
        store.add(f"n{number}", layers=[shared], tag=f"n{number}", pulled=9 - number)
    report = store.evictor(max_size=200).run(dry_run=False)
    assert names(report) == ["n0", "n1", "n2"]
    assert [item.freed_bytes for item in report.evicted] == [100, 100, 5100]


def test_a_blob_that_no_manifest_names_goes_by_its_own_last_pull(store: Store) -> None:
    lone = store.publish(body("lone"), stored=NOW - 5 * DAY)
    store.add("older", tag="older", pulled=9)
    store.add("newer", tag="newer", pulled=1)
    assert store.evict(max_size=1101) == ["older", lone]
    assert store.catalog.blobs.find_blob(NGINX, OWNER, lone).published is False


def test_a_repository_that_is_left_with_nothing_is_no_longer_listed(store: Store) -> None:
    store.publish(body("lone"), OTHER)
    assert Repositories(store.catalog.database).is_there(OTHER, OWNER)
    store.evict_all()
    assert Repositories(store.catalog.database).names("", 10) == []


# Indexes


def test_a_child_counts_as_pulled_when_its_index_is(store: Store) -> None:
    child = store.add("child", pulled=100)
    store.add_index([child], tag="multi", pulled=1)
    store.add("single", tag="single", pulled=50)
    assert store.evict(max_size=1100) == ["single"]
    assert store.has(child)


def test_a_child_that_nobody_ever_pulled_is_not_protected_by_its_index(store: Store) -> None:
    never = store.add("never", stored=NOW - 60 * DAY)
    pulled = store.add("pulled", pulled=100)
    store.add_index([never, pulled], tag="multi", pulled=1)
    store.add("single", tag="single", pulled=50)
    store.evict(max_size=2200)
    assert not store.has(never)
    assert store.has(pulled)


def test_a_child_of_an_index_in_an_index_counts_too(store: Store) -> None:
    child = store.add("child", pulled=100)
    inner = store.add_index([child], pulled=100)
    store.add_index([inner], tag="outer", pulled=1)
    store.add("single", tag="single", pulled=50)
    assert store.evict(max_size=1100) == ["single"]


def test_an_index_goes_right_after_the_last_of_its_stored_children(store: Store) -> None:
    one = store.add("one", tag="one", pulled=20)
    two = store.add("two", tag="two", pulled=10)
    store.add_index([one, two], tag="multi", pulled=30)
    store.add("last", tag="last", pulled=5)
    assert store.evict_all() == ["one", "two", "multi", "last"]


def test_an_index_stays_while_a_child_of_it_is_protected(store: Store) -> None:
    one, two = store.add("one", tag="one", pulled=20), store.add("two", tag="two", pulled=10)
    multi = store.add_index([one, two], tag="multi", pulled=30)
    store.in_use = {digest_of(body("layer of two"))}
    assert store.evict_all() == ["one"]
    assert store.has(multi)


def test_an_index_whose_children_were_never_stored_goes_by_its_own_pull(store: Store) -> None:
    absent = image(body("absent"), [body("absent layer")])
    store.add_index([absent], tag="multi", pulled=30)
    store.add("single", tag="single", pulled=5)
    assert store.evict(max_size=0) == ["multi", "single"]


# What is never taken


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_pinned_image_stays(store: Store, by: str) -> None:
    pinned = store.add("pinned", tag="pinned", pulled=900)
    store.add("other", tag="other", pulled=1)
    store.catalog.pins.pin(NGINX, "pinned" if by == "tag" else pinned.digest, NOW)
    assert store.evict_all() == ["other"]
    store.catalog.pins.unpin(NGINX, "pinned" if by == "tag" else pinned.digest)
    assert store.evict_all() == ["pinned"]


def test_a_pinned_index_keeps_its_children_and_a_pinned_child_its_index(store: Store) -> None:
    one, two = store.add("one", tag="one", pulled=20), store.add("two", tag="two", pulled=10)
    multi = store.add_index([one, two], tag="multi", pulled=30)
    outer = store.add_index([multi], tag="outer", pulled=30)
    store.catalog.pins.pin(NGINX, "multi", NOW)
    assert store.evict_all() == []
    store.catalog.pins.unpin(NGINX, "multi")
    store.catalog.pins.pin(NGINX, two.digest, NOW)
    assert store.evict_all() == ["one"]
    assert store.has(two)
    assert store.has(multi)
    assert store.has(outer)


def test_a_pin_protects_in_its_own_repository_only(store: Store) -> None:
    store.add("same", tag="same", pulled=9)
    store.add("same", tag="same", repository=OTHER, pulled=9)
    store.catalog.pins.pin(OTHER, "same", NOW)
    report = store.evictor(max_size=0).run(dry_run=False)
    assert [item.image for item in report.evicted] == [f"{NGINX}:same"]
    assert report.freed_bytes == 0


def test_what_was_stored_or_pulled_within_the_last_minute_stays(store: Store) -> None:
    store.add("pulled", tag="pulled", pulled=59 / DAY)
    store.add("stored", tag="stored", pulled=900, stored=NOW - 59)
    store.publish(body("blob"), stored=NOW - 59)
    store.add("idle", tag="idle", pulled=61 / DAY, stored=NOW - 61)
    assert store.evict_all() == ["idle"]


@pytest.mark.parametrize("filled", [True, False], ids=["served", "being filled"])
def test_an_image_with_a_blob_in_use_stays_whole(store: Store, filled: bool) -> None:
    busy = store.add("busy", tag="busy", pulled=9)
    layer = digest_of(body("layer of busy"))
    if not filled:
        store.catalog.blobs.forget_blob(layer)
        store.blobs.remove(layer)
    lone = store.publish(body("lone"))
    store.in_use = {layer, lone}
    assert store.evict_all() == []
    assert store.has(busy)
    store.in_use = set()
    assert set(store.evict_all()) == {"busy", lone}


def test_what_is_pulled_after_the_plan_was_made_stays(store: Store) -> None:
    for number in range(STEP_IMAGES * 2):
        store.add(f"n{number}", tag=f"n{number}", pulled=100 - number)
    last = store.add("last", tag="last", pulled=1)
    evictor = store.evictor(max_size=0, between=lambda: store.pull(last, 0))
    assert "last" not in names(evictor.run(dry_run=False))
    assert store.has(last)
    assert store.steps >= 2


def test_an_index_pulled_after_the_plan_was_made_keeps_its_child(store: Store) -> None:
    for number in range(STEP_IMAGES):
        store.add(f"n{number}", tag=f"n{number}", pulled=100 - number)
    child = store.add("child", pulled=5)
    multi = store.add_index([child], tag="multi", pulled=5)
    store.evictor(max_size=0, between=lambda: store.pull(multi, 0)).run(dry_run=False)
    assert store.has(child)


def test_a_pin_set_after_the_plan_was_made_holds(store: Store) -> None:
    for number in range(STEP_IMAGES):
        store.add(f"n{number}", tag=f"n{number}", pulled=100 - number)
    last = store.add("last", tag="last", pulled=1)
    store.evictor(max_size=0, between=lambda: store.catalog.pins.pin(NGINX, "last", NOW)).run(dry_run=False)
    assert store.has(last)


# Bodies that never became blobs


def test_partial_bodies_count_and_abandoned_ones_go(store: Store) -> None:
    abandoned, written, recent = (
        store.blobs.partial_path(digest_of(name), OWNER) for name in (b"abandoned", b"written", b"recent")
    )
    for path, days in ((abandoned, 2), (written, 2), (recent, 0)):
        path.write_bytes(bytes(5000))
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    abandoned.with_name(abandoned.name + ".json").write_text("{}")
    store.add("image", tag="image", pulled=1)
    with written.open() as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        report = store.evictor(max_size=11_200).run(dry_run=False)
    assert [item.digest for item in report.evicted] == [digest_of(b"abandoned")]
    assert "an incomplete body, last written 2 days ago" in report.evicted[0].reason
    assert report.stored_bytes == 16_102 - 5000
    assert not abandoned.exists()
    assert written.exists()
    assert recent.exists()


# Runs


def test_a_dry_run_says_exactly_what_a_run_then_does(store: Store) -> None:
    shared = body("shared", 3000)
    child = store.add("child", layers=[shared, body("x")], pulled=30)
    store.add_index([child], tag="multi", pulled=40)
    store.add("one", layers=[shared], tag="one", pulled=20)
    store.publish(body("lone"), stored=NOW - 25 * DAY)
    store.add("two", tag="two", pulled=10)
    planned = store.evictor(max_size=900).run(dry_run=True)
    assert store.catalog.usage.totals().manifests == 4
    done = store.evictor(max_size=900).run(dry_run=False)
    assert planned.dry_run
    assert planned.evicted == done.evicted
    assert (planned.freed_bytes, planned.stored_bytes) == (done.freed_bytes, done.stored_bytes)
    assert store.catalog.usage.stored_bytes() == done.stored_bytes
    store.assert_consistent()


def test_the_report_says_what_went_and_why(store: Store) -> None:
    gone = store.add("gone", tag="gone", pulled=12)
    store.catalog.manifests.save_manifest(
        NGINX, OWNER, gone.digest, gone.body, gone.manifest, tag=parse_tag("alias"), now=1
    )
    report = store.evictor(max_size=0).run(dry_run=True)
    assert json.loads(json.dumps(to_json(EvictAnswer.of(report)))) == {
        "dry_run": True,
        "evicted": [
            {
                "image": "docker-hub/library/nginx:alias,gone",
                "digest": gone.digest,
                "bytes": 1100,
                "last_pulled": "1972-09-15T00:00:00Z",
                "reason": "over max_size by 1.1 KiB; last pulled 12 days ago",
            }
        ],
        "freed_bytes": 1100,
        "stored_bytes": 0,
        "limit_bytes": 0,
    }


def test_an_image_that_was_never_pulled_says_so(store: Store) -> None:
    store.add("never", tag="never", stored=NOW - 3700)
    report = store.evictor(max_size=0).run(dry_run=True)
    assert report.evicted[0].reason.endswith("; never pulled, stored 1 hour ago")
    assert EvictAnswer.of(report).evicted[0].last_pulled is None


def test_without_limits_there_is_none_to_report(store: Store) -> None:
    assert store.evictor().run(dry_run=False).limit_bytes is None


def test_steps_are_small(store: Store) -> None:
    for number in range(20):
        store.add(f"n{number}", pulled=100 - number)
    store.evict_all()
    assert store.steps == 3


def test_a_step_ends_at_its_bytes(store: Store) -> None:
    for number in range(3):
        what = store.add(f"n{number}", pulled=100 - number)
        layer = what.manifest.layers[0].digest
        store.catalog.blobs.publish_blob(NGINX, OWNER, layer, STEP_BYTES - 500, boot_id="boot", now=1)
    store.evictor(max_size=0).run(dry_run=False)
    assert store.steps == 3


def test_a_run_that_is_stopped_leaves_everything_consistent_and_the_next_goes_on(store: Store) -> None:
    for number in range(20):
        store.add(f"n{number}", pulled=100 - number)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.evictor(max_size=0, between=stop).run(dry_run=False)
    store.assert_consistent()
    assert store.catalog.usage.totals().manifests == 20 - STEP_IMAGES
    store.add("fresh", tag="fresh", pulled=0)
    assert len(store.evict_all()) == 20 - STEP_IMAGES


def test_beside_another_evictor_nothing_is_done(store: Store) -> None:
    store.add("image", tag="image", pulled=9)
    with store.locks.try_lock("evict") or pytest.fail("free"):
        assert store.evict_all() == []
        assert store.evict(max_size=0, dry_run=True) == ["image"]
    assert store.evict_all() == ["image"]


def test_a_full_disk_waits_for_another_evictor_and_then_frees_only_what_is_still_needed(store: Store) -> None:
    for number in range(4):
        store.add(f"n{number}", tag=f"n{number}", pulled=10 - number)
    lock = store.locks.try_lock("evict")
    assert lock is not None
    seen: list[str] = []

    def other_finishes(_seconds: float) -> None:
        lock.release()
        seen.extend(names(store.evictor(max_size=3300).run(dry_run=False)))

    report = store.evictor(sleep=other_finishes).run(dry_run=False, needed_bytes=97_000)
    assert seen == ["n0"]
    assert names(report) == ["n1"]


def test_a_full_disk_does_not_wait_for_ever(store: Store) -> None:
    store.add("image", tag="image", pulled=9)
    with store.locks.try_lock("evict") or pytest.fail("free"):
        assert store.evict(needed_bytes=100_000) == []


def test_a_file_that_is_missing_already_stops_nothing(store: Store) -> None:
    store.add("image", tag="image", pulled=9)
    store.blobs.remove(digest_of(body("layer of image")))
    report = store.evictor(max_size=0).run(dry_run=False)
    assert (names(report), report.freed_bytes) == (["image"], 100)


def test_a_large_store_is_planned_with_a_bounded_number_of_questions(store: Store) -> None:
    for number in range(150):
        what = image(b"%d" % number, [b"layer %d" % number])
        store.save(what, "", NGINX, 200 - number, 1.0)
    assert len(store.evict(needed_bytes=200_000)) == 150


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.lists(
        st.tuples(st.sets(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 50), st.booleans()), max_size=7
    ),
    limit=st.integers(0, 9000),
)
def test_whatever_is_stored_the_limit_holds_or_only_pinned_images_are_left(
    store: Store, images: list[tuple[set[int], int, bool]], limit: int
) -> None:
    pinned_bodies: set[bytes] = set()
    for number, (layers, days, pinned) in enumerate(images):
        bodies = [body(f"layer {layer}") for layer in sorted(layers)]
        store.add(f"n{number}", layers=bodies, tag=f"n{number}", pulled=days)
        if pinned:
            store.catalog.pins.pin(NGINX, f"n{number}", NOW)
            pinned_bodies |= {*bodies, body(f"config of n{number}", 100)}
    planned = store.evictor(max_size=limit).run(dry_run=True)
    done = store.evictor(max_size=limit).run(dry_run=False)
    assert planned.evicted == done.evicted
    assert done.stored_bytes == store.catalog.usage.stored_bytes()
    assert done.stored_bytes <= max(limit, sum(len(content) for content in pinned_bodies))
    for content in pinned_bodies:
        assert store.blobs.size(digest_of(content)) == len(content)
    pulled = [item.last_pulled_at for item in done.evicted]
    assert pulled == sorted(pulled, key=lambda at: at or 0)
    for repository, reference in store.catalog.pins.all():
        store.catalog.pins.unpin(repository, reference)
    store.evict_all()
    assert store.catalog.usage.totals() == Totals(0, 0, 0, 0, store.catalog.usage.totals().stored_bytes)
    assert store.catalog.usage.stored_bytes() == 0


def push(store: Store, what: Sample, repository: RepositoryName, now: float) -> None:
    Pushed(store.catalog.database).put_manifest(
        repository, what.digest, what.body, what.manifest, tag=parse_tag("1"), now=now
    )


def test_what_was_pushed_stays_with_its_blobs_and_the_children_it_needs(store: Store) -> None:
    pushed = Pushed(store.catalog.database)
    team = parse_repository_name("team/app")
    shared, config = body("shared"), body("config", 100)
    mine = image(config, [shared])
    child = image(config, [body("of the child")])
    for content in (config, shared, body("of the child")):
        pushed.publish_blob(team, store.file(content), len(content), boot_id="boot", now=1)
    for what in (mine, child, index([child])):
        push(store, what, team, 1)
    cached = store.add("cached", layers=[shared, body("its own")], pulled=100)
    assert store.evict_all() == [str(NGINX)]
    assert not store.has(cached)
    assert store.has(mine, team)
    assert store.has(child, team)
    assert store.blobs.size(digest_of(shared)) == 1000


def test_a_blob_that_was_just_pushed_waits_a_day_for_its_manifest(store: Store) -> None:
    team = parse_repository_name("team/app")
    digest = store.file(body("waiting"))
    Pushed(store.catalog.database).publish_blob(team, digest, 1000, boot_id="boot", now=store.now)
    assert store.evict_all() == []
    store.now += DAY + 120
    assert store.evict_all() == [digest]


def test_an_image_whose_blobs_are_pushed_while_it_is_about_to_go_leaves_them(store: Store) -> None:
    samples = [store.add(f"image {number}", tag=str(number), pulled=100) for number in range(STEP_IMAGES + 1)]
    last, team = samples[-1], parse_repository_name("team/app")

    def between() -> None:
        for blob in last.manifest.blobs:
            Pushed(store.catalog.database).mount_blob(team, blob.digest, source=NGINX, owner=OWNER, now=store.now)
        push(store, last, team, store.now)

    report = store.evictor(max_size=0, between=between).run(dry_run=False)
    assert len(report.evicted) == STEP_IMAGES + 1
    assert store.has(last, team)
    assert all(store.blobs.size(blob.digest) is not None for blob in last.manifest.blobs)


# The catalog itself

MIB = 1024 * 1024


def large(store: Store, name: str, days_ago: float, repository: RepositoryName = NGINX, mib: float = 2) -> Sample:
    """An image without blobs of its own, with a manifest of this size."""
    made = image(b"", [], annotations={"pad": name.ljust(int(mib * MIB), ".")})
    return store.save(made, name, repository, days_ago, 1.0)


def test_an_empty_catalog_takes_nothing_and_a_manifest_what_it_has(heavy: Store) -> None:
    assert heavy.catalog.usage.stored_bytes() == 0
    large(heavy, "one", 1)
    assert 2 * MIB <= heavy.catalog.usage.content_bytes() <= 2 * MIB + 64 * 1024
    assert (
        heavy.catalog.usage.totals().stored_bytes
        == heavy.catalog.usage.stored_bytes()
        == heavy.catalog.usage.content_bytes()
    )
    report = heavy.evictor(max_size=0).run(dry_run=False)
    assert (names(report), report.freed_bytes) == (["one"], 2 * MIB)
    assert heavy.catalog.usage.content_bytes() < 64 * 1024


def test_manifests_count_towards_the_limit(heavy: Store) -> None:
    for number in range(3):
        large(heavy, f"n{number}", 9 - number, mib=1.5)
    assert heavy.evict(max_size=5 * MIB) == []
    assert heavy.evict(max_size=4 * MIB) == ["n0"]


def test_a_manifest_that_another_image_is_too_frees_nothing_before_that_goes(heavy: Store) -> None:
    large(heavy, "one", 9)
    large(heavy, "one", 3, OTHER)
    large(heavy, "two", 2)
    report = heavy.evictor(max_size=3 * MIB).run(dry_run=False)
    assert [(item.image, item.freed_bytes) for item in report.evicted] == [
        (f"{NGINX}:one", 0),
        (f"{OTHER}:one", 2 * MIB),
    ]


def test_half_of_the_limit_is_for_the_catalog_and_more_of_it_is_not_kept(heavy: Store) -> None:
    limits = Limits(SizeLimit(size_bytes=20 * MIB), NO_LIMIT)
    assert Limits(NO_LIMIT, NO_LIMIT).most_catalog_bytes(100) is None
    assert Limits(SizeLimit(size_bytes=5), NO_LIMIT).most_catalog_bytes(100) == 8 * MIB
    heavy.catalog.usage.max_content_bytes = limits.most_catalog_bytes(100 * MIB)
    assert heavy.catalog.usage.max_content_bytes == 10 * MIB
    for number in range(4):
        large(heavy, f"n{number}", 9)
    with pytest.raises(NotKept, match=r"manifests and lists may take 10\.0 MiB"):
        large(heavy, "n4", 9)
    large(heavy, "n3", 8)  # it is there
    heavy.catalog.answers.save_listing(NGINX, OWNER, "tags", b"[]", now=NOW)
    with pytest.raises(NotKept):
        heavy.catalog.answers.save_listing(NGINX, OWNER, "more", b"x" * 3 * MIB, now=NOW)
    assert heavy.catalog.usage.totals().manifests == 4


def test_a_catalog_of_more_than_its_part_is_made_smaller_though_the_limit_holds(heavy: Store) -> None:
    lone = heavy.publish(body("named by nobody"))
    for number in range(4):
        large(heavy, f"n{number}", 9 - number)
    heavy.add("small", tag="small", pulled=20)
    assert heavy.catalog.usage.content_bytes() > 8 * MIB
    assert heavy.evict(max_size=24 * MIB) == [], "nine MiB are three quarters of its part"
    assert heavy.evict(max_size=16 * MIB) == ["small", "n0", "n1"], "six MiB are"
    assert heavy.blobs.size(lone) is not None, "a blob is no part of it"


def test_lists_are_the_first_to_go_and_the_oldest_of_them(heavy: Store) -> None:
    for number in range(4):
        heavy.catalog.answers.save_listing(NGINX, OWNER, f"n{number}", b"x" * 2 * MIB, now=NOW - 1000 * (4 - number))
    heavy.catalog.answers.save_listing(NGINX, OWNER, "now", b"x" * MIB, now=NOW)
    large(heavy, "image", 9, mib=1)
    assert heavy.evict(max_size=16 * MIB) == []
    kept = [kind for kind in ("n0", "n1", "n2", "n3", "now") if heavy.catalog.answers.find_listing(NGINX, OWNER, kind)]
    assert kept == ["n3", "now"], "10 MiB and a little are to be 6"
    assert heavy.catalog.usage.content_bytes() <= 6 * MIB + 64 * 1024
