"""What is known of a blob as seen from one repository: from memory, or from the catalog."""

from __future__ import annotations

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.pull.memory import Memory
from pullthrough.engine.rules import Target
from pullthrough.oci.digests import Digest
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.catalog.records import BlobRecord
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.threads import Runner


class BlobRecords:
    """Of one worker."""

    def __init__(
        self, blob_rows: BlobRows, answers: UpstreamAnswers, pushed: Pushed, run: Runner, memory: Memory, bodies: Bodies
    ) -> None:
        self._blob_rows = blob_rows
        self._answers = answers
        self._pushed = pushed
        self._run = run
        self._memory = memory
        self._bodies = bodies

    def from_memory(self, target: Target, digest: Digest) -> BlobRecord | None:
        """Of a blob that this repository may read; None says nothing about what `look` will find."""
        record: BlobRecord | None = self._memory.get(("blob", target.repository, target.owner, digest))
        return record

    async def look(self, target: Target, digest: Digest) -> tuple[BlobRecord, float | None]:
        """What is known, and until when a 404 for it is remembered. In one go, for a cold pull waits for it."""

        def look() -> tuple[BlobRecord, float | None]:
            record = self._blob_rows.find_blob(target.repository, target.owner, digest)
            if (record.published and record.granted) or target.is_own:
                return record, None
            return record, self._answers.find_negative(target.repository, target.upstream_owner, digest)

        stamp = self._memory.stamp()
        record, absent_until = await self._run(look)
        if record.published and record.granted and self._bodies.is_proved(record):
            self._memory.put(("blob", target.repository, target.owner, digest), record, stamp)
        return record, absent_until

    async def grant(self, target: Target, digest: Digest) -> None:
        """Let this repository read it: its own upstream has said that it has the blob."""
        await self._run(self._blob_rows.grant_blob, target.repository, target.upstream_owner, digest)

    async def regrant(self, target: Target, record: BlobRecord) -> bool:
        """Whether an own repository may read a published blob after all; see `Pushed.grant_named`."""
        return (
            record.published
            and record.named
            and await self._run(self._pushed.grant_named, target.repository, record.digest)
        )
