"""Manifests by digest: once cached, their upstream is not asked again. A miss costs one GET."""

from __future__ import annotations

from pullthrough.engine.outcomes import CacheResult
from pullthrough.engine.pull.manifests.fetching import ManifestFetching
from pullthrough.engine.pull.manifests.records import ManifestRecords
from pullthrough.engine.pull.negatives import Negatives, wanted_manifest
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import UpstreamNotFound
from pullthrough.oci.digests import Digest
from pullthrough.storage.catalog.records import ManifestRecord
from pullthrough.storage.interfaces import Locks
from pullthrough.upstream.interfaces import Upstreams


class ManifestsByDigest:
    def __init__(
        self,
        *,
        records: ManifestRecords,
        fetching: ManifestFetching,
        negatives: Negatives,
        locks: Locks,
        upstreams: Upstreams,
        tasks: Tasks,
    ) -> None:
        self._records = records
        self._fetching = fetching
        self._negatives = negatives
        self._locks = locks
        self._upstreams = upstreams
        self._tasks = tasks

    async def get(self, target: Target, digest: Digest) -> tuple[ManifestRecord, CacheResult]:
        if record := await self._records.find_manifest(target, digest):
            return record, CacheResult.HIT
        await self._negatives.raise_if_remembered(wanted_manifest(target, digest))
        key = f"manifest:{target.repository}:{target.owner}:{digest}"
        (record, fetched), joined = await self._tasks.once(
            key, lambda: self._fill(target, digest, key), name=f"fetch {target.repository}@{digest}"
        )
        return record, CacheResult.JOINED if joined or not fetched else CacheResult.MISS

    async def _fill(self, target: Target, digest: Digest, lock: str) -> tuple[ManifestRecord, bool]:
        wanted = wanted_manifest(target, digest)
        async with self._upstreams.get(target.upstream).turn() as turn, self._locks.hold(lock):
            if record := await self._records.find_manifest(target, digest):
                return record, False
            await self._negatives.raise_if_remembered(wanted)
            try:
                return await self._fetching.fetch(target, digest, turn), True
            except UpstreamNotFound as error:
                raise await self._negatives.remember(wanted) from error
