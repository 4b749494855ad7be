"""Room on the disk: made where something does not fit, and where somebody asks for it."""

from __future__ import annotations

import logging

from pullthrough.engine.keep.eviction import EvictionReport, Evictor
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.errors import StorageError
from pullthrough.metrics import Metrics
from pullthrough.storage.bodies import BodyStore
from pullthrough.storage.files.reserve import Reserve
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Threads

_log = logging.getLogger(__name__)
#: Held by whoever makes room with the reserve: taken back in the middle, it would leave the catalog none to write with.
_RESERVE_LOCK = "reserve"
_RESERVE_PATIENCE_SECONDS = 10.0


class DiskRoom:
    """Of one worker."""

    def __init__(
        self,
        *,
        evictor: Evictor,
        reserve: Reserve,
        store: BodyStore,
        locks: Locks,
        pull_times: PullTimes,
        threads: Threads,
        metrics: Metrics,
    ) -> None:
        self._evictor = evictor
        self._reserve = reserve
        self._store = store
        self._locks = locks
        self._pull_times = pull_times
        self._threads = threads
        self._metrics = metrics

    async def evict(self, *, dry_run: bool = False, needed_bytes: int = 0) -> EvictionReport:
        """Remove what the limits leave no room for, and so much that `needed_bytes` are free."""
        report = await self._evictor.run(dry_run=dry_run, needed_bytes=needed_bytes)
        if not dry_run and report.freed_bytes:
            self._metrics.evicted(report.freed_bytes)
            _log.info("evicted %d images, %d bytes", len(report.evicted), report.freed_bytes)
        return report

    async def make(self, needed_bytes: int) -> None:
        """For who met a full disk. Evicting takes some room itself: the reserve's.

        Who waits for another too long goes on beside it: a full disk is worse than a reserve that is taken back early.
        """
        async with self._locks.hold_within(_RESERVE_LOCK, _RESERVE_PATIENCE_SECONDS):
            try:
                await self._threads.catalog(self._reserve.release)
                await self._threads.catalog(self._pull_times.flush)
                await self.evict(needed_bytes=needed_bytes + self._reserve.size_bytes)
                if (await self._store.space()).free_bytes >= needed_bytes + self._reserve.size_bytes:
                    await self._threads.catalog(self._reserve.restore)
            except (StorageError, OSError) as error:
                _log.error("no room could be made: %s", error)

    async def restore_reserve(self) -> None:
        """Unless somebody is making room with it at this moment."""
        async with self._locks.hold_within(_RESERVE_LOCK, 0.0) as held:
            if held:
                await self._threads.catalog(self._reserve.restore)
