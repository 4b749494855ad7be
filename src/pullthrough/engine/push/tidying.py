"""Removes abandoned uploads, and blobs that nothing names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pullthrough.engine.bodies import Bodies
from pullthrough.errors import StorageError
from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import UploadStore
from pullthrough.storage.catalog.inventory import LOOSE_SECONDS
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.files.uploads import STALE_SECONDS
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)
_TIDY_SECONDS = 3600.0


class Tidying:
    """`in_use`: blobs that this worker sends or fills. `call_slow` is the threads for bodies."""

    def __init__(
        self,
        *,
        uploads: UploadStore,
        pushed: Pushed,
        bodies: Bodies,
        in_use: Callable[[], set[Digest]],
        locks: Locks,
        call_slow: Runner,
        clock: Callable[[], float],
    ) -> None:
        self._uploads = uploads
        self._pushed = pushed
        self._bodies = bodies
        self._in_use = in_use
        self._locks = locks
        self._call_slow = call_slow
        self._clock = clock

    async def keep(self) -> None:
        """Remove abandoned uploads and blobs that nothing names, now and then; one worker at a time."""
        while True:
            try:
                if lock := self._locks.try_lock("tidy"):
                    with lock:
                        await self._tidy()
            except (StorageError, OSError) as error:
                _log.error("uploads and blobs that nobody wants could not be removed: %s", error)
            await asyncio.sleep(_TIDY_SECONDS)

    async def _tidy(self) -> None:
        now = self._clock()
        uploads = await self._uploads.remove_stale(now - STALE_SECONDS)
        blobs = await self._call_slow(
            self._pushed.collect_blobs, loose_since=now - LOOSE_SECONDS, in_use=self._in_use()
        )
        freed = await self._bodies.collect([blob.digest for blob in blobs])
        if uploads or blobs:
            _log.info(
                "removed %d files of abandoned uploads, and %d blobs (%d bytes) that no manifest names",
                len(uploads),
                len(blobs),
                sum(freed.values()),
            )
