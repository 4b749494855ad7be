"""What eviction takes, and in which order. Pure: it is told what is stored, and asks for what it must know of an image.

What goes is an image, that is, a manifest in a repository, and with it the blobs that no image that stays names. A blob
that no manifest names goes by its own last pull. Never taken: what is pinned, with its index and its children; what was
stored or pulled within the last minute; what is being served or filled; an index before its stored children; what
clients pushed, and blobs that they pushed within the last day. A child counts as pulled when its index is pulled, if it
was ever pulled itself: clients that have the child do not ask for it again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pullthrough.oci.digests import Digest
from pullthrough.settings import SizeLimit
from pullthrough.storage.bodies import AbandonedBody, Space
from pullthrough.storage.catalog.records import ImageUse, NamedBlob, StoredBlob
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
class Excess:
    """How much has to go, and which limit says so."""

    stored_bytes: int
    #: None for no limit.
    limit_bytes: int | None
    excess_bytes: int
    reason: str
    #: Whether it is the catalog that takes too much: then only what goes from there counts.
    is_of_catalog: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """Exactly one of `image`, `blob` and `abandoned` is there. `freed_bytes` is what its going frees, as planned;
    `manifest_bytes` is the part of the catalog."""

    last_used_at: float
    freed_bytes: int
    manifest_bytes: int = 0
    image: ImageUse | None = None
    blob: StoredBlob | None = None
    abandoned: AbandonedBody | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """What is stored, as a plan looks at it. `families` are pairs of index and child, by their image ids."""

    images: Sequence[ImageUse]
    families: Sequence[tuple[int, int]]
    pinned: Collection[int]
    in_use: Collection[Digest]
    #: Blobs that no stored manifest names, and bodies that nobody writes; empty where these do not count.
    unnamed: Sequence[StoredBlob] = ()
    abandoned: Sequence[AbandonedBody] = ()


def measure(limits: Limits, stored_bytes: int, space: Space, needed_bytes: int) -> Excess:
    """What has to go so that the limits hold and `needed_bytes` more fit."""
    most = limits.max_size.bytes_of(space.total_bytes)
    spare = limits.min_free.bytes_of(space.total_bytes)
    excesses = [(needed_bytes - space.free_bytes, "the disk is full: {} more needed")]
    bounds = []
    if most is not None:
        excesses.append((stored_bytes + needed_bytes - most, "over max_size by {}"))
        bounds.append(most)
    if spare is not None:
        excesses.append((spare + needed_bytes - space.free_bytes, "under min_free by {}"))
        bounds.append(max(0, stored_bytes + space.free_bytes - spare))
    excess, reason = max(excesses)
    return Excess(stored_bytes, min(bounds, default=None), excess, reason.format(format_bytes(max(0, excess))))


def catalog_excess_bytes(limits: Limits, content_bytes: int, space: Space) -> int:
    """What of the catalog has to go beside; 0 where it is small enough."""
    most = limits.most_catalog_bytes(space.total_bytes)
    return 0 if most is None else max(0, content_bytes - int(most * _CATALOG_AGAIN))


def of_catalog(excess: Excess, wanted_bytes: int) -> Excess:
    """That so much of the catalog has to go."""
    reason = f"manifests and lists take {format_bytes(wanted_bytes)} too much of max_size"
    return replace(excess, excess_bytes=wanted_bytes, reason=reason, is_of_catalog=True)


def planning(
    stock: Stock, excess: Excess, wanted_bytes: int, now: float
) -> Generator[list[int], Sequence[NamedBlob], list[Candidate]]:
    """What to take, in order, until it frees `wanted_bytes`; it is checked again when it is taken.

    Yields the ids of images whose blobs it must know, and is answered with these; most plans end early. Returns the plan.
    """
    unused_since = now - GRACE_SECONDS
    parents: dict[int, list[int]] = defaultdict(list)
    children_left: Counter[int] = Counter()
    for index, child in stock.families:
        parents[child].append(index)
        children_left[index] += 1
    plan: list[Candidate] = []
    freed_bytes = 0
    namings_gone: Counter[Digest] = Counter()
    images_gone: Counter[Digest] = Counter()
    passed: dict[int, Candidate] = {}
    candidates = _candidates(stock, parents, unused_since)
    for start in range(0, len(candidates), _PLANNED_AT_ONCE):
        part = candidates[start : start + _PLANNED_AT_ONCE]
        named: dict[int, list[NamedBlob]] = defaultdict(list)
        for blob in (yield [item.image.image_id for item in part if item.image]):
            named[blob.image_id].append(blob)
        for candidate in part:
            queue = [(candidate, named[candidate.image.image_id] if candidate.image else [])]
            while queue and freed_bytes < wanted_bytes:
                item, blobs = queue.pop()
                if item.image and children_left[item.image.image_id]:
                    passed[item.image.image_id] = item  # it goes right after the last of its children
                    continue
                if any(blob.digest in stock.in_use for blob in blobs):
                    continue
                for blob in blobs:
                    namings_gone[blob.digest] += 1
                    if _goes_with_image(blob, namings_gone[blob.digest], unused_since):
                        item = replace(item, freed_bytes=item.freed_bytes + (blob.size_bytes or 0))
                if item.image:
                    images_gone[item.image.digest] += 1
                    if images_gone[item.image.digest] == item.image.images:
                        size = item.image.manifest_bytes
                        item = replace(item, manifest_bytes=size, freed_bytes=item.freed_bytes + whole_pages(size))
                plan.append(item)
                freed_bytes += item.manifest_bytes if excess.is_of_catalog else item.freed_bytes
                for index in parents[item.image.image_id] if item.image else ():
                    children_left[index] -= 1
                    if not children_left[index] and index in passed:
                        queue.append((passed.pop(index), []))  # an index names no blobs
            if freed_bytes >= wanted_bytes:
                return plan
    return plan


def _candidates(stock: Stock, parents: Mapping[int, Sequence[int]], unused_since: float) -> list[Candidate]:
    """What may go at all, the least recently used first."""
    used_at = _effective_uses({image.image_id: image for image in stock.images}, parents)
    candidates = [
        Candidate(used_at[image.image_id], 0, image=image)
        for image in stock.images
        if image.image_id not in stock.pinned and max(used_at[image.image_id], image.stored_at) <= unused_since
    ]
    candidates += [
        Candidate(blob.last_used_at, blob.size_bytes, blob=blob)
        for blob in stock.unnamed
        if blob.digest not in stock.in_use and blob.last_used_at <= unused_since
    ]
    candidates += [
        Candidate(body.written_at, body.size_bytes, abandoned=body)
        for body in stock.abandoned
        if body.digest not in stock.in_use
    ]
    candidates.sort(key=lambda candidate: candidate.last_used_at)
    return candidates


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


def whole_pages(size_bytes: int) -> int:
    """What of a manifest the catalog gets back."""
    return size_bytes // _PAGE_BYTES * _PAGE_BYTES


def _goes_with_image(blob: NamedBlob, namings_gone: int, unused_since: float) -> bool:
    published = blob.size_bytes is not None and blob.last_used_at is not None
    return published and namings_gone == blob.images and (blob.last_used_at or 0.0) <= unused_since


def steps(plan: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """The plan in parts that are taken at once."""
    step: list[Candidate] = []
    for item in plan:
        too_large = sum(other.freed_bytes for other in step) + item.freed_bytes > STEP_BYTES
        if step and (too_large or len(step) == STEP_IMAGES):
            yield step
            step = []
        step.append(item)
    if step:
        yield step


def describe_age(what: str, then: float, now: float) -> str:
    """`what 3 days ago`."""
    seconds = max(0, int(now - then))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = seconds // length
            return f"{what} {count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError("the loop ends with seconds")
