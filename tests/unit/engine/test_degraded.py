"""Why less is served than should be: known to every worker, without needing room on the disk."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pullthrough.engine.keep.degraded import Degradation, Degraded
from pullthrough.engine.keep.eviction import EvictionReport
from pullthrough.engine.keep.limits import DISK_FULL, LimitKeeper
from pullthrough.metrics import Metrics
from pullthrough.storage.bodies import Space
from pullthrough.threads import Threads
from tests.waiting import until


def test_what_one_worker_tells_the_others_know(tmp_path: Path) -> None:
    one, other = Degraded(tmp_path / "degraded"), Degraded(tmp_path / "degraded")
    assert one.read() == {}
    assert one.add("disk_full", "no room")
    assert not other.add("disk_full", "no room at all")
    assert one.read() == {"disk_full": "no room at all"}
    assert other.remove("disk_full")
    assert not one.remove("disk_full")
    assert one.read() == {}


def test_a_start_forgets_what_the_last_run_knew(tmp_path: Path) -> None:
    Degraded(tmp_path / "degraded").add("disk_full", "no room")
    again = Degraded(tmp_path / "degraded")
    again.clear()
    assert again.read() == {}


def test_a_sentence_of_any_length_fits(tmp_path: Path) -> None:
    degraded = Degraded(tmp_path / "degraded")
    degraded.add("disk_full", "é" * 100_000)
    assert degraded.read()["disk_full"].startswith("éé")


def test_a_torn_text_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "degraded"
    degraded = Degraded(path)
    degraded.add("disk_full", "no room")
    with path.open("r+b") as file:
        file.write(b'{"disk')
        file.write(b"\0")
    assert degraded.read() == {}


@dataclass
class Disk:
    """Half empty when it is looked at; `fills_up` at that moment."""

    degradation: Degradation
    fills_up: bool
    looks: list[str] = field(default_factory=list)

    async def space(self) -> Space:
        return Space(total_bytes=1000, free_bytes=500)

    def stored_bytes(self) -> int:
        return 500

    async def evict(self) -> EvictionReport:
        if self.fills_up:
            self.degradation.begin(DISK_FULL, "no room")
        return EvictionReport(False, (), 0, 500, None)

    async def restore_reserve(self) -> None:
        self.looks.append("done")


async def look(degradation: Degradation, *, fills_up: bool) -> None:
    """One look at the limits."""
    disk, threads = Disk(degradation, fills_up), Threads()
    keeper = LimitKeeper(
        room=disk,  # type: ignore[arg-type]  # as much of it as is needed
        usage=disk,  # type: ignore[arg-type]  # likewise
        store=disk,  # type: ignore[arg-type]  # likewise
        threads=threads,
        degradation=degradation,
        metrics=Metrics(),
        interval_seconds=3600.0,
    )
    keeping = asyncio.create_task(keeper.keep())
    await until(lambda: bool(disk.looks))
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    threads.close()


async def test_a_disk_that_has_room_again_is_not_full_any_more(tmp_path: Path) -> None:
    degradation = Degradation(Degraded(tmp_path / "degraded"), lambda reason, holds: None)
    degradation.begin(DISK_FULL, "no room")
    await look(degradation, fills_up=False)
    assert degradation.reasons == {}


async def test_a_disk_that_fills_up_during_a_look_stays_full_until_the_next(tmp_path: Path) -> None:
    degradation = Degradation(Degraded(tmp_path / "degraded"), lambda reason, holds: None)
    await look(degradation, fills_up=True)
    assert degradation.reasons == {DISK_FULL: "no room"}
