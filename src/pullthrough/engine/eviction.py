"""Keeps the store within its limits: the least recently pulled images go first, in small steps beside traffic.

What goes is an image, that is, a manifest in a repository, and with it the blobs that no image that stays names. A blob
that no manifest names goes by its own last pull. Never taken: what is pinned, with its index and its children; what was
stored or pulled within the last minute; what is being served or filled; an index before its stored children; what
clients pushed, and blobs that they pushed within the last day. A child counts as pulled when its index is pulled, if it
was ever pulled itself: clients that have the child do not ask for it again.

The catalog counts as stored too, and may take half of max_size. When it has taken that, more manifests and lists of
upstreams are served but not kept; before it comes so far, lists go, then images with large manifests.

Rows go first, then files. A crash in between leaves files without rows, which the next start takes up again
(engine/check.py); it never leaves a row without its file.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pullthrough.oci.digests import Digest
from pullthrough.settings import SizeLimit
from pullthrough.storage.blobs import BlobStore, partial_digest
from pullthrough.storage.catalog import Catalog
from pullthrough.storage.interfaces import Locks
from pullthrough.storage.records import ImageUse, NamedBlob, StoredBlob
from pullthrough.units import format_bytes

#: Pull times reach the catalog up to 10 s late, and a client takes a moment from the manifest to the layers.
GRACE_SECONDS = 60.0
#: A body whose fill ended is kept this long at least, for the next one to go on from.
ABANDONED_SECONDS = 3600.0
#: One transaction takes at most this; others wait for it.
STEP_IMAGES = 8
STEP_BYTES = 256 * 1024 * 1024
#: Images whose blobs are looked up at once while planning.
_PLANNED_AT_ONCE = 64
#: A manifest frees the pages of the catalog that it has for itself.
_PAGE_BYTES = 4096
#: The catalog may always have this: a few of the largest manifests.
_MIN_CATALOG_BYTES = 8 * 1024 * 1024
#: How much of what it may have it is brought back to, lest it is full most of the time.
_CATALOG_AGAIN = 0.75
#: A plan is made anew where traffic kept parts of it from being carried out.
_ROUNDS = 3
#: How long a full disk waits for another evictor, which may free what is needed.
_PATIENCE_SECONDS = 10.0
_LOCK = "evict"


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_size` is of what is stored, `min_free` of the filesystem; whichever binds first decides."""

    max_size: SizeLimit
    min_free: SizeLimit

    def most_catalog_bytes(self, total_bytes: int) -> int | None:
        """What the catalog may take on a filesystem of this size; None for no limit."""
        most = self.max_size.bytes_of(total_bytes)
        return None if most is None else max(_MIN_CATALOG_BYTES, most // 2)


@dataclass(frozen=True, slots=True)
class Evicted:
    """An image, or a blob that no image names (then `image` is empty)."""

    image: str
    digest: Digest
    freed_bytes: int
    #: Seconds since the epoch; None for never.
    last_pulled_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class EvictionReport:
    """`stored_bytes` is what is left, partial bodies included; `limit_bytes` is None where there is no limit."""

    dry_run: bool
    evicted: tuple[Evicted, ...]
    freed_bytes: int
    stored_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class _Excess:
    """How much has to go, and which limit says so."""

    stored_bytes: int
    limit_bytes: int | None
    excess_bytes: int
    reason: str
    #: Whether it is the catalog that takes too much: then only what goes from there counts.
    is_of_catalog: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Exactly one of `image`, `blob` and `partial` is there. `freed_bytes` is what its going frees, as planned;
    `manifest_bytes` is the part of the catalog."""

    last_used_at: float
    freed_bytes: int
    manifest_bytes: int = 0
    image: ImageUse | None = None
    blob: StoredBlob | None = None
    partial: Path | None = None


def remove_files(catalog: Catalog, blobs: BlobStore, locks: Locks, digests: Sequence[Digest]) -> dict[Digest, int]:
    """Remove the files of blobs whose rows are gone; bytes that went with each.

    One that the catalog knows again stays. Whoever pushes a blob holds its lock from the renaming until the catalog knows
    it; a fill needs none, for what it loses comes in again.
    """
    freed = dict.fromkeys(digests, 0)
    for digest in catalog.inventory.unknown_blobs(digests):
        if lock := locks.try_lock(blob_lock(digest)):
            with lock:
                if catalog.inventory.unknown_blobs([digest]):
                    freed[digest] = blobs.remove(digest)
    return freed


def blob_lock(digest: Digest) -> str:
    """The named lock of a blob's file and row together."""
    return f"blob:{digest}"


class Evictor:
    """Evicts for one engine. `in_use` names blobs that are being served or filled; it is asked before every step.

    `pause` is called between steps, in the thread that runs; it may wait, or raise to stop.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        limits: Limits,
        *,
        in_use: Callable[[], Container[Digest]],
        locks: Locks,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._catalog = catalog
        self._inventory = catalog.inventory
        self._blobs = blobs
        self._limits = limits
        self._in_use = in_use
        self._locks = locks
        self._clock = clock
        self._sleep = sleep
        self._pause = pause

    def run(self, *, dry_run: bool, needed_bytes: int = 0) -> EvictionReport:
        """Evict until the limits hold and `needed_bytes` more fit; or only say what would go, and why.

        Blocking: for a thread. Where another one is evicting already, this waits for it if room is needed, and does
        nothing otherwise. What is protected stays, though the limits then do not hold.
        """
        if dry_run:
            excess = self._measure(needed_bytes)
            plan = self._plan(excess, excess.excess_bytes)
            evicted = self._describe(plan, [item.freed_bytes for item in plan], excess)
        else:
            patience = _PATIENCE_SECONDS if needed_bytes else 0.0
            with self._locks.held_within(_LOCK, patience, self._sleep) as alone:
                # Measured here: what another one has just freed is not to be freed again.
                excess = self._measure(needed_bytes)
                evicted = self._evict(excess) if alone else []
                if alone and (of_catalog := self._measure_catalog(excess)) is not None:
                    evicted += self._evict(of_catalog)
        freed = sum(item.freed_bytes for item in evicted)
        return EvictionReport(dry_run, tuple(evicted), freed, excess.stored_bytes - freed, excess.limit_bytes)

    def _measure(self, needed_bytes: int) -> _Excess:
        stored = self._catalog.stored_bytes() + self._blobs.partial_bytes()
        disk = self._blobs.disk()
        most = self._limits.max_size.bytes_of(disk.total_bytes)
        spare = self._limits.min_free.bytes_of(disk.total_bytes)
        excesses = [(needed_bytes - disk.free_bytes, "the disk is full: {} more needed")]
        limits = []
        if most is not None:
            excesses.append((stored + needed_bytes - most, "over max_size by {}"))
            limits.append(most)
        if spare is not None:
            excesses.append((spare + needed_bytes - disk.free_bytes, "under min_free by {}"))
            limits.append(max(0, stored + disk.free_bytes - spare))
        excess, reason = max(excesses)
        return _Excess(stored, min(limits, default=None), excess, reason.format(format_bytes(max(0, excess))))

    def _measure_catalog(self, excess: _Excess) -> _Excess | None:
        """What of the catalog has to go beside; None where it is small enough, lists forgotten."""
        most = self._limits.most_catalog_bytes(self._blobs.disk().total_bytes)
        if most is None:
            return None
        wanted = self._catalog.content_bytes() - int(most * _CATALOG_AGAIN)
        if wanted > 0:
            wanted -= self._inventory.remove_listings(wanted, self._clock() - GRACE_SECONDS)
        reason = f"manifests and lists take {format_bytes(max(0, wanted))} too much of max_size"
        return replace(excess, excess_bytes=wanted, reason=reason, is_of_catalog=True) if wanted > 0 else None

    def _evict(self, excess: _Excess) -> list[Evicted]:
        # What is still open somewhere gives its room back later: the disk is not measured again, or too much would go.
        wanted = excess.excess_bytes
        evicted: list[Evicted] = []
        for _ in range(_ROUNDS):
            before = len(evicted)
            for step in _steps(self._plan(excess, wanted)):
                done = self._take(step, excess)
                wanted -= sum(
                    item.manifest_bytes if excess.is_of_catalog else freed.freed_bytes for item, freed in done
                )
                evicted += (freed for _, freed in done)
                self._pause()
                if wanted <= 0:
                    return evicted
            if len(evicted) == before:
                break
        return evicted

    def _plan(self, excess: _Excess, wanted_bytes: int) -> list[_Candidate]:
        """What to take, in order, until it frees `wanted_bytes`; it is checked again when it is taken."""
        if wanted_bytes <= 0:
            return []
        images = {image.image_id: image for image in self._inventory.images()}
        parents: dict[int, list[int]] = defaultdict(list)
        children_left: Counter[int] = Counter()
        for index, child in self._inventory.families():
            parents[child].append(index)
            children_left[index] += 1
        unused_since = self._clock() - GRACE_SECONDS
        used_at = _effective_uses(images, parents)
        pinned = self._inventory.pinned_images()
        in_use = self._in_use()
        candidates = [
            _Candidate(used_at[image.image_id], 0, image=image)
            for image in images.values()
            if image.image_id not in pinned and max(used_at[image.image_id], image.stored_at) <= unused_since
        ]
        if not excess.is_of_catalog:
            candidates += [
                _Candidate(blob.last_used_at, blob.size_bytes, blob=blob)
                for blob in self._inventory.unnamed_blobs(unused_since)
                if blob.digest not in in_use and blob.last_used_at <= unused_since
            ]
            candidates += [
                _Candidate(written_at, size, partial=path)
                for path, size, written_at in self._blobs.abandoned(self._clock() - ABANDONED_SECONDS)
                if partial_digest(path) not in in_use
            ]
        candidates.sort(key=lambda candidate: candidate.last_used_at)

        plan: list[_Candidate] = []
        freed_bytes = 0
        namings_gone: Counter[Digest] = Counter()
        images_gone: Counter[Digest] = Counter()
        passed: dict[int, _Candidate] = {}
        for candidate, named in self._with_blobs(candidates):
            queue = [(candidate, named)]
            while queue and freed_bytes < wanted_bytes:
                item, blobs = queue.pop()
                if item.image and children_left[item.image.image_id]:
                    passed[item.image.image_id] = item  # it goes right after the last of its children
                    continue
                if any(blob.digest in in_use for blob in blobs):
                    continue
                for blob in blobs:
                    namings_gone[blob.digest] += 1
                    if _goes_with_image(blob, namings_gone[blob.digest], unused_since):
                        item = replace(item, freed_bytes=item.freed_bytes + (blob.size_bytes or 0))
                if item.image:
                    images_gone[item.image.digest] += 1
                    if images_gone[item.image.digest] == item.image.images:
                        size = item.image.manifest_bytes
                        item = replace(item, manifest_bytes=size, freed_bytes=item.freed_bytes + _whole_pages(size))
                plan.append(item)
                freed_bytes += item.manifest_bytes if excess.is_of_catalog else item.freed_bytes
                for index in parents[item.image.image_id] if item.image else ():
                    children_left[index] -= 1
                    if not children_left[index] and index in passed:
                        queue.append((passed.pop(index), ()))  # an index names no blobs
            if freed_bytes >= wanted_bytes:
                break
        return plan

    def _with_blobs(self, candidates: Sequence[_Candidate]) -> Iterator[tuple[_Candidate, Sequence[NamedBlob]]]:
        """Each candidate with the blobs it names, looked up a few images at a time: most plans end early."""
        for start in range(0, len(candidates), _PLANNED_AT_ONCE):
            part = candidates[start : start + _PLANNED_AT_ONCE]
            named: dict[int, list[NamedBlob]] = defaultdict(list)
            for blob in self._inventory.named_blobs([item.image.image_id for item in part if item.image]):
                named[blob.image_id].append(blob)
            for item in part:
                yield item, named[item.image.image_id] if item.image else ()

    def _take(self, step: Sequence[_Candidate], excess: _Excess) -> list[tuple[_Candidate, Evicted]]:
        """A transaction for the step's images and one for its blobs, then the files. Says what really went."""
        unused_since = self._clock() - GRACE_SECONDS
        in_use = self._in_use()
        described = self._describe(step, [0] * len(step), excess)
        images = [item.image for item in step if item.image]
        removed = self._inventory.remove_images(images, in_use=in_use, unused_since=unused_since)
        unnamed = [item.blob.digest for item in step if item.blob]
        blobs = self._inventory.remove_unnamed_blobs(unnamed, in_use=in_use, unused_since=unused_since)

        freed_by_blob = self._remove_files(
            [*(blob.digest for _, blob in removed.blobs), *(blob.digest for blob in blobs)]
        )
        pages = {item.image.image_id: _whole_pages(item.manifest_bytes) for item in step if item.image}
        freed_by_image = Counter({image.image_id: pages[image.image_id] for image in removed.images})
        for image_id, blob in removed.blobs:
            freed_by_image[image_id] += freed_by_blob[blob.digest]
        taken: list[tuple[_Candidate, Evicted]] = []
        for item, evicted in zip(step, described, strict=True):
            freed: int | None = None
            if item.image:
                freed = freed_by_image.get(item.image.image_id)
            elif item.blob:
                freed = freed_by_blob.get(item.blob.digest)  # not there: somebody wants it now
            elif item.partial:
                freed = self._blobs.remove_partial(item.partial)
            if freed is not None:
                taken.append((item, replace(evicted, freed_bytes=freed)))
        return taken

    def _remove_files(self, digests: Sequence[Digest]) -> dict[Digest, int]:
        """Bytes that went with each. One that was filled or pushed anew since its row went stays."""
        return remove_files(self._catalog, self._blobs, self._locks, digests)

    def _describe(self, items: Sequence[_Candidate], freed: Sequence[int], excess: _Excess) -> list[Evicted]:
        tags = self._inventory.tags_of([item.image.image_id for item in items if item.image])
        now = self._clock()
        described: list[Evicted] = []
        for item, freed_bytes in zip(items, freed, strict=True):
            if item.image:
                image = item.image
                names = ",".join(tags.get(image.image_id, ()))
                name = f"{image.repository}:{names}" if names else str(image.repository)
                pulled_at = item.last_used_at if image.pulled_at is not None else None
                why = (
                    _ago("last pulled", pulled_at, now)
                    if pulled_at
                    else _ago("never pulled, stored", image.stored_at, now)
                )
                described.append(Evicted(name, image.digest, freed_bytes, pulled_at, f"{excess.reason}; {why}"))
            elif item.blob:
                why = f"no stored manifest names it, {_ago('last used', item.last_used_at, now)}"
                described.append(
                    Evicted("", item.blob.digest, freed_bytes, item.last_used_at, f"{excess.reason}; {why}")
                )
            elif item.partial:
                digest = partial_digest(item.partial)
                assert digest is not None  # only such files are listed
                why = _ago("an incomplete body, last written", item.last_used_at, now)
                described.append(Evicted("", digest, freed_bytes, None, f"{excess.reason}; {why}"))
        return described


def _effective_uses(images: Mapping[int, ImageUse], parents: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """When each image was last pulled, by itself or through an index; when it was stored, if it never was.

    Indexes nest, but a digest cannot be in itself: the recursion ends.
    """
    pulled: dict[int, float] = {}

    def last_pull(image_id: int) -> float:
        if image_id not in pulled:
            own = images[image_id].pulled_at if image_id in images else None
            above = [last_pull(index) for index in parents.get(image_id, ())] if own is not None else []
            pulled[image_id] = max([own or 0.0, *above])
        return pulled[image_id]

    return {
        image_id: last_pull(image_id) if image.pulled_at is not None else image.stored_at
        for image_id, image in images.items()
    }


def _whole_pages(size_bytes: int) -> int:
    return size_bytes // _PAGE_BYTES * _PAGE_BYTES


def _goes_with_image(blob: NamedBlob, namings_gone: int, unused_since: float) -> bool:
    published = blob.size_bytes is not None and blob.last_used_at is not None
    return published and namings_gone == blob.images and (blob.last_used_at or 0.0) <= unused_since


def _steps(plan: Sequence[_Candidate]) -> Iterator[list[_Candidate]]:
    step: list[_Candidate] = []
    for item in plan:
        too_large = sum(other.freed_bytes for other in step) + item.freed_bytes > STEP_BYTES
        if step and (too_large or len(step) == STEP_IMAGES):
            yield step
            step = []
        step.append(item)
    if step:
        yield step


def _ago(what: str, then: float, now: float) -> str:
    seconds = max(0, int(now - then))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = seconds // length
            return f"{what} {count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError("the loop ends with seconds")
