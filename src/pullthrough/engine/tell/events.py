"""Events in the shape that Amazon ECR gives to EventBridge: kept, to be asked for, and told to a webhook.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html

An event is written a moment after what it tells of, in batches: kill -9 may lose the last half second of them, never
what they tell of. To the webhook they go at least once, in their order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.engine.tell.webhook import Delivery, Webhook, pause_seconds
from pullthrough.errors import (
    ContentError,
    ContentUnknown,
    PullthroughError,
    StorageError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamThrottled,
)
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference
from pullthrough.storage.interfaces import Lock, Locks
from pullthrough.storage.registry.events import EventLog
from pullthrough.threads import Runner
from pullthrough.units import format_time

_log = logging.getLogger(__name__)

PULL_THROUGH = "ECR Pull Through Cache Action"
IMAGE = "ECR Image Action"
#: Of our own: AWS tells of no such thing.
RULE = "Pull Through Cache Rule Created"

#: Events are gathered for so long, so that a burst of pulls costs one transaction.
_GATHER_SECONDS = 0.5
#: Repositories that one event names.
_MAX_NAMES = 1_000
#: A catalog that cannot be written must not let memory grow.
_MAX_PENDING = 10_000
#: How often a worker looks whether there is something to deliver, or whether the one that delivers has died.
_LOOK_SECONDS = 1.0


class Events:
    """One worker's side. `emit` is called on the event loop; `close` writes what was not written yet."""

    def __init__(
        self,
        *,
        log: EventLog,
        call: Runner,
        call_slow: Runner,
        tasks: Tasks,
        locks: Locks,
        clock: Callable[[], float],
        account: str,
        region: str,
        keep: int,
        webhook: Webhook | None,
        new_id: Callable[[], object] = uuid.uuid4,
    ) -> None:
        self._event_log = log
        self._call = call
        #: In threads that the catalog does not need: a receiver may take its time.
        self._call_slow = call_slow
        self._tasks = tasks
        self._locks = locks
        self._clock = clock
        self._account = account
        self._region = region
        self._keep = keep
        self._webhook = webhook
        self._new_id = new_id
        self._pending: list[tuple[float, str]] = []
        self._gathering = False
        self._news = asyncio.Event()

    def start(self) -> None:
        if self._webhook is not None:
            self._tasks.spawn(self._deliver(self._webhook), name="webhook")

    # --- what happened -----------------------------------------------------------------------------------------------

    def emit(self, detail_type: str, repository: str, detail: Mapping[str, Any]) -> None:
        """Tell of something that happened to a repository. Members of `detail` that are None are left out."""
        now = self._clock()
        event = {
            "version": "0",
            "id": str(self._new_id()),
            "detail-type": detail_type,
            "source": "aws.ecr",
            "account": self._account,
            "time": format_time(now),
            "region": self._region,
            "resources": [f"arn:aws:ecr:{self._region}:{self._account}:repository/{repository}"],
            "detail": {key: value for key, value in detail.items() if value is not None},
        }
        self._pending.append((now, json.dumps(event, separators=(",", ":"))))
        del self._pending[:-_MAX_PENDING]
        if not self._gathering:
            self._gathering = True
            self._tasks.spawn(self._gather(), name="writing events")

    def pulled_through(
        self, target: Target, reference: Reference, *, digest: Digest | None, error: PullthroughError | None = None
    ) -> None:
        """A manifest was fetched from its upstream, or was not."""
        by_digest = isinstance(reference, Digest)
        failure = None if error is None else _failure_code(error)
        self.emit(
            PULL_THROUGH,
            target.repository,
            {
                "rule-version": "1",
                "sync-status": "SUCCESS" if failure is None else "FAILURE",
                "ecr-repository-prefix": target.rule.prefix,
                "repository-name": target.repository,
                "upstream-registry-url": target.upstream,
                "image-tag": None if by_digest else str(reference),
                "image-digest": str(digest or reference) if digest or by_digest else None,
                "failure-code": failure,
                "failure-reason": error.message if error is not None else None,
            },
        )

    def image(
        self,
        action: str,
        repository: str,
        digest: Digest,
        *,
        tag: str | None = None,
        media_type: str | None = None,
        artifact_type: str | None = None,
    ) -> None:
        """`action` is PUSH or DELETE, and was done."""
        self.emit(
            IMAGE,
            repository,
            {
                "result": "SUCCESS",
                "repository-name": repository,
                "image-digest": str(digest),
                "action-type": action,
                "image-tag": tag,
                "manifest-media-type": media_type,
                "artifact-media-type": artifact_type or None,
            },
        )

    def rule_covers_own(self, prefix: str, upstream: str, names: Sequence[str]) -> None:
        """A rule was made over repositories that clients had pushed, and that stay the registry's own."""
        self.emit(
            RULE,
            names[0],
            {
                "ecr-repository-prefix": prefix,
                "upstream-registry-url": upstream,
                "own-repositories": list(names[:_MAX_NAMES]),
                "own-repositories-count": len(names),
            },
        )

    async def newest(self, limit: int) -> list[dict[str, Any]]:
        """The newest first, those of the last moment included."""
        await self._write()
        records = await self._call(self._event_log.newest, limit)
        return [json.loads(record.body) for record in records]

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _gather(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        self._gathering = False
        await self._write()

    async def _write(self) -> None:
        batch, self._pending = self._pending, []
        if not batch:
            return
        try:
            kept = await self._call(self._event_log.add, batch, keep=self._keep, deliver=self._webhook is not None)
        except StorageError as error:
            _log.error("%d events could not be kept: %s", len(batch), error)
            return
        if kept.dropped:
            _log.error(
                "%d events were never delivered: the webhook takes none, and newer ones need the room", kept.dropped
            )
        self._news.set()

    async def close(self) -> None:
        """After the tasks have ended."""
        await self._write()

    # --- the webhook -------------------------------------------------------------------------------------------------

    async def _deliver(self, webhook: Webhook) -> None:
        """One worker delivers for all; when it dies, another one finds the lock free."""
        while (lock := self._try_to_lead()) is None:  # noqa: ASYNC110 - held by another process
            await asyncio.sleep(_LOOK_SECONDS)
        with lock:
            while True:
                try:
                    pause = await self._deliver_next(webhook)
                except StorageError as error:
                    _log.error("the events for the webhook cannot be read: %s", error)
                    pause = _LOOK_SECONDS
                if pause:
                    await self._wait_for_news(pause)

    def _try_to_lead(self) -> Lock | None:
        try:
            return self._locks.try_lock("webhook")
        except OSError as error:  # no descriptor left, for one
            _log.error("whether another worker tells the webhook cannot be seen now: %s", error)
            return None

    async def _deliver_next(self, webhook: Webhook) -> float:
        """Tell of the oldest event; how long to wait before the next look, 0 for not at all."""
        found = await self._call(self._event_log.next_due)
        if found is None:
            return _LOOK_SECONDS
        event, due_at = found
        now = self._clock()
        if due_at > now:
            return min(due_at - now, _LOOK_SECONDS)
        told = await self._call_slow(webhook.tell, event.body, now)
        if told.delivery is Delivery.LATER:
            pause = pause_seconds(event.attempts)
            _log.warning("an event could not be delivered, tried again in %.0f s: %s", pause, told.reason)
            await self._call(self._event_log.postpone, event.event_id, now + pause)
            return min(pause, _LOOK_SECONDS)
        if told.delivery is Delivery.REFUSED:
            _log.error("an event is not delivered, and not tried again: %s", told.reason)
        await self._call(self._event_log.settle, event.event_id)
        return 0.0

    async def _wait_for_news(self, seconds: float) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass


def _failure_code(error: PullthroughError) -> str:
    """As BatchGetImage calls it (ImageFailureCode of the API)."""
    if isinstance(error, ContentUnknown | UpstreamNotFound):
        return "ImageNotFound"
    if isinstance(error, UpstreamDenied):
        return "UpstreamAccessDenied"
    if isinstance(error, UpstreamThrottled):
        return "UpstreamTooManyRequests"
    if isinstance(error, ContentError):
        return "InvalidImageDigest"
    return "UpstreamUnavailable"
