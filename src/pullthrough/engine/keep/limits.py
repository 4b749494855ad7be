"""The limits of what is stored, kept while the engine runs; and what it means for the engine where they cannot be."""

from __future__ import annotations

import asyncio
import logging

from pullthrough.engine.keep.degraded import Degradation
from pullthrough.engine.keep.eviction import EvictionReport
from pullthrough.engine.keep.room import DiskRoom
from pullthrough.engine.pull.fills.fill import Fill
from pullthrough.errors import DiskFull, PullthroughError, StorageError
from pullthrough.metrics import Metrics
from pullthrough.storage.bodies import BodyStore
from pullthrough.storage.catalog.usage import Usage
from pullthrough.threads import Threads
from pullthrough.units import format_bytes

_log = logging.getLogger(__name__)
DISK_FULL = "disk_full"
OVER_LIMIT = "over_limit"
#: This part of the disk being free, it is not full any more, though nothing has been written since.
_ROOM_AGAIN = 0.05


class LimitKeeper:
    """Evicts where the limits ask for it: now and then, and soon after something was published."""

    def __init__(
        self,
        *,
        room: DiskRoom,
        usage: Usage,
        store: BodyStore,
        threads: Threads,
        degradation: Degradation,
        metrics: Metrics,
        interval_seconds: float,
    ) -> None:
        self._room = room
        self._usage = usage
        self._store = store
        self._threads = threads
        self._degradation = degradation
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._evict_now = asyncio.Event()
        self._looks_over_limit = 0

    def fill_ended(self, fill: Fill, error: PullthroughError | None) -> None:
        """A fill has published its blob, or failed."""
        if isinstance(error, DiskFull):
            self._degradation.begin(DISK_FULL, error.message)
        elif error is None:
            self._degradation.end(DISK_FULL)
            self._evict_now.set()

    async def keep(self) -> None:
        while True:
            try:
                await self._look()
            except (StorageError, OSError) as error:
                _log.error("eviction failed: %s", error)
            self._evict_now.clear()
            # At most one look a second, however many fills end.
            await asyncio.sleep(min(1.0, self._interval_seconds))
            try:
                async with asyncio.timeout(max(0.0, self._interval_seconds - 1.0)):
                    await self._evict_now.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        was_full = DISK_FULL in self._degradation.reasons  # before the look: what begins behind it is news
        disk = await self._store.space()
        stored_bytes = await self._threads.catalog(self._usage.stored_bytes)
        self._metrics.disk(stored_bytes=stored_bytes, free_bytes=disk.free_bytes, total_bytes=disk.total_bytes)
        self._judge(await self._room.evict())
        await self._room.restore_reserve()
        if was_full and disk.free_bytes > _ROOM_AGAIN * disk.total_bytes:
            self._degradation.end(DISK_FULL)

    def _judge(self, report: EvictionReport) -> None:
        """Say so where the limits cannot be kept: then whatever is cached will not stay for long."""
        if report.limit_bytes is None or report.stored_bytes <= report.limit_bytes:
            self._looks_over_limit = 0
            self._degradation.end(OVER_LIMIT)
            return
        self._looks_over_limit += 1
        if self._looks_over_limit < 2:
            return  # another worker may be evicting at this moment
        self._degradation.begin(
            OVER_LIMIT,
            f"{format_bytes(report.stored_bytes)} are stored, max_size and min_free leave room for "
            f"{format_bytes(report.limit_bytes)}, and nothing more may be evicted now: all of it was pulled within the "
            "last minute, is in use, is pinned or was pushed",
        )
