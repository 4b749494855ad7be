"""Bodies on their way in as partial files (partials.py), for the event loop: what may take long is done in threads."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pullthrough.oci.digests import Digest
from pullthrough.oci.spans import Spans
from pullthrough.storage.bodies import AbandonedBody, GrowingKey, RemovedThing, Sight, Told
from pullthrough.storage.files.blobs import BlobFiles, partial_digest, writing
from pullthrough.storage.files.partials import Partial, Sidecar, is_led, look_at
from pullthrough.storage.files.reading import OpenFile
from pullthrough.threads import Runner, wait_out


class FileSink:
    """Writes to a partial file that its owner closes."""

    def __init__(self, partial: Partial, boot_id: str) -> None:
        self._partial = partial
        self._boot_id = boot_id

    def arrived(self) -> Spans:
        return Spans.of_first(self._partial.size())

    def read(self, buffer: memoryview, position: int) -> int:
        return os.preadv(self._partial.fd, [buffer], position)

    def write(self, data: memoryview, position: int) -> int:
        with writing():
            return os.pwrite(self._partial.fd, data, position)

    def tell(self, told: Told) -> None:
        with writing():
            self._partial.write_sidecar(Sidecar(told, self._boot_id))


class GrowingFile:
    """A partial file, open in this process."""

    def __init__(self, files: BlobFiles, partial: Partial, digest: Digest, run: Runner) -> None:
        self._files = files
        self._partial = partial
        self._published_path = files.path(digest)
        self._run = run
        self.sink = FileSink(partial, files.boot_id)

    # For readers

    def fileno(self) -> int:
        return self._partial.fd

    async def read(self, start: int, count: int) -> bytearray:
        return await OpenFile(self._partial.fd, self._run).read(start, count)

    def close(self) -> None:
        self._partial.close()

    # For who follows, or would lead

    def look(self) -> Sight:
        return self._sight(leads=False)

    async def claim(self) -> Sight:
        return await wait_out(self._run(self._claim))

    def _claim(self) -> Sight:
        return self._sight(leads=self._partial.try_lead())

    async def reopen(self) -> Sight:
        return await wait_out(self._run(self._reopen))

    def _reopen(self) -> Sight:
        with writing():
            self._partial.reopen()
        return self._claim()

    def _sight(self, *, leads: bool) -> Sight:
        partial = self._partial
        # What was told is read before the size: a body that is told to be whole is then seen whole.
        is_published = partial.is_published_as(self._published_path)
        sidecar = partial.read_sidecar()
        return Sight(
            leads=leads,
            is_current=partial.is_current(),
            is_published=is_published,
            arrived=Spans.of_first(partial.size()),
            told=sidecar.told if sidecar else None,
            is_sound=sidecar is not None and sidecar.boot_id == self._files.boot_id,
        )

    def is_being_published(self) -> bool:
        return is_led(self._published_path)

    # For who leads

    async def restart(self) -> None:
        await wait_out(self._run(self._restart))

    def _restart(self) -> None:
        with writing():
            self._partial.restart()

    async def tell(self, told: Told) -> None:
        await wait_out(self._run(self.sink.tell, told))

    async def retract(self, attempt: str) -> None:
        await wait_out(self._run(self._partial.remove_sidecar, attempt))

    async def discard(self) -> None:
        await wait_out(self._run(self._partial.discard))

    async def publish(self, digest: Digest) -> None:
        await wait_out(self._run(self._publish, digest))

    def _publish(self, digest: Digest) -> None:
        if not self._partial.is_published_as(self._files.path(digest)):
            self._files.publish(self._partial.path, digest)

    async def withdraw(self, digest: Digest) -> None:
        await wait_out(self._run(self._files.withdraw, digest, self._partial.path))

    async def release(self) -> None:
        await wait_out(self._run(self._release))

    def _release(self) -> None:
        """Others who have an empty file open find that it is no longer current, and begin another one."""
        partial = self._partial
        if not partial.size() and partial.try_lead() and partial.is_current():
            if sidecar := partial.read_sidecar():
                partial.remove_sidecar(sidecar.told.attempt)
            partial.discard()
        partial.unlock()


class GrowingFiles:
    """The bodies on their way in of one data folder."""

    def __init__(self, files: BlobFiles, run: Runner) -> None:
        self._files = files
        self._run = run

    async def open(self, key: GrowingKey) -> tuple[GrowingFile, Sight]:
        opening = asyncio.ensure_future(self._run(self._open, key))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait((opening,))
            if not opening.exception():
                opening.result()[0].close()
            raise

    def _open(self, key: GrowingKey) -> tuple[GrowingFile, Sight]:
        with writing():
            partial = Partial(self._path(key))
        growing = GrowingFile(self._files, partial, key.digest, self._run)
        return growing, growing._claim()

    async def peek(self, key: GrowingKey) -> Told | None:
        return await self._run(look_at, self._path(key), self._files.path(key.digest))

    def is_led(self, key: GrowingKey) -> bool:
        return is_led(self._path(key))

    def _path(self, key: GrowingKey) -> Path:
        return self._files.partial_path(key.digest, key.owner, key.secret)

    async def abandoned(self, written_before: float) -> list[AbandonedBody]:
        return await self._run(self._abandoned, written_before)

    def _abandoned(self, written_before: float) -> list[AbandonedBody]:
        found = []
        for path, size_bytes, written_at in self._files.abandoned(written_before):
            digest = partial_digest(path)
            assert digest is not None  # only such files are listed
            found.append(AbandonedBody(str(path), digest, size_bytes, written_at))
        return found

    async def remove(self, name: str) -> int | None:
        return await self._run(self._files.remove_partial, Path(name))

    async def remove_useless(self) -> list[RemovedThing]:
        return await self._run(self._remove_useless)

    def _remove_useless(self) -> list[RemovedThing]:
        removed = []
        for path in self._files.leftovers():
            removed.append(RemovedThing(str(path), path.stat().st_size))
            path.unlink()
        return removed

    async def taken_bytes(self) -> int:
        return await self._run(self._files.partial_bytes)
