"""Events: their shape, their bound, and that each reaches the webhook once it answers."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import Rule
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.engine.tell import events as events_module
from pullthrough.engine.tell.events import Events
from pullthrough.engine.tell.webhook import Webhook
from pullthrough.errors import (
    DigestMismatch,
    ManifestUnknown,
    PullthroughError,
    UpstreamDenied,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.files.locks import FileLocks
from pullthrough.storage.interfaces import Locks
from pullthrough.storage.registry.events import EventLog
from tests.unit.engine.house import BriefLocks
from tests.waiting import until

DIGEST = digest_of(b"manifest")
TARGET = Target(
    Rule(prefix="docker-hub", upstream="registry-1.docker.io"), RepositoryName("docker-hub/library/a"), "library/a"
)


class Receiver:
    """Answers with what it is told to, and takes note of the events it took."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.taken: list[str] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> int:
        answer = self.answers.pop(0) if self.answers else 200
        if answer == 200:
            self.taken.append(json.loads(body)["detail"]["repository-name"])
        return answer


class House:
    def __init__(self, folder: Path) -> None:
        self.now = 1_700_000_000.0
        self.folder = folder
        self.catalog = Catalog.open(folder / "catalog.sqlite")
        self.log = EventLog(self.catalog.database)

    @asynccontextmanager
    async def worker(
        self, *, keep: int = 100, webhook: Webhook | None = None, locks: Locks | None = None
    ) -> AsyncIterator[Events]:
        tasks = Tasks()

        def call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
            work = functools.partial(function, *arguments, **keywords)
            return asyncio.get_running_loop().run_in_executor(None, work)

        events = Events(
            log=self.log,
            call=call,
            call_slow=call,
            tasks=tasks,
            locks=locks or FileLocks(self.folder / "locks"),
            clock=lambda: self.now,
            account="123456789012",
            region="eu-west-1",
            keep=keep,
            webhook=webhook,
            new_id=lambda: "id",
        )
        events.start()
        try:
            yield events
        finally:
            await tasks.close()
            await events.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_the_shape_is_eventbridges(house: House) -> None:
    async with house.worker() as events:
        events.pulled_through(TARGET, Tag("1.27"), digest=DIGEST)
        (event,) = await events.newest(10)
    assert event == {
        "version": "0",
        "id": "id",
        "detail-type": "ECR Pull Through Cache Action",
        "source": "aws.ecr",
        "account": "123456789012",
        "time": "2023-11-14T22:13:20Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:ecr:eu-west-1:123456789012:repository/docker-hub/library/a"],
        "detail": {
            "rule-version": "1",
            "sync-status": "SUCCESS",
            "ecr-repository-prefix": "docker-hub",
            "repository-name": "docker-hub/library/a",
            "upstream-registry-url": "registry-1.docker.io",
            "image-tag": "1.27",
            "image-digest": str(DIGEST),
        },
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ManifestUnknown("gone"), "ImageNotFound"),
        (UpstreamDenied("no", upstream="u"), "UpstreamAccessDenied"),
        (UpstreamThrottled("slow", upstream="u", retry_after_seconds=1), "UpstreamTooManyRequests"),
        (UpstreamUnavailable("down", upstream="u"), "UpstreamUnavailable"),
        (DigestMismatch("wrong", expected="a", actual="b"), "InvalidImageDigest"),
    ],
)
async def test_a_failure_has_a_code_of_the_api_and_a_reason(house: House, error: PullthroughError, code: str) -> None:
    async with house.worker() as events:
        events.pulled_through(TARGET, DIGEST, digest=None, error=error)
        (event,) = await events.newest(10)
    assert event["detail"]["sync-status"] == "FAILURE"
    assert event["detail"]["failure-code"] == code
    assert event["detail"]["failure-reason"] == error.message
    assert event["detail"]["image-digest"] == str(DIGEST)
    assert "image-tag" not in event["detail"]


async def test_only_the_newest_are_kept(house: House) -> None:
    async with house.worker(keep=5) as events:
        for number in range(12):
            events.image("PUSH", f"r{number}", DIGEST)
        await events.newest(1)
        events.image("DELETE", "last", DIGEST, tag="t")
        names = [event["detail"]["repository-name"] for event in await events.newest(100)]
    assert names == ["last", "r11", "r10", "r9", "r8"]


async def test_what_was_not_written_yet_is_written_at_the_end(house: House) -> None:
    async with house.worker() as events:
        events.image("PUSH", "r", DIGEST)
    assert len(house.log.newest(10)) == 1


async def test_the_webhook_gets_each_event_in_its_order_however_often_it_fails(house: House) -> None:
    receiver = Receiver(503, 429, 200, 500)
    async with house.worker(webhook=Webhook("http://r.example/", None, send=receiver)) as events:
        for name in ("one", "two", "three"):
            events.image("PUSH", name, DIGEST)
        await events.newest(1)

        def taken() -> bool:
            house.now += 10  # the pause after a failure is over
            events._news.set()
            # Not only received: an end in between would leave the last one due, to be delivered once more.
            return len(receiver.taken) == 3 and house.log.next_due() is None

        await until(taken)
    assert receiver.taken == ["one", "two", "three"]


async def test_an_event_that_is_refused_does_not_hold_up_the_next(house: House) -> None:
    receiver = Receiver(400)
    async with house.worker(webhook=Webhook("http://r.example/", None, send=receiver)) as events:
        events.image("PUSH", "bad", DIGEST)
        events.image("PUSH", "good", DIGEST)
        await events.newest(1)
        await until(lambda: receiver.taken == ["good"])


async def test_events_are_told_after_the_system_had_nothing_left(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, locks = Receiver(), BriefLocks(house.folder / "locks")
    async with house.worker(webhook=Webhook("http://r.example/", None, send=receiver), locks=locks) as events:
        events.image("PUSH", "r", DIGEST)
        await events.newest(1)
        await until(lambda: receiver.taken == ["r"])
    assert "cannot be seen now: [Errno 24]" in caplog.text


async def test_one_worker_delivers_for_all_and_what_was_left_is_delivered_later(house: House) -> None:
    down, up = Receiver(*[500] * 1000), Receiver()
    async with house.worker(webhook=Webhook("http://r.example/", None, send=down)) as events:
        events.image("PUSH", "r", DIGEST)
        await events.newest(1)
        await until(lambda: len(down.answers) < 1000)
        async with house.worker(webhook=Webhook("http://r.example/", None, send=up)) as other:
            other.image("PUSH", "s", DIGEST)
            await other.newest(1)
        assert up.taken == []
    house.now += 1000
    async with house.worker(webhook=Webhook("http://r.example/", None, send=up)):
        await until(lambda: len(up.taken) == 2)
    assert up.taken == ["r", "s"]


async def test_events_that_are_never_taken_make_room_with_a_word(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(*[500] * 1000)
    async with house.worker(keep=2, webhook=Webhook("http://r.example/", None, send=receiver)) as events:
        for _ in range(5):
            events.image("PUSH", "r", DIGEST)
        await events.newest(1)
    assert "3 events were never delivered" in caplog.text
    assert events_module.IMAGE in house.log.newest(1)[0].body
