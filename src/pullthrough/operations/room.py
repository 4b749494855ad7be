"""The operations that make room: evict, lifecycle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pullthrough.oci.names import parse_repository_name
from pullthrough.operations.operation import CacheOperation
from pullthrough.units import format_time

if TYPE_CHECKING:
    from pullthrough.engine.configuration import Configuration
    from pullthrough.engine.keep.eviction import EvictionReport
    from pullthrough.engine.keep.lifecycle import Decision
    from pullthrough.engine.keep.lifecycle_runs import LifecycleOutcome, LifecycleRuns
    from pullthrough.engine.keep.room import DiskRoom
    from pullthrough.engine.pull.pull_times import PullTimes
    from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class EvictRequest:
    #: Whether to say only what would go.
    dry_run: bool


@dataclass(frozen=True, slots=True)
class EvictedEntry:
    """An image, or a blob that no image names: then `image` is empty."""

    image: str
    digest: str
    bytes: int
    last_pulled: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class EvictAnswer:
    dry_run: bool
    evicted: tuple[EvictedEntry, ...]
    freed_bytes: int
    #: What is left.
    stored_bytes: int
    limit_bytes: int | None

    @classmethod
    def of(cls, report: EvictionReport) -> EvictAnswer:
        evicted = tuple(
            EvictedEntry(
                item.image,
                str(item.digest),
                item.freed_bytes,
                format_time(item.last_pulled_at),
                item.reason,
            )
            for item in report.evicted
        )
        return cls(report.dry_run, evicted, report.freed_bytes, report.stored_bytes, report.limit_bytes)


@dataclass(frozen=True, slots=True)
class LifecycleRequest:
    #: None for all that have a policy.
    repository: str | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ImageUnderRule:
    """An image that a policy's rule, named by its priority, took."""

    digest: str
    tags: tuple[str, ...]
    rule: int


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """What the policy of one repository did, or would do."""

    repository: str
    expired: tuple[ImageUnderRule, ...]
    archived: tuple[ImageUnderRule, ...]
    #: Images that changed meanwhile, and were left alone.
    skipped: int
    #: Why the policy could not be evaluated; empty where it was.
    error: str

    @classmethod
    def of(cls, outcome: LifecycleOutcome) -> RepositoryEntry:
        return cls(
            outcome.repository,
            _under_rules(outcome.expired),
            _under_rules(outcome.archived),
            outcome.skipped,
            outcome.error,
        )


@dataclass(frozen=True, slots=True)
class LifecycleAnswer:
    dry_run: bool
    repositories: tuple[RepositoryEntry, ...]


class RoomOperations:
    """What makes room, as the engine does by itself, but now."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        room: DiskRoom,
        pull_times: PullTimes,
        lifecycle_runs: LifecycleRuns,
        call: Runner,
    ) -> None:
        self._configuration = configuration
        self._room = room
        self._pull_times = pull_times
        self._lifecycle_runs = lifecycle_runs
        self._call = call

    async def evict(self, request: EvictRequest) -> EvictAnswer:
        """Bring the cache down to its limits; or only say what would go."""
        await self._call(self._pull_times.flush)
        return EvictAnswer.of(await self._room.evict(dry_run=request.dry_run))

    async def lifecycle(self, request: LifecycleRequest) -> LifecycleAnswer:
        """Evaluate one repository's lifecycle policy, or all of them; or only say what they would do."""
        name = None
        if request.repository is not None:
            rules = await self._configuration.current_rules()
            name = rules.resolve(parse_repository_name(request.repository)).literal.repository
        outcomes = await self._lifecycle_runs.run(name, dry_run=request.dry_run)
        return LifecycleAnswer(request.dry_run, tuple(RepositoryEntry.of(outcome) for outcome in outcomes))


def _under_rules(decisions: Iterable[Decision]) -> tuple[ImageUnderRule, ...]:
    return tuple(
        ImageUnderRule(decision.image.digest, decision.image.tags, decision.rule.priority) for decision in decisions
    )


EVICT = CacheOperation("evict", EvictRequest, EvictAnswer, RoomOperations, RoomOperations.evict)
LIFECYCLE = CacheOperation("lifecycle", LifecycleRequest, LifecycleAnswer, RoomOperations, RoomOperations.lifecycle)
OPERATIONS = (EVICT, LIFECYCLE)
