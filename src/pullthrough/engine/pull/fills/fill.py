"""One blob on its way in, as one worker sees it: led by its own transfer, or followed.

    led:      queue -> transfer -> digest matches -> tail released -> stored, recorded -> done
    followed: look -> done, failed, or the leader died: lead

A fill belongs to the engine: clients that leave change nothing, but that it queues behind others then.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from pullthrough.engine.pull.fills.course import Course, LookAgain, Next
from pullthrough.engine.pull.fills.fetching import Fetch, Fetcher
from pullthrough.engine.pull.fills.landing import Landing
from pullthrough.engine.pull.fills.queueing import Queue, QueuePlace
from pullthrough.engine.pull.fills.readers import Readers
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import ContentError, DiskFull, PullthroughError, StorageError, UpstreamUnavailable
from pullthrough.fairness.asker import ASKER
from pullthrough.fairness.gate import LINE, Line
from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import Body, GrowingBody, GrowingKey, GrowingStore, Sight, State
from pullthrough.threads import wait_out
from pullthrough.upstream.interfaces import Upstream

_log = logging.getLogger(__name__)

#: How often a follower looks at what a leader in another process has done.
_POLL_SECONDS = 0.005
#: A follower tries to take over at every so many looks.
_POLLS_PER_CLAIM = 20
#: How long the words of a failed leader stay behind for his followers.
_FAILURE_STAYS_SECONDS = 1.0


class Watcher(Protocol):
    """Told how fills go."""

    def fill_published(self, upstream: str, seconds: float) -> None: ...
    def fill_failed(self, upstream: str) -> None: ...
    def digest_mismatch(self, upstream: str) -> None: ...


class Fill:
    """On the event loop only; `Fills.join` makes them.

    Who reads along calls `attach` before anything else, and `detach` at the end: the body stays open until then.
    `admitted` holds a turn for it, where there is one already. `is_shared`: other workers have the same store.
    """

    def __init__(
        self,
        target: Target,
        digest: Digest,
        *,
        size_bytes: int | None,
        admitted: AsyncExitStack | None,
        upstream: Upstream,
        store: GrowingStore,
        landing: Landing,
        fetcher: Fetcher,
        queue: Queue,
        tasks: Tasks,
        watcher: Watcher,
        is_shared: bool,
        ended: Callable[[Fill, PullthroughError | None], None],
    ) -> None:
        self.target = target
        self.digest = digest
        self.course = Course(digest, target.upstream_owner, target.upstream, size_bytes)
        #: Whether the rest of the image was begun because of this blob.
        self.siblings_begun = False
        self._expected_bytes = size_bytes
        self._key = GrowingKey(digest, target.upstream_owner, target.secret)
        self._store = store
        self._landing = landing
        self._fetcher = fetcher
        self._watcher = watcher
        self._tasks = tasks
        self._told_end = ended
        self._asked_as_nobody = not upstream.shows_certificate
        self._makes_repository = False
        #: Repositories of this owner, under whatever rule with this secret, that may read it when it is here.
        self._asked = {target.repository}
        #: For the upstream's connections: of each client that asks, for one may have so much under way that it waits long.
        self._line = Line()
        self._readers = Readers(self.course)
        errand = upstream.errand()
        self._fetch = Fetch(upstream, target, digest, errand)
        self._place = QueuePlace(
            queue,
            upstream,
            target,
            digest,
            errand=errand,
            readers=self._readers,
            is_led_elsewhere=(lambda: store.is_led(self._key)) if is_shared else None,
            admitted=admitted,
        )
        self._growing: GrowingBody | None = None
        self._ended = False
        self.done = tasks.spawn(self._run(), name=f"fill {target.repository}@{digest}")

    # --- for readers -------------------------------------------------------------------------------------------------

    def ask(self, target: Target) -> None:
        """This repository, of the same owner and secret, asks for the blob as well."""
        self._asked.add(target.repository)
        self._line.join(ASKER.get())

    @property
    def is_queued(self) -> bool:
        """Whether it waits for its turn."""
        return self._place.is_queued

    async def wait(self, offset: int) -> int:
        """Wait for bytes behind `offset`; returns where they end for now. Equal to `offset` only at the body's end.

        Raises what ended the fill, once all bytes that may be sent have been given out.
        """
        return await self._readers.wait(offset)

    def attach(self) -> None:
        """Keep the body open."""
        self._readers.attach()

    def detach(self) -> None:
        self._readers.detach()
        self._close_if_done()

    @property
    def body(self) -> Body | None:
        """The growing body. Always the same one once `wait` has returned: what replaces it has nobody's bytes."""
        return self._growing

    def interrupt(self) -> None:
        """End the transfer; what has arrived stays and can be continued."""
        self._fetch.interrupt()

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        LINE.set(self._line)
        error: PullthroughError | None = None
        try:
            async with self._place.admitted:
                if not self._place.has_turn:
                    await self._place.take()
                await self._lead_or_follow()
        except PullthroughError as caught:
            error = caught
            if self._growing is None:
                self._note_failure(caught)  # in the queue
        except OSError as caught:
            error = StorageError(f"the fill of {self.digest} failed on our side: {caught.strerror or caught}")
            _log.exception("%s@%s: the fill failed", self.target.repository, self.digest)
        except asyncio.CancelledError:
            error = UpstreamUnavailable("the engine is stopping", upstream=self.target.upstream)
            raise
        except Exception:
            # A fault of ours, which the task logs: whoever waits must hear of it all the same.
            error = StorageError(f"the fill of {self.digest} failed on our side")
            raise
        finally:
            if error is not None:
                self.course.failed(error)
            self._readers.wake()
            self._told_end(self, error)  # who asks from here on begins another one
            try:
                if self._growing is not None:
                    await self._growing.release()
            finally:
                self._ended = True
                self._close_if_done()

    def _close_if_done(self) -> None:
        if self._ended and not self._readers.count and self._growing is not None:
            self._growing.close()

    async def _lead_or_follow(self) -> None:
        growing, sight = await self._store.open(self._key)
        self._growing = growing
        looks = 0
        while True:
            step = self.course.seen(sight)
            self._readers.wake()
            if step is Next.LEAD:
                await self._lead(growing, sight)
                return
            if step is Next.ENDED:
                # Readers have it all by now; the end is told once the catalog has it too, for grants wait for that.
                while not sight.leads and growing.is_being_published():  # noqa: ASYNC110 - done by another process
                    await asyncio.sleep(_POLL_SECONDS)
                await self._landing.grant(self._asked, self.target, self.digest)
                return
            if step is Next.ANOTHER:
                sight = await growing.reopen()
                continue
            if self._place.has_turn:
                await self._place.give_back()
            await asyncio.sleep(_POLL_SECONDS)
            looks += 1
            sight = await growing.claim() if looks % _POLLS_PER_CLAIM == 0 else growing.look()

    async def _lead(self, growing: GrowingBody, sight: Sight) -> None:
        course = self.course
        if not course.may_continue(sight):
            await growing.restart()
        course.lead(uuid.uuid4().hex)
        try:
            await self._prepare(growing)
            course.arrived = growing.sink.arrived()
            if not self._place.has_turn:  # the leader died whom this one followed
                await self._place.take_turn(behind=False)
            started = time.monotonic()
            await self._fetcher.receive(self._fetch, growing.sink, course, self._readers, self._expected_bytes)
            course.verified(growing.sink.arrived())
            self._readers.wake()
            await wait_out(self._publish(growing))
            self._watcher.fill_published(self.target.upstream, time.monotonic() - started)
        except LookAgain:
            await growing.retract(course.attempt)
            await growing.discard()
            raise
        except PullthroughError as error:
            await self._fail(growing, error)
            raise

    async def _prepare(self, growing: GrowingBody) -> None:
        """Tell the followers, and see that the blob is really missing; wait while another worker just publishes it."""
        telling = asyncio.ensure_future(self._fetcher.tell(growing.sink, self.course.tell(State.FILLING)))
        try:
            while True:
                is_being_published = growing.is_being_published()
                # In this order: who publishes keeps the lock until the catalog has it.
                record = await self._landing.look(self.target, self.digest)
                self._makes_repository = not record.repository_known
                if await self._landing.is_here(record):
                    raise LookAgain(f"{self.digest} was published meanwhile")
                if not is_being_published:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await wait_out(telling)

    async def _publish(self, growing: GrowingBody) -> None:
        await self._landing.publish(
            growing,
            self.target,
            self.digest,
            self.course.arrived.end,
            makes_repository=self._makes_repository,
            asked_as_nobody=self._asked_as_nobody,
            asked=self._asked,
        )
        await growing.retract(self.course.attempt)

    async def _fail(self, growing: GrowingBody, error: PullthroughError) -> None:
        """Tell the followers, and remove what cannot be continued."""
        self._note_failure(error)
        is_verified = self.course.is_verified
        if not is_verified:  # else followers have it all, and are told nothing worse
            try:
                await growing.tell(self.course.tell(State.FAILED, error))
            except (StorageError, OSError) as caught:
                _log.warning("the followers of %s could not be told: %s", self.digest, caught)
        if is_verified or isinstance(error, ContentError | DiskFull) or not growing.sink.arrived().spans:
            await growing.discard()
            self._tasks.spawn(self._forget_failure(growing), name=f"forget the failure of {self.digest}")

    async def _forget_failure(self, growing: GrowingBody) -> None:
        """Without its body what was told is of use to the followers only, and they look often."""
        await asyncio.sleep(_FAILURE_STAYS_SECONDS)
        await growing.retract(self.course.attempt)

    def _note_failure(self, error: PullthroughError) -> None:
        watcher, repository = self._watcher, self.target.repository
        watcher.fill_failed(self.target.upstream)
        if self.course.is_verified:
            # The bytes are right and every reader has them; only keeping them failed.
            _log.error("%s@%s was served but could not be kept: %s", repository, self.digest, error)
        elif isinstance(error, ContentError):
            watcher.digest_mismatch(self.target.upstream)
            _log.error("%s@%s: %s", repository, self.digest, error)
        else:
            _log.warning("%s@%s could not be filled: %s", repository, self.digest, error)
