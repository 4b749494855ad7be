"""kill -9 at random instants: what was acknowledged is there and whole, and nothing else pretends to be.

And several processes at once: none loses what another wrote.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pullthrough.engine.keep.check import CheckReport, StoreCheck, no_pause, sweep
from pullthrough.engine.keep.eviction import Evictor
from pullthrough.engine.keep.planning import Limits
from pullthrough.oci.digests import Digest, digest_of, parse_digest
from pullthrough.oci.names import parse_repository_name, parse_tag
from pullthrough.oci.owners import Owner
from pullthrough.server.storage import Upkeep
from pullthrough.settings import SizeLimit
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.locks import FileLocks
from tests.contracts.images import image
from tests.effort import examples
from tests.owners import OWNER
from tests.unit.storage.processes import child

NGINX = parse_repository_name("docker-hub/library/nginx")
ROUNDS = examples(30)


def fill(folder: DataFolder, store: BlobFiles, catalog: Catalog, body: bytes, owner: Owner = OWNER) -> Digest:
    """As a fill ends: a whole body, published, recorded."""
    digest = digest_of(body)
    partial = store.partial_path(digest, owner)
    partial.write_bytes(body)
    store.publish(partial, digest)
    catalog.blobs.publish_blob(NGINX, OWNER, digest, len(body), boot_id=folder.boot_id, now=time.time())
    return digest


def check_all(
    folder: DataFolder, catalog: Catalog, *, repair: bool, clock: Callable[[], float] = time.time
) -> CheckReport:
    upkeep = Upkeep(folder, catalog.blobs)
    rows = (catalog.database, catalog.blobs, catalog.manifests)
    parts = (*rows, upkeep.store, upkeep.growing, upkeep.uploads, upkeep.bodies)
    return asyncio.run(StoreCheck(*parts, run=upkeep.run, repair=repair, clock=clock).run())


def evictor_of(folder: DataFolder, catalog: Catalog, max_size: int) -> Evictor:
    """An hour ahead, so that the minute of grace protects nothing."""
    upkeep = Upkeep(folder, catalog.blobs)
    return Evictor(
        catalog.usage,
        catalog.inventory,
        upkeep.store,
        upkeep.growing,
        upkeep.bodies,
        Limits(SizeLimit(size_bytes=max_size), SizeLimit()),
        run=upkeep.run,
        run_slow=upkeep.run,
        in_use=frozenset,
        locks=FileLocks(folder.locks_path),
        clock=lambda: time.time() + 3600,
        pause=no_pause,
    )


def work_until_killed(path: Path, start: int, *, evict: bool) -> Callable[[Callable[[str], None]], None]:
    def work(tell: Callable[[str], None]) -> None:
        folder = DataFolder.open(path, boot_id="boot")
        catalog, store = Catalog.open(folder.catalog_path), BlobFiles(folder)
        evictor = evictor_of(folder, catalog, 5_000)
        tell("begin")
        for number in count(start):
            layer, config = b"layer %d " % number * 20, b'{"number": %d}' % number
            what = image(config, [layer])
            catalog.manifests.save_manifest(
                NGINX, OWNER, what.digest, what.body, what.manifest, tag=parse_tag(f"t{number}"), now=time.time()
            )
            tell(f"t{number} {what.digest}")
            for body in (layer, config):
                tell(f"- {fill(folder, store, catalog, body)}")
            if evict:
                asyncio.run(evictor.run(dry_run=False))

    return work


@pytest.mark.parametrize("evict", [False, True], ids=["filling", "filling and evicting"])
def test_a_kill_at_any_instant_loses_nothing_acknowledged_and_serves_nothing_broken(
    tmp_path: Path, evict: bool
) -> None:
    chance = random.Random(20)
    path = tmp_path / "data"
    tags: dict[str, str] = {}
    blobs: set[Digest] = set()
    for round_ in range(ROUNDS):
        with child(work_until_killed(path, round_ * 1000, evict=evict)) as worker:
            assert worker.read_line() == "begin"
            lines = [worker.read_line() for _ in range(chance.randrange(12))]
            until = time.perf_counter() + chance.random() * 0.003
            while time.perf_counter() < until:
                os.sched_yield()
            worker.kill()
            while line := worker.read_line():
                lines.append(line)
        for line in lines:
            tag, digest = line.split()
            if tag == "-":
                blobs.add(parse_digest(digest))
            else:
                tags[tag] = digest

        with DataFolder.open(path, boot_id="boot") as folder:
            catalog, store = Catalog.open(folder.catalog_path), BlobFiles(folder)
            assert (
                check_all(folder, catalog, repair=False, clock=lambda: 0.0).problems == ()
            )  # 0: just renamed is no problem
            upkeep = Upkeep(folder, catalog.blobs)
            asyncio.run(sweep(upkeep.bodies, upkeep.growing))
            report = check_all(folder, catalog, repair=True)
            assert report.problems == ()
            assert report.blobs == len(list(store.iterate()))
            if not evict:
                assert {digest for digest, _ in store.iterate()} >= blobs
                for digest in blobs:
                    assert catalog.blobs.find_blob(NGINX, OWNER, digest).granted
                for tag, digest_text in tags.items():
                    found = catalog.manifests.find_tag(NGINX, OWNER, parse_tag(tag))
                    assert found is not None
                    assert found.manifest.digest == digest_text
            catalog.close()


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data"
    owner = DataFolder.open(path, boot_id="boot")
    Catalog.open(owner.catalog_path).close()

    def worker(name: int) -> Callable[[Callable[[str], None]], None]:
        def work(tell: Callable[[str], None]) -> None:
            folder = DataFolder.attach(path, boot_id="boot")
            catalog, store = Catalog.open(folder.catalog_path), BlobFiles(folder)
            for number in range(40):
                # Every second blob is the same in both: the later rename replaces the file.
                mine = number % 2 * (name + 1)
                digest = fill(
                    folder, store, catalog, b"%d %d" % (number, mine), owner=Owner(f"r.example/process-{name}")
                )
                what = image(b"%d" % name, [b"%d %d" % (number, mine)])
                catalog.manifests.save_manifest(
                    NGINX, OWNER, what.digest, what.body, what.manifest, tag=parse_tag(f"t{number}"), now=1
                )
                catalog.inventory.record_pulls({(NGINX, what.digest): time.time()}, {digest: time.time()})
            tell("done")

        return work

    with child(worker(0)) as one, child(worker(1)) as other:
        assert [one.read_line(), other.read_line()] == ["done", "done"]
        assert [one.wait(), other.wait()] == [0, 0]
    catalog = Catalog.open(owner.catalog_path)
    assert check_all(owner, catalog, repair=True).problems == ()
    totals = catalog.usage.totals()
    assert (totals.blobs, totals.manifests, totals.tags) == (60, 80, 40)
    catalog.close()
    owner.close()


def test_of_two_evictors_at_once_nothing_is_counted_twice(tmp_path: Path) -> None:
    path = tmp_path / "data"
    owner = DataFolder.open(path, boot_id="boot")
    catalog, store = Catalog.open(owner.catalog_path), BlobFiles(owner)
    for number in range(60):
        fill(owner, store, catalog, b"%04d" % number * 250)

    limit = 20_000 + catalog.usage.content_bytes()

    def work(tell: Callable[[str], None]) -> None:
        folder = DataFolder.attach(path, boot_id="boot")
        mine = Catalog.open(folder.catalog_path)
        report = asyncio.run(evictor_of(folder, mine, limit).run(dry_run=False))
        tell(str(report.freed_bytes))

    catalog.close()
    with child(work) as one, child(work) as other:
        freed = [int(one.read_line()), int(other.read_line())]
        assert [one.wait(), other.wait()] == [0, 0]
    catalog = Catalog.open(owner.catalog_path)
    assert sum(freed) == 40_000
    assert catalog.usage.blob_bytes() == 20_000
    assert check_all(owner, catalog, repair=True).problems == ()
    catalog.close()
    owner.close()
