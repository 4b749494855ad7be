"""The operation `check`: everything that is stored, held against what it claims to be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pullthrough.operations.operation import CacheOperation, NoInput

if TYPE_CHECKING:
    from pullthrough.engine.check import CheckReport
    from pullthrough.engine.tasks import Caller


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
    def __call__(self, *, pause: Callable[[], None]) -> CheckReport:
        """Blocking. `pause` is called after each MiB; it may wait, or raise to stop."""
        ...


class _GivenUp(Exception):
    """Nobody waits for the check any more."""


class CheckOperations:
    """`pause_seconds`: how long requests go first after each MiB that is read."""

    def __init__(self, check: Check, *, call_slow: Caller, pause_seconds: float) -> None:
        self._check = check
        self._call_slow = call_slow
        self._pause_seconds = pause_seconds

    async def check(self, request: NoInput) -> CheckAnswer:
        """Read everything. Ends soon after whoever waits for it has gone."""
        from pullthrough.engine.tasks import wait_out  # here, since it loads asyncio

        given_up = threading.Event()

        def pause() -> None:
            if given_up.wait(self._pause_seconds):
                raise _GivenUp

        return CheckAnswer.of(await wait_out(self._call_slow(self._check, pause=pause), given_up.set))


CHECK = CacheOperation("check", NoInput, CheckAnswer, CheckOperations, CheckOperations.check)
OPERATIONS = (CHECK,)
