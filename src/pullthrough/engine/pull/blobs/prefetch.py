"""Blobs that a client will ask for next: names, until there is room to fetch them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from pullthrough.engine.pull.fills.fills import Fills
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import PullthroughError
from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import Descriptor
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Upstreams

#: Names that are kept for one upstream; an image of more layers brings no more of them.
MAX_NAMES = 1000
#: How often one looks whether another worker's have left it a slot.
_SLOT_POLL_SECONDS = 0.05
#: After the first byte of a layer. It, and what the client asks for next by itself, comes before what nobody waits for.
_AFTER_SECONDS = 0.05


@dataclass(slots=True)
class _Lane:
    """Of one upstream."""

    names: deque[tuple[Target, Descriptor]] = field(default_factory=deque)
    running: int = 0


class Prefetches:
    """The prefetches of one worker: at most `per_upstream` at once from one upstream, in all workers together, behind what
    clients wait for. Nothing is opened for what waits."""

    def __init__(
        self,
        *,
        fills: Fills,
        blob_rows: BlobRows,
        call: Runner,
        upstreams: Upstreams,
        tasks: Tasks,
        locks: Locks,
        per_upstream: int,
    ) -> None:
        self._fills = fills
        self._blob_rows = blob_rows
        self._call = call
        self._upstreams = upstreams
        self._tasks = tasks
        self._locks = locks
        self._per_upstream = per_upstream
        self._lanes: dict[str, _Lane] = {}

    def want(self, target: Target, blobs: Iterable[Descriptor]) -> None:
        """Fetch these as well, as far as they fit into what is kept."""
        lane = self._lanes.setdefault(target.upstream, _Lane())
        for blob in blobs:
            if len(lane.names) >= MAX_NAMES:
                break
            lane.names.append((target, blob))
        while lane.running < min(self._per_upstream, len(lane.names) + lane.running):
            lane.running += 1
            self._tasks.spawn(self._run(target.upstream, lane), name=f"prefetch from {target.upstream}")

    def want_siblings(self, target: Target, digest: Digest) -> None:
        """Fetch, behind what clients ask for, the other blobs of the image whose layer was asked for."""
        self._tasks.spawn(self._want_siblings(target, digest), name=f"prefetch beside {digest}")

    async def _want_siblings(self, target: Target, digest: Digest) -> None:
        await asyncio.sleep(_AFTER_SECONDS)
        siblings = await self._call(self._blob_rows.siblings, target.repository, target.upstream_owner, digest)
        self.want(target, siblings)

    async def _run(self, upstream: str, lane: _Lane) -> None:
        try:
            while lane.names:
                async with AsyncExitStack() as taken:
                    await taken.enter_async_context(self._slot(upstream))
                    if lane.names:
                        try:
                            await self._fetch(*lane.names.popleft(), taken)
                        except PullthroughError:
                            pass  # nobody waits for it, and the next one may be had
        finally:
            lane.running -= 1

    @asynccontextmanager
    async def _slot(self, upstream: str) -> AsyncIterator[None]:
        slots = [f"prefetch {upstream} {number}" for number in range(self._per_upstream)]
        while (lock := next(filter(None, map(self._locks.try_lock, slots)), None)) is None:  # noqa: ASYNC110 - held by another process
            await asyncio.sleep(_SLOT_POLL_SECONDS)
        with lock:
            yield

    async def _fetch(self, target: Target, blob: Descriptor, taken: AsyncExitStack) -> None:
        """Unless it is here, or comes in already, for whichever repository of that upstream: then its word will do.

        `taken` holds the slot. The fill gives it back, with its turn, as soon as it finds that another worker has begun the
        same transfer: else two workers that fetch one image ahead would hold the slots for half as many blobs.

        Raises PullthroughError where it is not to be had now.
        """
        if await self._is_here(target, blob.digest):
            return
        upstream = self._upstreams.get(target.upstream)
        given_back = asyncio.Event()
        taken.callback(given_back.set)
        await taken.enter_async_context(upstream.admit(target.upstream_repository, behind=True))
        await taken.enter_async_context(self._fills.turns.hold(target.upstream, behind=True))
        # A client may have begun it, or another worker have ended it, while this waited.
        if await self._is_here(target, blob.digest):
            return
        self._fills.join(target, blob.digest, size_bytes=blob.size_bytes, admitted=taken.pop_all())
        await given_back.wait()

    async def _is_here(self, target: Target, digest: Digest) -> bool:
        record = await self._call(self._blob_rows.find_blob, target.repository, target.owner, digest)
        # Last, with nothing to wait for behind it.
        return (record.published and (record.granted or record.is_shared)) or self._fills.is_active(target, digest)
