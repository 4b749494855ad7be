"""Keeps the store within its limits: the least recently pulled images go first, in small steps beside traffic.

What goes is decided in planning.py; here it is carried out. Rows go first, then bodies (bodies.py).

The catalog counts as stored too, and may take half of max_size. When it has taken that, more manifests and lists of
upstreams are served but not kept; before it comes so far, lists go, then images with large manifests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.keep.planning import (
    ABANDONED_SECONDS,
    GRACE_SECONDS,
    Candidate,
    Excess,
    Limits,
    Stock,
    catalog_excess_bytes,
    describe_age,
    measure,
    of_catalog,
    planning,
    steps,
    whole_pages,
)
from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import BodyStore, GrowingStore
from pullthrough.storage.catalog.inventory import Inventory
from pullthrough.storage.catalog.records import NamedBlob
from pullthrough.storage.catalog.usage import Usage
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Runner

#: A plan is made anew where traffic kept parts of it from being carried out.
_ROUNDS = 3
#: How long a full disk waits for another evictor, which may free what is needed.
_PATIENCE_SECONDS = 10.0
_LOCK = "evict"


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


class Evictor:
    """Evicts for one worker. `in_use` names blobs that are being served or filled; it is asked before every step.

    `pause` is awaited between steps; it may wait, or raise to stop. `run` is the catalog's threads, `run_slow` those for what
    takes long.
    """

    def __init__(
        self,
        usage: Usage,
        inventory: Inventory,
        store: BodyStore,
        growing: GrowingStore,
        bodies: Bodies,
        limits: Limits,
        *,
        run: Runner,
        run_slow: Runner,
        in_use: Callable[[], Collection[Digest]],
        locks: Locks,
        clock: Callable[[], float],
        pause: Callable[[], Awaitable[object]],
    ) -> None:
        self._usage = usage
        self._inventory = inventory
        self._store = store
        self._growing = growing
        self._bodies = bodies
        self._limits = limits
        self._run = run
        self._run_slow = run_slow
        self._in_use = in_use
        self._locks = locks
        self._clock = clock
        self._pause = pause

    async def run(self, *, dry_run: bool, needed_bytes: int = 0) -> EvictionReport:
        """Evict until the limits hold and `needed_bytes` more fit; or only say what would go, and why.

        Where another one is evicting already, this waits for it if room is needed, and does nothing otherwise. What is
        protected stays, though the limits then do not hold.
        """
        if dry_run:
            excess = await self._measure(needed_bytes)
            plan = await self._plan(excess, excess.excess_bytes)
            evicted = await self._describe(plan, [item.freed_bytes for item in plan], excess)
        else:
            async with self._locks.hold_within(_LOCK, _PATIENCE_SECONDS if needed_bytes else 0.0) as alone:
                # Measured here: what another one has just freed is not to be freed again.
                excess = await self._measure(needed_bytes)
                evicted = await self._evict(excess) if alone else []
                if alone and (beside := await self._measure_catalog(excess)) is not None:
                    evicted += await self._evict(beside)
        freed = sum(item.freed_bytes for item in evicted)
        return EvictionReport(dry_run, tuple(evicted), freed, excess.stored_bytes - freed, excess.limit_bytes)

    async def _measure(self, needed_bytes: int) -> Excess:
        stored = await self._run(self._usage.stored_bytes) + await self._growing.taken_bytes()
        return measure(self._limits, stored, await self._store.space(), needed_bytes)

    async def _measure_catalog(self, excess: Excess) -> Excess | None:
        """What of the catalog has to go beside; None where it is small enough, lists forgotten."""
        content_bytes = await self._run(self._usage.content_bytes)
        wanted = catalog_excess_bytes(self._limits, content_bytes, await self._store.space())
        if wanted > 0:
            wanted -= await self._run(self._inventory.remove_listings, wanted, self._clock() - GRACE_SECONDS)
        return of_catalog(excess, wanted) if wanted > 0 else None

    async def _evict(self, excess: Excess) -> list[Evicted]:
        # What is still open somewhere gives its room back later: the disk is not measured again, or too much would go.
        wanted = excess.excess_bytes
        evicted: list[Evicted] = []
        for _ in range(_ROUNDS):
            before = len(evicted)
            for step in steps(await self._plan(excess, wanted)):
                done = await self._take(step, excess)
                wanted -= sum(
                    item.manifest_bytes if excess.is_of_catalog else freed.freed_bytes for item, freed in done
                )
                evicted += (freed for _, freed in done)
                await self._pause()
                if wanted <= 0:
                    return evicted
            if len(evicted) == before:
                break
        return evicted

    async def _plan(self, excess: Excess, wanted_bytes: int) -> list[Candidate]:
        if wanted_bytes <= 0:
            return []
        now = self._clock()
        plan = planning(await self._look(excess, now), excess, wanted_bytes, now)
        asked, done = await self._run_slow(_advance, plan, None)
        while done is None:
            named = await self._run(self._inventory.named_blobs, asked) if asked else []
            asked, done = await self._run_slow(_advance, plan, named)
        return done

    async def _look(self, excess: Excess, now: float) -> Stock:
        inventory, counts_beside = self._inventory, not excess.is_of_catalog
        in_use = self._in_use()
        return Stock(
            images=await self._run(inventory.images),
            families=await self._run(inventory.families),
            pinned=await self._run(inventory.pinned_images),
            in_use=in_use,
            unnamed=await self._run(inventory.unnamed_blobs, now - GRACE_SECONDS) if counts_beside else (),
            abandoned=await self._growing.abandoned(now - ABANDONED_SECONDS) if counts_beside else (),
        )

    async def _take(self, step: Sequence[Candidate], excess: Excess) -> list[tuple[Candidate, Evicted]]:
        """A transaction for the step's images and one for its blobs, then the bodies. Says what really went."""
        unused_since = self._clock() - GRACE_SECONDS
        in_use = self._in_use()
        described = await self._describe(step, [0] * len(step), excess)
        images = [item.image for item in step if item.image]
        unnamed = [item.blob.digest for item in step if item.blob]
        removed = await self._run(self._inventory.remove_images, images, in_use=in_use, unused_since=unused_since)
        blobs = await self._run(self._inventory.remove_unnamed_blobs, unnamed, in_use=in_use, unused_since=unused_since)
        freed_by_blob = await self._bodies.collect(
            [*(blob.digest for _, blob in removed.blobs), *(blob.digest for blob in blobs)]
        )
        pages = {item.image.image_id: whole_pages(item.manifest_bytes) for item in step if item.image}
        freed_by_image = Counter({image.image_id: pages[image.image_id] for image in removed.images})
        for image_id, blob in removed.blobs:
            freed_by_image[image_id] += freed_by_blob[blob.digest]
        taken: list[tuple[Candidate, Evicted]] = []
        for item, evicted in zip(step, described, strict=True):
            freed: int | None = None
            if item.image:
                freed = freed_by_image.get(item.image.image_id)
            elif item.blob:
                freed = freed_by_blob.get(item.blob.digest)  # not there: somebody wants it now
            elif item.abandoned:
                freed = await self._growing.remove(item.abandoned.name)
            if freed is not None:
                taken.append((item, replace(evicted, freed_bytes=freed)))
        return taken

    async def _describe(self, items: Sequence[Candidate], freed: Sequence[int], excess: Excess) -> list[Evicted]:
        tags = await self._run(self._inventory.tags_of, [item.image.image_id for item in items if item.image])
        now = self._clock()
        described: list[Evicted] = []
        for item, freed_bytes in zip(items, freed, strict=True):
            if item.image:
                image = item.image
                names = ",".join(tags.get(image.image_id, ()))
                name = f"{image.repository}:{names}" if names else str(image.repository)
                pulled_at = item.last_used_at if image.pulled_at is not None else None
                why = (
                    describe_age("last pulled", pulled_at, now)
                    if pulled_at
                    else describe_age("never pulled, stored", image.stored_at, now)
                )
                described.append(Evicted(name, image.digest, freed_bytes, pulled_at, f"{excess.reason}; {why}"))
            elif item.blob:
                why = f"no stored manifest names it, {describe_age('last used', item.last_used_at, now)}"
                described.append(
                    Evicted("", item.blob.digest, freed_bytes, item.last_used_at, f"{excess.reason}; {why}")
                )
            elif item.abandoned:
                why = describe_age("an incomplete body, last written", item.last_used_at, now)
                described.append(Evicted("", item.abandoned.digest, freed_bytes, None, f"{excess.reason}; {why}"))
        return described


def _advance(
    plan: Generator[list[int], Sequence[NamedBlob], list[Candidate]], named: Sequence[NamedBlob] | None
) -> tuple[list[int], list[Candidate] | None]:
    """One step of a plan, in a thread: the images that it asks for, or the plan."""
    try:
        return (next(plan) if named is None else plan.send(named)), None
    except StopIteration as end:
        return [], end.value
