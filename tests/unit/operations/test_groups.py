"""What operations make of the reports of the engine's parts, and that a check ends with whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pullthrough.engine.keep.check import CheckReport, Problem
from pullthrough.engine.keep.eviction import Evicted, EvictionReport
from pullthrough.engine.keep.lifecycle import Decision, Fate
from pullthrough.engine.keep.lifecycle_policy import parse_lifecycle_policy
from pullthrough.engine.keep.lifecycle_runs import LifecycleOutcome
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import RepositoryName
from pullthrough.operations.check import CheckAnswer, CheckOperations, ProblemEntry
from pullthrough.operations.operation import NoInput
from pullthrough.operations.room import EvictAnswer, EvictedEntry, ImageUnderRule, RepositoryEntry
from pullthrough.storage.catalog.records import ImageState

DIGEST = digest_of(b"body")
POLICY = """{"rules": [{"rulePriority": 7, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan",
 "countNumber": 1}, "action": {"type": "expire"}}]}"""


async def test_a_check_says_what_it_found() -> None:
    problem = Problem("blob_digest", DIGEST, "it rotted", True)

    async def check(pause: Callable[[], Awaitable[object]]) -> CheckReport:
        await pause()
        return CheckReport(2, 1, 300, (problem, Problem("foreign_file", "/x", "left alone", False)))

    answer = await CheckOperations(check, pause_seconds=0.0).check(NoInput())
    entries = (
        ProblemEntry("blob_digest", DIGEST, "it rotted", True),
        ProblemEntry("foreign_file", "/x", "left alone", False),
    )
    assert answer == CheckAnswer(2, 1, 300, entries, 1)


async def test_a_check_ends_when_nobody_waits_for_it_any_more() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def check(pause: Callable[[], Awaitable[object]]) -> CheckReport:
        began.set()
        try:
            while True:
                await pause()
        finally:
            ended.set()

    operations = CheckOperations(check, pause_seconds=0.001)
    task = asyncio.create_task(operations.check(NoInput()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set(), "what the check uses may be closed now"


def test_an_eviction_says_what_went_in_bytes_and_times() -> None:
    pulled, lone = Evicted("app:1", DIGEST, 5, 86_400.9, "old"), Evicted("", DIGEST, 6, None, "never pulled")
    assert EvictAnswer.of(EvictionReport(True, (pulled, lone), 11, 100, None)) == EvictAnswer(
        True,
        (
            EvictedEntry("app:1", DIGEST, 5, "1970-01-02T00:00:00Z", "old"),
            EvictedEntry("", DIGEST, 6, None, "never pulled"),
        ),
        11,
        100,
        None,
    )


def test_a_lifecycle_run_says_what_went_and_by_which_rule() -> None:
    (rule,) = parse_lifecycle_policy(POLICY)

    def decision(name: str, fate: Fate, *tags: str) -> Decision:
        return Decision(ImageState(1, name, tags, 0.0, None, None, None), fate, rule)

    done = (decision("a", Fate.EXPIRED, "1", "2"), decision("b", Fate.ARCHIVED), decision("c", Fate.EXPIRED))
    outcome = LifecycleOutcome(RepositoryName("acme/app"), done, skipped=4)
    assert RepositoryEntry.of(outcome) == RepositoryEntry(
        "acme/app",
        (ImageUnderRule("a", ("1", "2"), 7), ImageUnderRule("c", (), 7)),
        (ImageUnderRule("b", (), 7),),
        4,
        "",
    )
