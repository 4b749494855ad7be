"""Blobs: from the store, from a fill in progress, or by a new fill.

What an answer costs upstream (tests count exactly):

    hit                         nothing
    hit, first time under       one HEAD: the bytes came under another repository's name, and this one's own
      this repository's name    upstream must have them too; only where they came for this account from this upstream,
                                or for anybody, is its word enough, else one GET proves it
    joined                      nothing
    miss                        one GET (more only where the upstream breaks off)
    range far ahead             one GET of that range, beside the fill
    HEAD of what is not here    one HEAD

An upstream that does not answer HEAD is asked for the first byte instead.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.pull.blobs.ahead import RangesAhead
from pullthrough.engine.pull.blobs.content import BlobAnswer, Content, Following, NoRoom, Stored
from pullthrough.engine.pull.blobs.passing import Passing
from pullthrough.engine.pull.blobs.prefetch import Prefetches
from pullthrough.engine.pull.blobs.presence import Presence
from pullthrough.engine.pull.blobs.records import BlobRecords
from pullthrough.engine.pull.fills.course import LookAgain
from pullthrough.engine.pull.fills.fill import Fill
from pullthrough.engine.pull.fills.fills import Fills
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import DiskFull, UpstreamNotFound, UpstreamThrottled, UpstreamUnavailable
from pullthrough.oci.digests import Digest
from pullthrough.storage.catalog.records import BlobRecord

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for the beginning of an answer."""

    #: After so long without a first byte the headers of a body go out that its upstream is known to have: clients wait for
    #: headers 30 s (containerd), and much longer for what follows them.
    headers_seconds: float = 20.0
    #: A blob that is known by its digest only waits for its turn for so long.
    unknown_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class BlobFacts:
    target: Target
    digest: Digest
    size_bytes: int | None
    outcome: Outcome


