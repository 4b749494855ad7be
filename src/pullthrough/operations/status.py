"""The operation `status`: how the engine is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pullthrough.operations.operation import CacheOperation, NoInput

if TYPE_CHECKING:
    from pullthrough.storage.bodies import BodyStore
    from pullthrough.storage.catalog.usage import Usage
    from pullthrough.threads import Runner
    from pullthrough.upstream.interfaces import UpstreamHealth, Upstreams


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """How an upstream is, as `UpstreamHealth` says."""

    upstream: str
    healthy: bool
    breaker: str
    paused_until: float | None
    remaining: int | None
    limit: int | None
    credential_ok: bool | None
    last_error: str


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    #: Why it serves less than it should: reason -> sentence.
    degraded: Mapping[str, str]
    repositories: int
    manifests: int
    tags: int
    blobs: int
    stored_bytes: int
    disk_free_bytes: int
    disk_total_bytes: int
    upstreams: Mapping[str, UpstreamEntry]


class StatusOperations:
    """What the parts of a worker say of themselves."""

    def __init__(
        self,
        *,
        degraded: Callable[[], Mapping[str, str]],
        usage: Usage,
        store: BodyStore,
        upstreams: Upstreams,
        call: Runner,
    ) -> None:
        self._degraded = degraded
        self._usage = usage
        self._store = store
        self._upstreams = upstreams
        self._call = call

    async def status(self, request: NoInput) -> StatusAnswer:
        totals = await self._call(self._usage.totals)
        disk = await self._store.space()
        return StatusAnswer(
            self._degraded(),
            totals.repositories,
            totals.manifests,
            totals.tags,
            totals.blobs,
            totals.stored_bytes,
            disk.free_bytes,
            disk.total_bytes,
            upstream_entries(self._upstreams.health()),
        )


def upstream_entries(healths: Iterable[UpstreamHealth]) -> dict[str, UpstreamEntry]:
    """By host."""
    return {
        health.upstream: UpstreamEntry(
            health.upstream,
            health.healthy,
            health.breaker.value,
            health.paused_until,
            health.remaining,
            health.limit,
            health.credential_ok,
            health.last_error,
        )
        for health in healths
    }


STATUS = CacheOperation("status", NoInput, StatusAnswer, StatusOperations, StatusOperations.status, method="GET")
OPERATIONS = (STATUS,)
