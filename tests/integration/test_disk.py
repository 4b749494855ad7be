"""Disks that run full, and eviction as a user meets it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from pullthrough.demo.images import Blob, make_image
from pullthrough.storage.files.locks import FileLocks
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Corrupt, ScriptedUpstream, Throttle, Valve
from tests.integration.lanes import sample
from tests.integration.sites import KIB, MIB, Broken, Corner, Download, Site, configuration, gather
from tests.programs import missing, needs_root


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@contextmanager
def small_disk(
    folder: Path, upstream: ScriptedUpstream, workers: int, size: str, serve: str = "", corners: int = 1
) -> Iterator[Site]:
    """An engine whose data folder is a file system of that size."""
    needs_root()
    serve = f'prefetch = false\nmin_free = "never"\nevict_interval = "1h"\n{serve}'
    engine = Engine(folder / "engine", configuration(upstream, workers, serve, corners=corners))
    engine.data.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(engine.data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        missing(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        try:
            engine.start()
            yield Site(engine, upstream, workers, [f"c{number}" for number in range(corners)])
        finally:
            engine.end()
    finally:
        subprocess.run(["umount", str(engine.data)], check=True)


def readiness(engine: Engine) -> tuple[int, dict[str, str]]:
    answer = engine.get("/readyz")
    return answer.status, json.loads(answer.body)["degraded"]


def test_a_blob_that_finds_no_room_is_passed_through_to_everybody_who_waits(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    with small_disk(tmp_path, upstream, workers, "8m", 'max_size = "never"') as site:
        corner, valve = site.corner(), Valve(2 * MIB)
        kept, large = corner.blob(256 * KIB), corner.blob(12 * MIB)
        assert corner.get(kept).body == kept.read()
        corner.wait_published(kept)
        # The look at the limits that follows would find room again once the half of a body is gone.
        wait_for(
            lambda: sample(site.engine.metrics(), "pullthrough_disk_bytes", what="stored") >= 256 * KIB,
            "the limits to be looked at",
        )
        corner.script(Throttle(valve), reference=large.digest, nth=1)
        # What is being read is not evicted, so that only passing through is left.
        downloads = [corner.open(large, connection=connection) for connection in site.two_connections()]
        ranged = corner.open(large, headers={"Range": f"bytes={3 * MIB}-{3 * MIB + 999}"})
        for download in downloads:
            assert download.read(1000) == large.read(0, 1000)
        valve.let_all()
        bodies = gather(2, lambda number: downloads[number].rest())
        assert bodies == [large.read(1000)] * 2
        assert ranged.rest() == large.read(3 * MIB, 3 * MIB + 1000)
        for download in (*downloads, ranged):
            download.close()

        first, *passed = corner.asked(large)
        assert first.range == ""
        assert all(record.range.startswith("bytes=") for record in passed)
        assert not corner.is_published(large)
        wait_for(lambda: not corner.partial(large).exists(), "the half of a body to go")
        for _ in range(4):
            status, degraded = readiness(site.engine)
            assert (status, list(degraded)) == (200, ["disk_full"])
        assert sample(site.engine.metrics(), "pullthrough_degraded", reason="disk_full") == 1
        assert "degraded: disk_full" in site.logged()

        again = corner.get(large)
        assert (again.status, again.body) == (200, large.read())

        # A blob that fits ends it.
        small = corner.blob(300 * KIB)
        assert corner.get(small).body == small.read()
        corner.wait_published(small)
        wait_for(lambda: readiness(site.engine) == (200, {}), "the engine to be well")


def test_a_wrong_body_that_is_passed_through_is_never_a_complete_one(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    with small_disk(tmp_path, upstream, workers, "4m", 'max_size = "never"') as site:
        corner = site.corner()
        blob = corner.blob(6 * MIB)
        corner.script(Corrupt(at=6 * MIB - 1))
        with corner.open(blob) as download:
            if download.status == 200:
                with pytest.raises(Broken):
                    download.rest()
            else:
                assert download.status == 502


def test_old_images_make_room_for_new_ones(tmp_path: Path, upstream: ScriptedUpstream, workers: int) -> None:
    with small_disk(tmp_path, upstream, workers, "12m", 'max_size = "never"', corners=6) as site:
        # Enough of them that the catalog's own writes do not decide whether one more has room.
        corners = [site.corner() for _ in range(5)]
        blobs = [corner.blob(2 * MIB) for corner in corners]
        *old, new = zip(corners, blobs, strict=True)
        for corner, blob in old:
            assert corner.get(blob).body == blob.read()
            corner.wait_published(blob)
        site.engine.stop()
        age(site.engine)
        site.engine.start()
        for pid in site.pids:  # counters of a worker that has counted nothing yet would find no room
            with Download(site.engine, "/metrics", connection=site.connect(pid)) as download:
                assert download.status == 200
        fill_up(site.engine.data / "filler")

        corner, blob = new
        assert corner.get(blob).body == blob.read()
        corner.wait_published(blob)
        assert corner.cost(blob) == {"GET": 1}
        published = [corner.is_published(blob) for corner, blob in old]
        assert published in ([False, True, True, True], [False, False, True, True])
        assert readiness(site.engine) == (200, {})
        corner, blob = old[0]
        assert corner.get(blob).body == blob.read()
        assert corner.cost(blob) == {"GET": 2}


def test_the_reserve_is_not_taken_back_while_room_is_made_with_it(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    with small_disk(tmp_path, upstream, workers, "12m", 'max_size = "never"', corners=6) as site:
        reserve = site.engine.data / "reserve"
        whole = reserve.stat().st_size
        assert whole > 0
        # As a worker that makes room at this moment.
        lock = FileLocks(site.engine.data / "locks").try_lock("reserve")
        assert lock is not None
        with lock:
            os.truncate(reserve, 0)
            # The limits are looked at after each publication; what a look before has done is done when the next has begun.
            for stored in (300 * KIB, 600 * KIB):
                corner = site.corner()
                blob = corner.blob(300 * KIB)
                assert corner.get(blob).body == blob.read()
                wait_for(partial(has_stored, site, stored), "the limits to be looked at")
            assert reserve.stat().st_size == 0
        corner = site.corner()
        blob = corner.blob(300 * KIB)
        assert corner.get(blob).body == blob.read()
        wait_for(lambda: reserve.stat().st_size == whole, "the reserve to be taken back")


def has_stored(site: Site, size_bytes: int) -> bool:
    """Whether the last look at the limits found so much."""
    return sample(site.engine.metrics(), "pullthrough_disk_bytes", what="stored") == size_bytes


def test_a_disk_that_others_have_filled_does_not_keep_clients_from_their_bodies(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    with small_disk(tmp_path, upstream, workers, "8m", 'max_size = "never"') as site:
        corner = site.corner()
        blob = corner.blob(MIB)
        filler = site.engine.data / "filler"
        fill_up(filler)
        answer = corner.get(blob)
        assert (answer.status, answer.body) == (200, blob.read())
        filler.unlink()
        assert corner.get(blob).body == blob.read()
        wait_for(lambda: corner.is_published(blob), "the blob to be kept once there is room")


def fill_up(path: Path) -> None:
    """Until not a byte fits."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, b"x" * 4096)
    except OSError:
        pass
    finally:
        os.close(descriptor)


