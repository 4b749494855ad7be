"""Carrying out a plan: each step once those it needs are done, several at once where none needs another.

A step that fails stops the plan: what is under way ends, nothing more begins, and the error says what was done, what was
not, and how to go on. Each step is written into the journal before it begins and after it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum

from pullthrough.errors import ApplyFailed, AwsUnreachable, PullthroughError
from pullthrough.provision.execution.journal import Recorder
from pullthrough.provision.model.desired import problem_of
from pullthrough.provision.model.plan import Plan, Purpose, Step
from pullthrough.provision.model.resources import Key
from pullthrough.units import counted

#: Steps under way at once. CreateRepository and its like are limited to a few a second on AWS.
STEPS_AT_ONCE = 4


class StepProgress(StrEnum):
    BEGINS = "begins"
    DONE = "done"
    FAILED = "failed"


#: Told of each step as it goes on, by any thread, one call at a time.
Watch = Callable[[Step, StepProgress], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done."""

    done: tuple[Step, ...]

    def as_json(self) -> dict[str, object]:
        return {"done": [{"id": str(step.key), "action": step.action.value} for step in self.done]}


def apply_plan(
    plan: Plan,
    execute: Callable[[Step], None],
    journal: Recorder,
    watch: Watch = lambda step, progress: None,
    *,
    at_once: int = STEPS_AT_ONCE,
) -> Applied:
    """Raises PlanProblem for a plan with problems, and ApplyFailed after a step that failed, with its error as the cause."""
    if plan.problems:
        raise problem_of(plan.problems)
    for step in plan.gone:
        journal.done(step)
    return _PlanRun(plan, execute, journal, watch).run(at_once)


class _PlanRun:
    def __init__(self, plan: Plan, execute: Callable[[Step], None], journal: Recorder, watch: Watch) -> None:
        self._plan = plan
        self._execute = execute
        self._journal = journal
        self._watch = watch
        self._lock = threading.Lock()
        self._waiting = {step.key: step for step in plan.steps}
        self._done: dict[Key, Step] = {}
        self._failures: list[tuple[Step, PullthroughError]] = []

    def run(self, at_once: int) -> Applied:
        with ThreadPoolExecutor(at_once, thread_name_prefix="apply") as pool:
            running: dict[Future[None], Step] = {}
            try:
                while True:
                    for step in self._startable(at_once - len(running)):
                        del self._waiting[step.key]
                        running[pool.submit(self._carry_out, step)] = step
                    if not running:
                        break
                    self._collect(running)
            except BaseException:
                # Interrupted: what is under way ends and is written down; nothing more begins.
                self._waiting.clear()
                raise
        if self._failures:
            raise self._failure()
        return Applied(tuple(self._done.values()))

    def _startable(self, count: int) -> list[Step]:
        if self._failures:
            return []
        pending = {step.key for step in self._plan.steps} - set(self._done)
        ready = [step for step in self._waiting.values() if not any(key in pending for key in step.needs)]
        return ready[:count]

    def _collect(self, running: dict[Future[None], Step]) -> None:
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            step = running.pop(future)
            try:
                future.result()
                self._done[step.key] = step
            except PullthroughError as error:
                self._failures.append((step, error))

    def _carry_out(self, step: Step) -> None:
        with self._lock:
            self._journal.begin(step)
            self._watch(step, StepProgress.BEGINS)
        try:
            self._execute(step)
        except PullthroughError as error:
            with self._lock:
                self._journal.failed(step, is_certain=not isinstance(error, AwsUnreachable))
                self._watch(step, StepProgress.FAILED)
            raise
        with self._lock:
            self._journal.done(step)
            self._watch(step, StepProgress.DONE)

    def _failure(self) -> ApplyFailed:
        failed = {step.key for step, _ in self._failures}
        not_done = [step for step in self._plan.steps if step.key not in self._done and step.key not in failed]
        lines = [f"the {step.key.kind} {step.key.name}: {error.message}" for step, error in self._failures]
        what = "destroy" if self._plan.purpose is Purpose.DESTROY else "apply"
        message = f"{what} stopped at {lines[0]}" if len(lines) == 1 else "\n  - ".join([f"{what} stopped at", *lines])
        message += f"\n  done: {_names(list(self._done.values()))}\n  not done: {_names(not_done)}"
        first = self._failures[0][1]
        hints = [first.hint] if first.hint else []
        hints.append(f"`pullthrough {what}` goes on where this one stopped")
        error = ApplyFailed(
            message,
            done=tuple(str(key) for key in self._done),
            failed=tuple(str(step.key) for step, _ in self._failures),
            not_done=tuple(str(step.key) for step in not_done),
            hint="; then ".join(hints),
        )
        error.__cause__ = first
        return error


def _names(steps: list[Step]) -> str:
    if not steps:
        return "nothing"
    return f"{counted(len(steps), 'step')} ({', '.join(str(step.key) for step in steps)})"
