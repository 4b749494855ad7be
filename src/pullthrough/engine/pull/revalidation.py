"""Answers that an upstream may change, tags and lists: served while fresh, checked behind or before the answer when stale.

An answer costs upstream (tests count exactly):

    hit, negative, joined, stale        nothing (a stale answer is checked behind it)
    miss                                what filling it takes
    revalidated                         what checking it takes
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.pull.freshness import Validation, Verdict, decide
from pullthrough.engine.pull.negatives import Negatives, WantedThing
from pullthrough.engine.pull.pauses import Pauses
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import PullthroughError, UpstreamError, UpstreamNotFound, UpstreamUnavailable
from pullthrough.storage.interfaces import Locks
from pullthrough.upstream.interfaces import Turn, Upstreams

_log = logging.getLogger(__name__)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Checked(Generic[R]):
    """What is cached after the upstream was asked."""

    record: R
    note: str = ""
    #: False where another worker had just asked while this one waited.
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Served(Generic[R]):
    record: R
    outcome: Outcome


class Perishable(Protocol[R]):
    """A tag or a list: how it is found, asked for, kept and told of."""

    @property
    def target(self) -> Target: ...

    @property
    def tag(self) -> str:
        """What its freshness goes by; empty for a list."""
        ...

    @property
    def key(self) -> str:
        """Names it among all; also the lock under which one worker asks for it."""
        ...

    @property
    def title(self) -> str:
        """For logs."""
        ...

    @property
    def wanted(self) -> WantedThing: ...

    @property
    def check_seconds(self) -> float | None:
        """How long a check may take that no client waits for any longer. None for any time; then it also waits for its turn."""
        ...

    def validation(self, record: R) -> Validation: ...

    def note(self, record: R) -> str:
        """What clients are told of the cached record; mostly empty."""
        ...

    async def find(self) -> R | None:
        """What is cached."""
        ...

    async def fill(self, turn: Turn) -> R:
        """Fetch and keep what is not cached."""
        ...

    async def check(self, record: R, turn: Turn, *, forced: bool, limit: float | None) -> Checked[R]:
        """Ask what it is now, and keep what the upstream says. `limit` is for each request, in seconds."""
        ...

    def excuse(self, error: PullthroughError) -> str:
        """Why the cached record is served though its check failed. Raises where it may not be."""
        ...


class Revalidation:
    """Of one worker; one question at a time for each tag and list over all workers."""

    def __init__(
        self,
        *,
        negatives: Negatives,
        locks: Locks,
        upstreams: Upstreams,
        tasks: Tasks,
        clock: Callable[[], float],
        stale_check_timeout_seconds: float,
    ) -> None:
        self._negatives = negatives
        self._locks = locks
        self._upstreams = upstreams
        self._tasks = tasks
        self._clock = clock
        self._stale_check_timeout_seconds = stale_check_timeout_seconds
        self._pauses = Pauses(clock)

    async def get(self, content: Perishable[R], *, force: bool = False, strict: bool = False) -> Served[R]:
        """`force` asks for a check with the upstream, fresh or not; `strict` wants no stale answer if that fails.

        Raises what `content` says is unknown, or an UpstreamError where nothing is cached that could be served instead.
        """
        record = await content.find()
        if record is None:
            return await self._miss(content)
        paused = self._pauses.reason(content.key)
        verdict = decide(
            content.target.rule,
            content.tag,
            content.validation(record),
            self._clock(),
            paused=bool(paused),
            force=force,
            strict=strict,
        )
        match verdict:
            case Verdict.FRESH:
                return self._served(content, record, CacheResult.HIT, content.note(record))
            case Verdict.PAUSED:
                return self._served(content, record, CacheResult.STALE, paused)
            case Verdict.STALE:
                self._check_behind(content, record)
                reason = content.note(record) or "checked behind this answer"
                return self._served(content, record, CacheResult.STALE, reason)
            case Verdict.CHECK:
                return await self._check_first(content, record, forced=False, strict=False)
            case Verdict.FORCED:
                return await self._check_first(content, record, forced=True, strict=strict)
            case Verdict.REFUSED:
                upstream = content.target.upstream
                raise UpstreamUnavailable(
                    f"{upstream} was asked for {content.wanted.name} a moment ago, in vain, and is not asked again "
                    f"so soon{': ' if paused else ''}{paused}",
                    upstream=upstream,
                )

    async def _miss(self, content: Perishable[R]) -> Served[R]:
        await self._negatives.raise_if_remembered(content.wanted)
        checked, joined = await self._ask_once(content, None)
        kind = CacheResult.JOINED if joined or not checked.asked else CacheResult.MISS
        return self._served(content, checked.record, kind)

    async def _check_first(self, content: Perishable[R], record: R, *, forced: bool, strict: bool) -> Served[R]:
        """A client waits for the check for a short while only, then it goes on behind the stale answer."""
        limit = None if strict else self._stale_check_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                checked, joined = await self._ask_once(content, record, forced=forced, patient=strict)
        except TimeoutError:
            reason = f"{content.target.upstream} did not answer within {limit:g} s"
            self._pauses.begin(content.key, reason)
            return self._served(content, record, CacheResult.STALE, reason)
        except PullthroughError as error:
            if strict:
                raise
            return self._served(content, record, CacheResult.STALE, content.excuse(error))
        kind = CacheResult.JOINED if joined or not checked.asked else CacheResult.REVALIDATED
        return self._served(content, checked.record, kind, checked.note or content.note(checked.record))

    def _check_behind(self, content: Perishable[R], record: R) -> None:
        if not self._tasks.is_flying(content.key):
            self._tasks.spawn(self._ask_once(content, record), name=f"check {content.title}")

    async def _ask_once(
        self, content: Perishable[R], seen: R | None, *, forced: bool = False, patient: bool = False
    ) -> tuple[Checked[R], bool]:
        """`seen` is what the client was shown, or would be; None where nothing is cached."""
        limit = None if seen is None or patient else content.check_seconds
        return await self._tasks.once(
            content.key,
            lambda: self._ask(content, seen, forced=forced, limit=limit),
            name=f"{'fetch' if seen is None else 'check'} {content.title}",
        )

    async def _ask(self, content: Perishable[R], seen: R | None, *, forced: bool, limit: float | None) -> Checked[R]:
        upstream = self._upstreams.get(content.target.upstream)
        try:
            async with upstream.turn(patient=limit is None) as turn, self._locks.hold(content.key):
                record = await content.find()
                if record is None:
                    checked = Checked(await self._fill(content, turn))
                elif seen is None or content.validation(record).is_newer(content.validation(seen)):
                    return Checked(record, asked=False)
                else:
                    checked = await content.check(record, turn, forced=forced, limit=limit)
        except UpstreamError as error:
            if seen is not None:
                self._pauses.begin_after(content.key, error)
                _log.warning("%s could not be checked, what is cached is served: %s", content.title, error)
            raise
        self._pauses.end(content.key)
        return checked

    async def _fill(self, content: Perishable[R], turn: Turn) -> R:
        await self._negatives.raise_if_remembered(content.wanted)
        try:
            return await content.fill(turn)
        except UpstreamNotFound as error:
            raise await self._negatives.remember(content.wanted) from error

    def _served(self, content: Perishable[R], record: R, kind: CacheResult, reason: str = "") -> Served[R]:
        age = self._clock() - content.validation(record).validated_at
        return Served(record, Outcome(kind, content.target.rule.prefix, age, reason))
