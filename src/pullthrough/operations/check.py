"""The operation `check`: everything that is stored, held against what it claims to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pullthrough.operations.operation import CacheOperation, NoInput

if TYPE_CHECKING:
    from pullthrough.engine.keep.check import CheckReport


@dataclass(frozen=True, slots=True)
class ProblemEntry:
    """`kind` is one word for programs, `subject` a digest or path, `detail` a sentence for people."""

    kind: str
    subject: str
    detail: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    blobs: int
    manifests: int
    bytes: int
    problems: tuple[ProblemEntry, ...]
    #: How many of the problems were.
    repaired: int

    @classmethod
    def of(cls, report: CheckReport) -> CheckAnswer:
        problems = tuple(
            ProblemEntry(problem.kind, str(problem.subject), problem.detail, problem.repaired)
            for problem in report.problems
        )
        return cls(report.blobs, report.manifests, report.stored_bytes, problems, report.repaired)


class Check(Protocol):
    def __call__(self, pause: Callable[[], Awaitable[object]], /) -> Awaitable[CheckReport]:
        """`pause` is awaited after each MiB."""
        ...


class CheckOperations:
    """`pause_seconds`: how long requests go first after each MiB that is read."""

    def __init__(self, check: Check, *, pause_seconds: float) -> None:
        self._check = check
        self._pause_seconds = pause_seconds

    async def check(self, request: NoInput) -> CheckAnswer:
        """Read everything. Ends soon after whoever waits for it has gone."""
        return CheckAnswer.of(await self._check(lambda: asyncio.sleep(self._pause_seconds)))


CHECK = CacheOperation("check", NoInput, CheckAnswer, CheckOperations, CheckOperations.check)
OPERATIONS = (CHECK,)
