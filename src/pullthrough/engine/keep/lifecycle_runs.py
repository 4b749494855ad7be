"""Lifecycle policies at work: on a schedule, by command, and previewed. One evaluator at a time over all workers.

What a policy says is carried out in small transactions beside traffic. Each takes whole groups (`lifecycle.together`), and
looks again whether they are as they were when they were judged; what has changed meanwhile is left to the next run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pullthrough.engine.keep.lifecycle import Decision, Fate, evaluate, together
from pullthrough.engine.keep.lifecycle_policy import Action, parse_lifecycle_policy
from pullthrough.engine.push.manifests import Happened
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import LifecyclePolicyInvalid, RepositoryUnknown, StorageError
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.storage.catalog.inventory import Inventory
from pullthrough.storage.catalog.records import ImageState
from pullthrough.storage.interfaces import Lock, Locks
from pullthrough.storage.registry.images import Group, Images
from pullthrough.storage.registry.lifecycles import COMPLETE, FAILED, IN_PROGRESS, Lifecycles, Preview, PreviewResult
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)
_LOCK = "lifecycle"
#: A policy that was just put is evaluated this soon.
_LOOK_SECONDS = 60.0
#: One transaction takes about this many images; others wait for it.
_STEP_IMAGES = 50
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class LifecycleOutcome:
    """What a policy did to a repository, or would do. `error` says why it could not be evaluated."""

    repository: RepositoryName
    done: tuple[Decision, ...] = ()
    #: Images that changed while the policy was carried out, and were left alone.
    skipped: int = 0
    error: str = ""

    @property
    def expired(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.done if decision.fate is Fate.EXPIRED)

    @property
    def archived(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.done if decision.fate is Fate.ARCHIVED)


class LifecycleRuns:
    """One worker's side. `happened` is told, on the event loop, of each image that a policy deleted."""

    def __init__(
        self,
        *,
        images: Images,
        lifecycles: Lifecycles,
        inventory: Inventory,
        locks: Locks,
        tasks: Tasks,
        call: Runner,
        call_slow: Runner,
        flush: Callable[[], None],
        happened: Happened,
        clock: Callable[[], float],
        interval_seconds: float,
        pause: Callable[[], None] = lambda: time.sleep(_PAUSE_SECONDS),
    ) -> None:
        self._images = images
        self._lifecycles = lifecycles
        self._inventory = inventory
        self._locks = locks
        self._tasks = tasks
        self._call = call
        self._call_slow = call_slow
        #: Writes the pull times that are only in memory.
        self._flush = flush
        self._happened = happened
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._pause = pause

    # --- runs --------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Evaluate each policy whenever its interval has passed."""
        while True:
            try:
                if lock := self._locks.try_lock(_LOCK):
                    with lock:
                        due = await self._call(self._lifecycles.due, self._clock() - self._interval_seconds)
                        for repository, policy in due:
                            await self._evaluate(repository, policy, dry_run=False)
            except (StorageError, OSError) as error:
                _log.error("lifecycle policies could not be evaluated: %s", error)
            await asyncio.sleep(min(_LOOK_SECONDS, self._interval_seconds))

    async def run(self, repository: RepositoryName | None, *, dry_run: bool) -> list[LifecycleOutcome]:
        """Evaluate the policy of one repository, or all policies, now; or only say what they would do.

        Raises RepositoryUnknown where there is no such repository; one without a policy gives no outcome.
        """
        async with self._locks.hold(_LOCK):
            if repository is None:
                policies = await self._call(self._lifecycles.due, self._clock())
            else:
                text = (await self._call(self._lifecycles.policy, repository)).text
                policies = [] if text is None else [(repository, text)]
            return [await self._evaluate(name, policy, dry_run=dry_run) for name, policy in policies]

    async def _evaluate(self, repository: RepositoryName, policy: str, *, dry_run: bool) -> LifecycleOutcome:
        await self._call(self._flush)
        try:
            decisions = await self._call_slow(self._judge, repository, policy)
            if dry_run:
                return LifecycleOutcome(repository, tuple(decisions))
            outcome = await self._carry_out(repository, decisions)
        except LifecyclePolicyInvalid as error:
            outcome = LifecycleOutcome(repository, error=error.message)
            _log.error("the lifecycle policy of %s can not be evaluated: %s", repository, error)
        except RepositoryUnknown:
            return LifecycleOutcome(repository, error="it was deleted meanwhile")
        if not dry_run:
            await self._call(self._lifecycles.note_evaluated, repository, self._clock())
        if outcome.done:
            _log.info("the lifecycle policy of %s changed %d images", repository, len(outcome.done))
        return outcome

    async def _carry_out(self, repository: RepositoryName, decisions: Sequence[Decision]) -> LifecycleOutcome:
        """Step by step; each is told as soon as it is done, for the next may fail."""
        done: set[int] = set()
        for step in _steps(await self._call_slow(together, decisions)):
            for group in await self._call_slow(self._take, repository, step):
                done.update(image.image_id for image in (*group.expired, *group.archived))
                for image in group.expired:
                    self._tell_deleted(repository, image)
        carried_out = tuple(decision for decision in decisions if decision.image.image_id in done)
        return LifecycleOutcome(repository, carried_out, skipped=len(decisions) - len(carried_out))

    def _take(self, repository: RepositoryName, step: Sequence[Group]) -> list[Group]:
        done = self._images.carry_out(repository, step, now=self._clock())
        self._pause()
        return done

    def _tell_deleted(self, repository: RepositoryName, image: ImageState) -> None:
        """An event for each tag, or one without."""
        for tag in image.tags or (None,):
            self._happened(
                "DELETE",
                repository,
                Digest(image.digest),
                tag=None if tag is None else Tag(tag),
                media_type=image.media_type,
                artifact_type=image.artifact_type,
            )

    def _judge(self, repository: RepositoryName, policy: str) -> list[Decision]:
        rules = parse_lifecycle_policy(policy)
        held = self._inventory.pinned_images()
        return evaluate(rules, self._images.states(repository), now=self._clock(), held=held)

    # --- previews ----------------------------------------------------------------------------------------------------

    async def start_preview(self, repository: RepositoryName, policy: str) -> bool:
        """Begin to find out what the policy would do; False where that is being done. Raises RepositoryUnknown.

        The policy must be a valid one.
        """
        lock = self._locks.try_lock(_preview_lock(repository))
        if lock is None:
            return False
        try:
            await self._call(self._lifecycles.begin_preview, repository, policy)
        except BaseException:
            lock.release()
            raise
        self._tasks.spawn(self._preview(repository, policy, lock), name=f"lifecycle preview of {repository}")
        return True

    async def _preview(self, repository: RepositoryName, policy: str, lock: Lock) -> None:
        with lock:
            await self._call(self._flush)
            await self._call_slow(self._preview_blocking, repository, policy)

    def _preview_blocking(self, repository: RepositoryName, policy: str) -> None:
        decisions = self._judge(repository, policy)
        results = [
            PreviewResult(
                decision.image.digest,
                decision.image.tags,
                decision.image.pushed_at,
                "EXPIRE" if decision.fate is Fate.EXPIRED else "TRANSITION",
                decision.rule.priority,
                decision.image.archived_at is not None,
            )
            for decision in decisions
        ]
        expiring = sum(decision.rule.action is Action.EXPIRE for decision in decisions)
        preview = Preview(policy, COMPLETE, expiring, len(decisions) - expiring)
        self._lifecycles.end_preview(repository, preview, results)

    async def preview(self, repository: RepositoryName) -> Preview | None:
        """The last one that was started; None where none was. One whose worker died has failed."""
        preview = await self._call(self._lifecycles.preview, repository)
        if preview is None or preview.status != IN_PROGRESS:
            return preview
        lock = self._locks.try_lock(_preview_lock(repository))
        if lock is None:
            return preview
        with lock:
            preview = await self._call(self._lifecycles.preview, repository)
            if preview is None or preview.status != IN_PROGRESS:
                return preview
            failed = Preview(preview.policy, FAILED, 0, 0)
            await self._call(self._lifecycles.end_preview, repository, failed, [])
            return failed


def _preview_lock(repository: RepositoryName) -> str:
    return f"lifecycle-preview:{repository}"


def _steps(groups: Sequence[Sequence[Decision]]) -> Iterator[list[Group]]:
    step: list[Group] = []
    images = 0
    for group in groups:
        step.append(
            Group(
                tuple(decision.image for decision in group if decision.fate is Fate.EXPIRED),
                tuple(decision.image for decision in group if decision.fate is Fate.ARCHIVED),
            )
        )
        images += len(group)
        if images >= _STEP_IMAGES:
            yield step
            step, images = [], 0
    if step:
        yield step
