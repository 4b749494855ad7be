"""When manifests and blobs were last pulled; gathered here and written in batches, since eviction needs days, not seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pullthrough.errors import StorageError
from pullthrough.oci.digests import Digest
from pullthrough.storage.catalog.inventory import Inventory
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)


class PullTimes:
    """`note_*` on the event loop, `flush` in a thread; a swap of the maps keeps the two apart."""

    def __init__(self, inventory: Inventory, clock: Callable[[], float]) -> None:
        self._inventory = inventory
        self._clock = clock
        self._manifests: dict[tuple[str, str], float] = {}
        self._blobs: dict[str, float] = {}

    def note_manifest(self, repository: str, digest: Digest) -> None:
        self._manifests[repository, digest] = self._clock()

    def note_blob(self, digest: Digest) -> None:
        self._blobs[digest] = self._clock()

    async def keep(self, call: Runner, interval_seconds: float) -> None:
        """Write them now and then."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await call(self.flush)
            except StorageError as error:
                _log.warning("pull times could not be written: %s", error)

    def flush(self) -> None:
        """Raises StorageError where they cannot be written; they are kept for the next time then."""
        manifests, self._manifests = self._manifests, {}
        blobs, self._blobs = self._blobs, {}
        if not manifests and not blobs:
            return
        try:
            self._inventory.record_pulls(manifests, blobs)
        except StorageError:
            self._manifests = manifests | self._manifests
            self._blobs = blobs | self._blobs
            raise
