"""Holds what is stored against what it claims to be: every blob and manifest against its digest, rows against files.

What `check` repairs, it repairs by forgetting: a body that is wrong or missing is filled again when it is asked for, or,
in the registry's own repositories, has to be pushed again.
Only one thing is added: a file without a row whose digest is right is taken up, readable for no repository until that
repository's own upstream has confirmed that it has the blob.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from pullthrough.engine.bodies import Bodies, Reading
from pullthrough.errors import CatalogBroken
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.storage.bodies import BodyStore, GrowingStore, UploadStore
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.files.uploads import STALE_SECONDS
from pullthrough.storage.sql.database import Database
from pullthrough.threads import Runner

T = TypeVar("T")

_AT_ONCE = 20
_RECORDED_WITHIN_SECONDS = 60.0
_AGAIN = "it comes in again when it is asked for; what was pushed has to be pushed again"


@dataclass(frozen=True, slots=True)
class Problem:
    """`kind` is one word for programs, `subject` a digest or path, `detail` a sentence for people."""

    kind: str
    subject: str
    detail: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was read: `blobs` files of `stored_bytes` in all, and `manifests`."""

    blobs: int
    manifests: int
    stored_bytes: int
    problems: tuple[Problem, ...]

    @property
    def repaired(self) -> int:
        return sum(problem.repaired for problem in self.problems)


@dataclass(frozen=True, slots=True)
class SweepReport:
    adopted_blobs: int
    removed_files: int
    removed_bytes: int


async def no_pause() -> None:
    """Go on at once."""


async def sweep(bodies: Bodies, growing: GrowingStore) -> SweepReport:
    """What a start does after a crash: leftovers go, and blobs that were put into their place but not yet recorded are taken
    up.

    Quick: reads no body; what is taken up is verified at its first read. To be called before any fill begins.
    """
    removed = await growing.remove_useless()
    adopted = 0
    async for digests in bodies.unrecorded():
        await bodies.adopt(digests, is_proved=False)
        adopted += len(digests)
    return SweepReport(adopted, len(removed), sum(thing.size_bytes for thing in removed))