# --- eviction --------------------------------------------------------------------------------------------------------


def evicting(tmp_path: Path, upstream: ScriptedUpstream, workers: int, max_size: str = "1MiB") -> Engine:
    serve = f'prefetch = false\nmin_free = "never"\nmax_size = "{max_size}"\nevict_interval = "1h"\npull_time_flush = "100ms"'
    return Engine(tmp_path / "engine", configuration(upstream, workers, serve, corners=5))


def age(engine: Engine) -> None:
    """An hour goes by: what was pulled in the last minute is never evicted. The engine must not be running."""
    with closing(sqlite3.connect(engine.data / "catalog.sqlite")) as catalog:
        for table in ("repository_manifests", "blobs"):
            catalog.execute(f"UPDATE {table} SET stored_at = stored_at - 3600, pulled_at = pulled_at - 3600")
        catalog.commit()


def pull(corner: Corner, size: int) -> Blob:
    blob = corner.blob(size)
    assert corner.get(blob).body == blob.read()
    corner.wait_published(blob)
    return blob


def test_least_recently_pulled_images_go_first_and_pinned_ones_stay(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    engine = evicting(tmp_path, upstream, workers)
    try:
        engine.start()
        site = Site(engine, upstream, workers, [f"c{number}" for number in range(5)])
        pinned, old, used, new = (site.corner() for _ in range(4))
        blobs = {}
        for corner, size in ((pinned, 200_000), (old, 300_000), (used, 310_000)):
            blobs[corner.prefix] = pull(corner, size)
        engine.command("pin", f"{pinned.prefix}/{pinned.repository}:200000")
        engine.stop()
        age(engine)
        engine.start()
        # The same image again: its manifest and its blob.
        assert engine.get(f"/v2/{used.prefix}/{used.repository}/manifests/310000").outcome == "hit"
        assert used.get(blobs[used.prefix]).outcome == "hit"
        blobs[new.prefix] = pull(new, 320_000)

        # 1.13 MB where 1 MiB may be: one image has to go.
        wait_for(lambda: not old.is_published(blobs[old.prefix]), "the eviction of the oldest image")
        assert [corner.is_published(blobs[corner.prefix]) for corner in (pinned, used, new)] == [True] * 3
        assert old.get(blobs[old.prefix]).body == blobs[old.prefix].read()
        assert old.cost(blobs[old.prefix]) == {"GET": 2}
    finally:
        engine.end()


def test_a_dry_run_says_what_would_go_and_leaves_it(tmp_path: Path, upstream: ScriptedUpstream, workers: int) -> None:
    engine = evicting(tmp_path, upstream, workers, "800KiB")
    try:
        engine.start()
        site = Site(engine, upstream, workers, ["c0", "c1"])
        first, second = site.corner(), site.corner()
        blobs = pull(first, 500_000), pull(second, 400_000)
        engine.stop()
        age(engine)
        report = json.loads(engine.command("evict", "--dry-run", "--json"))
        assert report["dry_run"] is True
        assert [entry["image"].partition("/")[0] for entry in report["evicted"]] == ["c0"]
        assert first.is_published(blobs[0])
        assert second.is_published(blobs[1])
        engine.command("evict")
        assert not first.is_published(blobs[0])
        assert second.is_published(blobs[1])
    finally:
        engine.end()


def test_shared_layers_stay_with_the_image_that_is_left(
    tmp_path: Path, upstream: ScriptedUpstream, workers: int
) -> None:
    engine = evicting(tmp_path, upstream, workers)
    try:
        engine.start()
        corner = Site(engine, upstream, workers, ["c0"]).corner()
        shared, first, second = (make_image(seed, layer_sizes=(400_000,)).blobs[1] for seed in ("s", "a", "b"))
        corner.add(make_image("first", layers=(shared, first)), "first")
        for blob in (shared, first):
            assert corner.get(blob).body == blob.read()
            corner.wait_published(blob)
        engine.stop()
        age(engine)
        engine.start()
        corner.add(make_image("second", layers=(shared, second)), "second")
        assert corner.get(shared).outcome == "hit"
        assert corner.get(second).body == second.read()
        wait_for(lambda: not corner.is_published(first), "the first image to go")
        assert corner.is_published(shared)
        assert corner.is_published(second)
    finally:
        engine.end()
