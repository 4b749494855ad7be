"""Where a filled blob goes: into the store and the catalog, and to the repositories that asked for it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.rules import Target
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.bodies import GrowingBody
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.catalog.records import BlobRecord
from pullthrough.threads import Runner


class Landing:
    """Of one worker's fills."""

    def __init__(self, bodies: Bodies, blob_rows: BlobRows, run: Runner, clock: Callable[[], float]) -> None:
        self._bodies = bodies
        self._blob_rows = blob_rows
        self._run = run
        self._clock = clock

    async def look(self, target: Target, digest: Digest) -> BlobRecord:
        """What the catalog knows of the blob."""
        return await self._run(self._blob_rows.find_blob, target.repository, target.owner, digest)

    async def is_here(self, record: BlobRecord) -> bool:
        """Whether this repository may read it, and it is really here."""
        return record.published and record.granted and await self._bodies.is_stored(record.digest)

    async def publish(
        self,
        body: GrowingBody,
        target: Target,
        digest: Digest,
        size_bytes: int,
        *,
        makes_repository: bool,
        asked_as_nobody: bool,
        asked: Collection[RepositoryName],
    ) -> None:
        """Keep the verified body. `asked` are repositories of the target's owner that may read it as well; more of them may
        come while this waits. Raises StorageError, and then nothing was kept."""

        def record(boot_id: str) -> None:
            self._blob_rows.publish_blob(
                target.repository,
                target.upstream_owner,
                digest,
                size_bytes,
                boot_id=boot_id,
                now=self._clock(),
                makes_repository=makes_repository,
                asked_as_nobody=asked_as_nobody,
            )
            others = tuple(name for name in tuple(asked) if name != target.repository)
            self._grant_all(others, target.upstream_owner, digest)

        await self._bodies.publish(body, digest, record)

    async def grant(self, repositories: Collection[RepositoryName], target: Target, digest: Digest) -> None:
        """Let repositories of the target's owner read it, that asked here for another worker's fill, or under another rule."""
        await self._run(self._grant_all, tuple(repositories), target.upstream_owner, digest)

    def _grant_all(self, repositories: Collection[RepositoryName], owner: Owner, digest: Digest) -> None:
        for repository in repositories:
            record = self._blob_rows.find_blob(repository, owner, digest)
            if record.published and not record.granted:
                self._blob_rows.grant_blob(repository, owner, digest)
