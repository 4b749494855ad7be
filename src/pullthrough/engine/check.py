"""Holds what is stored against what it claims to be: every blob and manifest against its digest, rows against files.

What `check` repairs, it repairs by forgetting: a body that is wrong or missing is filled again when it is asked for, or,
in the registry's own repositories, has to be pushed again.
Only one thing is added: a file without a row whose digest is right is taken up, readable for no repository until that
repository's own upstream has confirmed that it has the blob.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from pullthrough.errors import CatalogBroken
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.catalog import Catalog
from pullthrough.storage.uploads import STALE_SECONDS, Uploads

_CHUNK_BYTES = 1024 * 1024
_FILES_AT_ONCE = 500
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


def sweep(catalog: Catalog, blobs: BlobStore) -> SweepReport:
    """What a start does after a crash: leftovers go, and blobs that were renamed but not yet recorded are taken up.

    Quick: reads no body; what is taken up is verified at its first read. To be called before any fill begins.
    """
    removed = _remove_leftovers(blobs)
    adopted = 0
    for digests in _unrecorded(catalog, blobs):
        found = [(digest, blobs.size(digest) or 0, blobs.modified_at(digest)) for digest in digests]
        catalog.inventory.adopt_blobs(found, verified_boot="")
        adopted += len(found)
    return SweepReport(adopted, len(removed), sum(size for _, size in removed))


def check(
    catalog: Catalog,
    blobs: BlobStore,
    uploads: Uploads,
    *,
    repair: bool,
    clock: Callable[[], float] = time.time,
    pause: Callable[[], None] = lambda: None,
) -> CheckReport:
    """Verify everything that is stored. Blocking, and reads every byte: for a thread.

    With `repair`, which needs the folder for itself, what can be put right safely is: wrong and missing bodies are
    forgotten, right ones without a row are taken up, leftovers of fills and uploads are removed. Without, nothing is
    changed, a running engine may go on, and leftovers are no problem: its fills have such files. `pause` is called after every
    MiB; it may wait, or raise to stop.
    """
    run = _Check(catalog, blobs, uploads, repair, clock, pause)
    run.database()
    try:
        run.manifests()
        run.recorded_blobs()
        run.unrecorded_files()
        run.leftovers()
    except CatalogBroken as error:
        run.problem("catalog", "catalog.sqlite", f"{error.message}. {error.hint}")
    return CheckReport(run.blobs_read, run.manifests_read, run.bytes_read, tuple(run.problems))


@dataclass(frozen=True, slots=True)
class _Found:
    """What a file holds. `actual` is None where it could not be read to its end."""

    size_bytes: int
    actual: Digest | None
    error: str = ""

    def __str__(self) -> str:
        if self.actual is None:
            return f"the file cannot be read behind byte {self.size_bytes:,} ({self.error})"
        return f"the file has {self.size_bytes:,} bytes with the digest {self.actual}"


class _Check:
    """One run of `check`: the counters and the problems found."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        uploads: Uploads,
        repair: bool,
        clock: Callable[[], float],
        pause: Callable[[], None],
    ) -> None:
        self.problems: list[Problem] = []
        self.blobs_read = self.manifests_read = self.bytes_read = 0
        self._catalog = catalog
        self._blobs = blobs
        self._uploads = uploads
        self._repair = repair
        self._clock = clock
        self._pause = pause
        self._buffer = bytearray(_CHUNK_BYTES)

    def problem(self, kind: str, subject: str, detail: str, repair: Callable[[], object] | None = None) -> None:
        """Note it, after putting it right where that is possible and wanted."""
        repaired = repair is not None and self._repair
        if repair is not None and self._repair:
            repair()
        self.problems.append(Problem(kind, subject, detail, repaired))

    def database(self) -> None:
        """What the database finds wrong with its own file."""
        try:
            damage = self._catalog.inventory.find_damage()
        except CatalogBroken as error:
            damage = [error.message]
        for text in damage:
            self.problem("catalog", "catalog.sqlite", text)

    def manifests(self) -> None:
        inventory = self._catalog.inventory
        for digest, body in inventory.manifest_bodies():
            self.manifests_read += 1
            self.bytes_read += len(body)
            actual = digest_of(body, digest.algorithm)
            if actual != digest:
                detail = f"the stored manifest has the digest {actual}; {_AGAIN}"
                self.problem(
                    "manifest_digest", digest, detail, partial(inventory.forget_manifest, digest, now=self._clock())
                )
            self._pause()
        for repository, digest in inventory.dangling():
            detail = f"{repository} has it, but its body is not stored; {_AGAIN}"
            self.problem(
                "manifest_missing", digest, detail, partial(inventory.forget_manifest, digest, now=self._clock())
            )

    def recorded_blobs(self) -> None:
        """Every blob that the catalog has, against its file."""
        for blob in self._catalog.inventory.stored_blobs():
            found = self._read(blob.digest)
            if found is None:
                self._missing(blob.digest)
            elif found.actual != blob.digest:
                detail = f"{found}; {_AGAIN}"
                self.problem("blob_digest", blob.digest, detail, partial(self._drop, blob.digest))
            elif found.size_bytes != blob.size_bytes:
                detail = f"{found.size_bytes:,} bytes, and they have the digest; the catalog says {blob.size_bytes:,}"
                self.problem("blob_size", blob.digest, detail, partial(self._adopt, blob.digest, found.size_bytes))

    def unrecorded_files(self) -> None:
        """Every file of the blobs folder that the catalog does not know."""
        for digests in _unrecorded(self._catalog, self._blobs):
            for digest in digests:
                # A running engine records a file a moment after it has renamed it.
                if not self._repair and self._blobs.renamed_at(digest) > self._clock() - _RECORDED_WITHIN_SECONDS:
                    continue
                found = self._read(digest)
                if found is None:
                    continue
                if found.actual == digest:
                    detail = "the catalog does not know this file; its digest is right, so it can be taken up"
                    self.problem("blob_unrecorded", digest, detail, partial(self._adopt, digest, found.size_bytes))
                else:
                    detail = f"{found}, and the catalog does not know it"
                    self.problem("blob_digest", digest, detail, partial(self._drop, digest))
        for path in self._blobs.foreign():
            self.problem("foreign_file", str(path), "it is not named as a blob is: left alone, and nothing reads it")

    def leftovers(self) -> None:
        if self._repair:
            for path, size in _remove_leftovers(self._blobs):
                self.problem("leftover", str(path), f"{size:,} bytes that no fill can go on from", lambda: None)
            for path, size in self._uploads.remove_stale(self._clock() - STALE_SECONDS):
                self.problem("leftover", str(path), f"{size:,} bytes of an upload that was given up", lambda: None)

    def _missing(self, digest: Digest) -> None:
        # A running engine may have evicted it since its row was read.
        if not self._catalog.inventory.unknown_blobs([digest]) and self._blobs.size(digest) is None:
            detail = f"the catalog has it, but there is no file; {_AGAIN}"
            self.problem("blob_missing", digest, detail, partial(self._catalog.forget_blob, digest))

    def _drop(self, digest: Digest) -> None:
        self._catalog.forget_blob(digest)
        self._blobs.remove(digest)

    def _adopt(self, digest: Digest, size_bytes: int) -> None:
        self._catalog.forget_blob(digest)
        found = (digest, size_bytes, self._blobs.modified_at(digest))
        self._catalog.inventory.adopt_blobs([found], verified_boot=self._blobs.boot_id)

    def _read(self, digest: Digest) -> _Found | None:
        """The whole file; None where there is none."""
        descriptor = self._blobs.open(digest)
        if descriptor is None:
            return None
        hasher = digest.hasher()
        view = memoryview(self._buffer)
        size = 0
        try:
            while count := os.readv(descriptor, [view]):
                hasher.update(view[:count])
                size += count
                self._pause()
        except OSError as error:  # a bad sector is what this is looking for
            return _Found(size, None, error.strerror or str(error))
        finally:
            os.close(descriptor)
            self.blobs_read += 1
            self.bytes_read += size
        return _Found(size, Digest(f"{digest.algorithm}:{hasher.hexdigest()}"))


def _unrecorded(catalog: Catalog, blobs: BlobStore) -> Iterator[list[Digest]]:
    """Blob files without a row, some at a time."""
    files = (digest for digest, _ in blobs.iterate())
    while part := list(islice(files, _FILES_AT_ONCE)):
        if unknown := catalog.inventory.unknown_blobs(part):
            yield unknown


def _remove_leftovers(blobs: BlobStore) -> list[tuple[Path, int]]:
    """Remove what no fill can go on from; path and size of each. A body whose blob is here by another owner can."""
    removed: list[tuple[Path, int]] = []
    for path in blobs.leftovers():
        removed.append((path, path.stat().st_size))
        path.unlink()
    return removed
