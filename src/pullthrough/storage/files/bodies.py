"""Published bodies as files (blobs.py), for the event loop.

Opening and looking at a file is done on the loop: it is what a warm pull waits for, and a hop to a thread and back takes ten
times as long as the system call. All else goes through threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice

from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import BodyFacts, Space
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.reading import StoredFile
from pullthrough.threads import Runner

_LISTED_AT_ONCE = 500


class FileBodies:
    """The published bodies of one data folder."""

    def __init__(self, files: BlobFiles, run: Runner) -> None:
        self._files = files
        self._run = run

    @property
    def boot_id(self) -> str:
        return self._files.boot_id

    async def open(self, digest: Digest) -> StoredFile | None:
        descriptor = self._files.open(digest)
        return None if descriptor is None else StoredFile(descriptor, self._run)

    async def find(self, digest: Digest) -> BodyFacts | None:
        return self._files.facts(digest)

    async def delete(self, digest: Digest) -> int:
        return await self._run(self._files.remove, digest)

    async def digests(self) -> AsyncIterator[list[Digest]]:
        files = self._files.iterate()
        while part := await self._run(lambda: [digest for digest, _ in islice(files, _LISTED_AT_ONCE)]):
            yield part

    async def strangers(self) -> list[str]:
        return [str(path) for path in await self._run(lambda: list(self._files.foreign()))]

    async def space(self) -> Space:
        return await self._run(self._files.disk)