class StoreCheck:
    """One check of everything that is stored, every byte.

    With `repair`, which needs the folder for itself, what can be put right safely is: wrong and missing bodies are
    forgotten, right ones without a row are taken up, leftovers of fills and uploads are removed. Without, nothing is
    changed, a running engine may go on, and leftovers are no problem: its fills have such files. `pause` is awaited after every
    part that was read; it may wait, or raise to stop. `run` is the catalog's threads.
    """

    def __init__(
        self,
        database: Database,
        blob_rows: BlobRows,
        manifest_rows: ManifestRows,
        store: BodyStore,
        growing: GrowingStore,
        uploads: UploadStore,
        bodies: Bodies,
        *,
        run: Runner,
        repair: bool,
        clock: Callable[[], float] = time.time,
        pause: Callable[[], Awaitable[object]] = no_pause,
    ) -> None:
        self._problems: list[Problem] = []
        self._blobs_read = self._manifests_read = self._bytes_read = 0
        self._database = database
        self._blob_rows = blob_rows
        self._manifest_rows = manifest_rows
        self._store = store
        self._growing = growing
        self._uploads = uploads
        self._bodies = bodies
        self._run = run
        self._repair = repair
        self._clock = clock
        self._pause = pause

    async def run(self) -> CheckReport:
        """Once."""
        await self._check_database()
        try:
            await self._check_manifests()
            await self._check_recorded_blobs()
            await self._check_unrecorded_bodies()
            await self._check_leftovers()
        except CatalogBroken as error:
            await self._found("catalog", "catalog.sqlite", f"{error.message}. {error.hint}")
        return CheckReport(self._blobs_read, self._manifests_read, self._bytes_read, tuple(self._problems))

    async def _found(
        self, kind: str, subject: str, detail: str, repair: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Note it, after putting it right where that is possible and wanted."""
        if repair is not None and self._repair:
            await repair()
        self._problems.append(Problem(kind, subject, detail, repair is not None and self._repair))

    async def _check_database(self) -> None:
        """What the database finds wrong with its own file."""
        try:
            damage = await self._run(self._database.find_damage)
        except CatalogBroken as error:
            damage = [error.message]
        for text in damage:
            await self._found("catalog", "catalog.sqlite", text)

    async def _check_manifests(self) -> None:
        manifests = self._manifest_rows.manifest_bodies()
        while part := await self._run(_some, manifests):
            for digest, body in part:
                self._manifests_read += 1
                self._bytes_read += len(body)
                actual = await self._run(digest_of, body, digest.algorithm)
                if actual != digest:
                    detail = f"the stored manifest has the digest {actual}; {_AGAIN}"
                    await self._found("manifest_digest", digest, detail, partial(self._forget_manifest, digest))
                await self._pause()
        for repository, digest in await self._run(self._manifest_rows.dangling):
            detail = f"{repository} has it, but its body is not stored; {_AGAIN}"
            await self._found("manifest_missing", digest, detail, partial(self._forget_manifest, digest))

    async def _check_recorded_blobs(self) -> None:
        """Every blob that the catalog has, against its body."""
        blobs = self._blob_rows.stored_blobs()
        while part := await self._run(_some, blobs):
            for blob in part:
                found = await self._read(blob.digest)
                if found is None:
                    await self._missing(blob.digest)
                elif found.actual != blob.digest:
                    detail = f"{_said(found)}; {_AGAIN}"
                    await self._found("blob_digest", blob.digest, detail, partial(self._drop, blob.digest))
                elif found.size_bytes != blob.size_bytes:
                    detail = (
                        f"{found.size_bytes:,} bytes, and they have the digest; the catalog says {blob.size_bytes:,}"
                    )
                    await self._found("blob_size", blob.digest, detail, partial(self._adopt, blob.digest))

    async def _check_unrecorded_bodies(self) -> None:
        """Every body that the catalog does not know."""
        async for digests in self._bodies.unrecorded():
            for digest in digests:
                facts = await self._store.find(digest)
                # A running engine records a body a moment after it has put it into its place.
                if not self._repair and facts and facts.placed_at > self._clock() - _RECORDED_WITHIN_SECONDS:
                    continue
                found = await self._read(digest)
                if found is None:
                    continue
                if found.actual == digest:
                    detail = "the catalog does not know this file; its digest is right, so it can be taken up"
                    await self._found("blob_unrecorded", digest, detail, partial(self._adopt, digest))
                else:
                    detail = f"{_said(found)}, and the catalog does not know it"
                    await self._found("blob_digest", digest, detail, partial(self._drop, digest))
        for name in await self._store.strangers():
            await self._found("foreign_file", name, "it is not named as a blob is: left alone, and nothing reads it")

    async def _check_leftovers(self) -> None:
        if self._repair:
            for thing in await self._growing.remove_useless():
                detail = f"{thing.size_bytes:,} bytes that no fill can go on from"
                await self._found("leftover", thing.name, detail, no_pause)
            for thing in await self._uploads.remove_stale(self._clock() - STALE_SECONDS):
                detail = f"{thing.size_bytes:,} bytes of an upload that was given up"
                await self._found("leftover", thing.name, detail, no_pause)

    async def _missing(self, digest: Digest) -> None:
        # A running engine may have evicted it since its row was read.
        if not await self._run(self._blob_rows.unknown_blobs, [digest]) and not await self._bodies.is_stored(digest):
            detail = f"the catalog has it, but there is no file; {_AGAIN}"
            await self._found("blob_missing", digest, detail, partial(self._drop, digest))

    async def _forget_manifest(self, digest: Digest) -> None:
        await self._run(self._manifest_rows.forget_manifest, digest, now=self._clock())

    async def _drop(self, digest: Digest) -> None:
        await self._bodies.forget(digest, _is_bad)

    async def _adopt(self, digest: Digest) -> None:
        await self._run(self._blob_rows.forget_blob, digest)
        await self._bodies.adopt([digest], is_proved=True)

    async def _read(self, digest: Digest) -> Reading | None:
        found = await self._bodies.read(digest, self._pause)
        if found is not None:
            self._blobs_read += 1
            self._bytes_read += found.size_bytes
        return found


def _said(found: Reading) -> str:
    if found.actual is None:
        return f"the file cannot be read behind byte {found.size_bytes:,} ({found.error})"
    return f"the file has {found.size_bytes:,} bytes with the digest {found.actual}"


def _some(things: Iterator[T]) -> list[T]:
    """In a thread: it asks the catalog."""
    return list(islice(things, _AT_ONCE))


async def _is_bad() -> bool:
    return False