class Blobs:
    """The blobs of all repositories. `prefetches` is None where nothing is fetched that nobody has asked for."""

    def __init__(
        self,
        *,
        records: BlobRecords,
        bodies: Bodies,
        fills: Fills,
        presence: Presence,
        ahead: RangesAhead,
        passing: Passing,
        prefetches: Prefetches | None,
        pull_times: PullTimes,
        own: OwnRepositories,
        tasks: Tasks,
        patience: Patience,
    ) -> None:
        self._records = records
        self._bodies = bodies
        self._fills = fills
        self._presence = presence
        self._ahead = ahead
        self._passing = passing
        self._prefetches = prefetches
        self._pull_times = pull_times
        self._own = own
        self._tasks = tasks
        self._patience = patience

    # --- GET ---------------------------------------------------------------------------------------------------------

    async def from_memory(self, target: Target, digest: Digest) -> BlobAnswer | None:
        """A hit that needs no thread; None says nothing about what `get` will find."""
        record = self._records.from_memory(target, digest)
        return await self._stored(target, record) if record is not None else None

    async def get(self, target: Target, digest: Digest, *, whole: bool) -> BlobAnswer:
        """The blob. `whole`: asked for without a range, so that the rest of the image is wanted as well.

        Raises BlobUnknown, RepositoryUnknown, or an UpstreamError where it is not cached.
        """
        for _ in range(4):  # each turn follows a change made by somebody else between two looks
            record, absent_until = await self._records.look(target, digest)
            if record.published and record.granted:
                if not self._bodies.is_proved(record):
                    await self._prove(digest)
                    continue
                if answer := await self._stored(target, record):
                    return answer
                _log.error("the file of %s is missing or cut short; it is filled again", digest)
                await self._bodies.forget_short(record)
                continue
            if target.is_own:
                if await self._records.regrant(target, record):
                    continue
                raise await self._own.no_blob(target.repository, digest)
            if _may_be_confirmed(record) and await self._presence.is_confirmed(target, digest):
                await self._records.grant(target, digest)
                continue
            self._presence.raise_if_absent(target, digest, absent_until)
            try:
                return await self._fill(target, record, whole=whole)
            except LookAgain:
                continue
        raise UpstreamUnavailable(f"{digest} changes faster than it can be read", upstream=target.upstream)

    async def _stored(self, target: Target, record: BlobRecord) -> BlobAnswer | None:
        opened = await self._bodies.open(record)
        if opened is None:
            return None
        self._pull_times.note_blob(record.digest)
        return self._answer(target, record.digest, Stored(opened), _hit(target, record))

    def _answer(
        self, target: Target, digest: Digest, content: Content, outcome: Outcome, *, is_late: bool = False
    ) -> BlobAnswer:
        return BlobAnswer(
            target, digest, content, outcome, ahead=self._ahead, pass_through=self._passing, is_late=is_late
        )

    async def _prove(self, digest: Digest) -> None:
        """After a restart of the machine: a blob's bytes are read once before they are trusted again."""

        async def prove() -> None:
            if not await self._bodies.prove(digest):
                _log.error("%s was damaged since the last run; it is filled again", digest)

        await self._tasks.once(("verify", digest), prove, name=f"verify {digest}")

    async def _fill(self, target: Target, record: BlobRecord, *, whole: bool) -> BlobAnswer:
        """Join the fill of this blob or begin it, and wait for its first bytes."""
        digest = record.digest
        fill, begun = self._fills.join(target, digest, size_bytes=record.size_bytes)
        content = Following(fill)
        try:
            is_late = not await self._first_bytes(fill, target, is_known=record.named)
        except DiskFull as error:
            content.close()
            outcome = Outcome(CacheResult.MISS, target.rule.prefix, None, "passed through: the disk is full")
            return self._answer(target, digest, NoRoom(record.size_bytes, error), outcome)
        except BaseException:
            content.close()
            raise
        if whole and self._prefetches is not None and record.kind == "layer" and not fill.siblings_begun:
            fill.siblings_begun = True
            self._prefetches.want_siblings(target, digest)
        self._pull_times.note_blob(digest)
        kind = CacheResult.JOINED if not begun or fill.course.follows else CacheResult.MISS
        outcome = Outcome(kind, target.rule.prefix, None, "nothing of it has come yet" if is_late else "")
        return self._answer(target, digest, content, outcome, is_late=is_late)

    async def _first_bytes(self, fill: Fill, target: Target, *, is_known: bool) -> bool:
        """Wait for them, for a while: False where the answer has to begin without. `is_known`: a manifest of this
        repository names the blob, so that its upstream has it.

        Raises UpstreamThrottled where one that is not known does not get its turn.
        """
        limit = self._patience.headers_seconds if is_known else self._patience.unknown_seconds
        try:
            async with asyncio.timeout(limit):
                await fill.wait(0)
        except TimeoutError:
            if is_known:
                return False
            if fill.is_queued:
                raise UpstreamThrottled(
                    f"{fill.digest} waited {limit:g} s for other transfers from {target.upstream}",
                    upstream=target.upstream,
                    retry_after_seconds=limit,
                ) from None
            await fill.wait(0)  # the transfer's own limits end this
        except UpstreamNotFound as error:
            raise await self._presence.absent(target, fill.digest) from error
        return True

    # --- HEAD --------------------------------------------------------------------------------------------------------

    async def head(self, target: Target, digest: Digest) -> BlobFacts:
        """Size and presence. Never begins a fill. The size is the stored one, else the one that a manifest of the
        repository names, else the upstream's."""
        record, _ = await self._records.look(target, digest)
        if record.published and record.granted:
            return BlobFacts(target, digest, record.size_bytes, _hit(target, record))
        if target.is_own:
            if await self._records.regrant(target, record):
                record, _ = await self._records.look(target, digest)
                return BlobFacts(target, digest, record.size_bytes, Outcome(CacheResult.OWN))
            raise await self._own.no_blob(target.repository, digest)
        filling = await self._fills.size_of(target, digest)
        if filling is not None:
            return BlobFacts(target, digest, filling, Outcome(CacheResult.JOINED, target.rule.prefix))
        # Again: the fill may have ended between the two looks.
        record, absent_until = await self._records.look(target, digest)
        if record.published and record.granted:
            return BlobFacts(target, digest, record.size_bytes, _hit(target, record))
        self._presence.raise_if_absent(target, digest, absent_until)
        size = await self._presence.find(target, digest, wants_size=not record.named)
        if _may_be_confirmed(record):
            await self._records.grant(target, digest)
        if record.named:
            size = record.size_bytes
        return BlobFacts(target, digest, size, Outcome(CacheResult.MISS, target.rule.prefix))


def _may_be_confirmed(record: BlobRecord) -> bool:
    """Whether the word of this repository's upstream is enough to let it read what is here."""
    return record.published and record.named and record.is_shared


def _hit(target: Target, record: BlobRecord) -> Outcome:
    return Outcome(CacheResult.OWN if record.is_own else CacheResult.HIT, target.rule.prefix)
