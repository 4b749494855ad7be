"""The manifests and tags that are cached: from the catalog, and kept in memory."""

from __future__ import annotations

from pullthrough.engine.pull.memory import Memory
from pullthrough.engine.rules import Target
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference, Tag
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.records import ManifestRecord, TagRecord
from pullthrough.threads import Runner


class ManifestRecords:
    """Of one worker."""

    def __init__(self, manifest_rows: ManifestRows, call: Runner, memory: Memory) -> None:
        self._manifest_rows = manifest_rows
        self._call = call
        self._memory = memory

    def from_memory(self, target: Target, reference: Reference) -> ManifestRecord | TagRecord | None:
        """None says nothing about what is cached."""
        found: ManifestRecord | TagRecord | None = self._memory.get((target.repository, target.owner, reference))
        return found

    async def find_manifest(self, target: Target, digest: Digest) -> ManifestRecord | None:
        stamp = self._memory.stamp()
        record: ManifestRecord | None = await self._call(
            self._manifest_rows.find_manifest, target.repository, target.owner, digest
        )
        if record:
            self._memory.put((target.repository, target.owner, digest), record, stamp, len(record.body))
        return record

    async def find_tag(self, target: Target, tag: Tag) -> TagRecord | None:
        stamp = self._memory.stamp()
        record: TagRecord | None = await self._call(self._manifest_rows.find_tag, target.repository, target.owner, tag)
        if record:
            self._memory.put((target.repository, target.owner, tag), record, stamp, len(record.manifest.body))
        return record
