"""Small hits while the same process does heavy work: a cold fill, or blobs that are not in the page cache."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.assets import Image
from bench.builds import Build
from bench.load import run_small_load, start_body_load
from bench.machine import drop_from_page_cache
from bench.processes import START_SECONDS, Failed
from bench.report import Outcome, Target
from bench.run import Run, Scenario, in_turns
from bench.servers import Server, engine, fresh, upstream

IDLE = "idle"
FILL_SLOW = "beside a fill at 1 Gbit/s"
FILL_FAST = "beside a fill at full speed"
COLD_PAGES = "beside blobs outside the page cache"


def scenarios() -> list[Scenario]:
    return [Scenario("busy", "Small hits beside heavy work, one process on one core", _busy)]


def _busy(run: Run, outcome: Outcome) -> None:
    image, large = run.assets.whole, run.assets.of_size(run.assets.large_mib)
    case = "warm manifest by tag, 32 connections"
    with upstream(run.assets, run.folder("upstream")) as source, contextlib.ExitStack() as stack:
        residents = {
            build: stack.enter_context(
                fresh(engine(build, run.assets, source.url), run.folder(build.label("resident")))
            )
            for build in run.builds
        }
        for build, resident in residents.items():
            resident.warm(image, blobs=False)
            resident.warm(large)
            _wait_published(_stored(run, build, large))
        for number, condition, build in in_turns(run, [IDLE, FILL_SLOW, FILL_FAST, COLD_PAGES], warm_up=False):
            candidate = build.label(condition)
            if condition in (IDLE, COLD_PAGES):
                resident, file = residents[build], _stored(run, build, large)
                with _reading_from_disk(
                    run, resident, resident.blob_path(large), file, condition == COLD_PAGES
                ) as pace:
                    small = run_small_load(resident, resident.manifest_path(image, image.tag), seconds=run.seconds)
                outcome.add(case, number, candidate, {**small.values(), **pace})
                continue
            start = engine(build, run.assets, source.slow_url if condition == FILL_SLOW else source.url)
            with fresh(start, run.folder("filling")) as server:
                server.warm(image, blobs=False)
                server.warm(large, blobs=False)
                server.process.settle()
                client = start_body_load(run.load, server, server.blob_path(large))
                try:
                    small = run_small_load(server, server.manifest_path(image, image.tag), seconds=run.seconds)
                    early = client.poll() is not None
                finally:
                    client.kill()
                    client.communicate()
            if early:
                run.say(f"  {candidate}: the fill ended before the {run.seconds:.0f} s were over; the figure flatters")
            outcome.add(case, number, candidate, small.values())
    for condition in (FILL_SLOW, FILL_FAST, COLD_PAGES):
        outcome.targets += [
            Target(case, "requests_per_second", candidate=condition, peer=IDLE, at_least=0.7),
            Target(case, "p99_ms", candidate=condition, at_most=6),
        ]


def _stored(run: Run, build: Build, image: Image) -> Path:
    """The file in which the resident engine of this build has the image's layer."""
    digest = image.layer.digest.removeprefix("sha256:")
    return run.folder(build.label("resident")) / "data" / "blobs" / "sha256" / digest[:2] / digest


def _wait_published(file: Path) -> None:
    """A body is served whole before it is synced and in its place."""
    deadline = time.monotonic() + START_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise Failed(f"{file.name} was served, but is not in the store")
        time.sleep(0.05)


@contextlib.contextmanager
def _reading_from_disk(run: Run, server: Server, path: str, file: Path, wanted: bool) -> Iterator[dict[str, float]]:
    """One client that reads the blob again and again, its pages dropped before each time. Fills in the pace at the end."""
    pace: dict[str, float] = {}
    if not wanted:
        yield pace
        return
    stop = threading.Event()
    passes: list[float] = []
    clients: list[subprocess.Popen[str]] = []
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                drop_from_page_cache(file)
                client = start_body_load(run.load, server, path, seconds=run.seconds)
                clients.append(client)
                out, _ = client.communicate()
                if client.returncode == 0:
                    passes.append(_pace(out))
        except OSError as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield pace
    finally:
        stop.set()
        reader.join()
    if failures or not passes:
        raise Failed(f"nobody read the blob beside the small requests: {failures}")
    pace["body_mb_per_second"] = sum(passes) / len(passes)


def _pace(out: str) -> float:
    result = json.loads(out)
    return float(result["bytes"]) / 1e6 / float(result["seconds"])
