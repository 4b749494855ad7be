"""The operation `events`: what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pullthrough.operations.operation import CacheOperation

#: In one answer.
MAX_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class EventsRequest:
    limit: int

    def __post_init__(self) -> None:
        if not 0 < self.limit <= MAX_EVENTS:
            raise ValueError(f"the member limit must be a number from 1 to {MAX_EVENTS}")


@dataclass(frozen=True, slots=True)
class EventsAnswer:
    #: Each as Amazon ECR gives it to EventBridge, the newest first.
    events: tuple[Mapping[str, Any], ...]


class KeptEvents(Protocol):
    async def newest(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """The newest first."""
        ...


class EventOperations:
    """What the engine remembers of what happened."""

    def __init__(self, events: KeptEvents) -> None:
        self._events = events

    async def newest(self, request: EventsRequest) -> EventsAnswer:
        return EventsAnswer(tuple(await self._events.newest(request.limit)))


EVENTS = CacheOperation("events", EventsRequest, EventsAnswer, EventOperations, EventOperations.newest)
OPERATIONS = (EVENTS,)
