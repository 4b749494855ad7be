"""Steps in order and several at once; what fails stops the rest, and says what was done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pullthrough.errors import ApplyFailed, AwsRefused, AwsUnreachable, PlanProblem
from pullthrough.provision.execution.apply import StepProgress, apply_plan
from pullthrough.provision.model.plan import Options, Plan, Purpose, Step, StepAction
from pullthrough.provision.model.resources import Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from tests.deployments import DEFAULT, FULL, MemoryJournal, World, fake_with_roles
from tests.fakes.aws import Call, FakeAws

TARGET = DeploymentTarget("123456789012", "eu-central-1")
WAIT_SECONDS = 20


def key(name: str) -> Key:
    return Key(ResourceKind.RULE, name)


def plan_of(needs: Mapping[str, str], **more: Any) -> Plan:
    """Steps by name, each with the names that it needs."""
    steps = tuple(
        Step(key(name), StepAction.CREATE, "", None, {}, tuple(map(key, needed.split())))
        for name, needed in needs.items()
    )
    return Plan(Purpose.APPLY, "a", TARGET, Options(), steps, **more)


class Steps:
    """Executes by writing down; some fail, some wait."""

    def __init__(self, **errors: Exception | Callable[[], None]) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.most_at_once = 0
        self._errors = errors
        self._lock = threading.Lock()

    def __call__(self, step: Step) -> None:
        name = step.key.name
        with self._lock:
            self.began.append(name)
            self.most_at_once = max(self.most_at_once, len(self.began) - len(self.ended))
        try:
            error = self._errors.get(name)
            if isinstance(error, Exception):
                raise error
            if error is not None:
                error()
        finally:
            with self._lock:
                self.ended.append(name)


def refused(code: str = "LimitExceededException") -> AwsRefused:
    return AwsRefused("no more of it", code=code, operation="CreateThing", hint="ask for more")


def test_steps_that_need_nothing_go_out_together_and_no_more_than_allowed() -> None:
    together = threading.Barrier(3)

    def meet() -> None:
        together.wait(WAIT_SECONDS)

    steps = Steps(a=meet, b=meet, c=meet, d=meet, e=meet, f=meet)
    apply_plan(plan_of(dict.fromkeys("abcdef", "")), steps, MemoryJournal(), at_once=3)
    assert steps.most_at_once == 3


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_a_step_begins_when_those_it_needs_have_ended(at_once: int) -> None:
    needs = {"a": "", "b": "a", "c": "a", "d": "b c", "e": "", "f": "d e absent"}
    steps = Steps()
    applied = apply_plan(plan_of(needs), steps, MemoryJournal(), at_once=at_once)
    assert sorted(step.key.name for step in applied.done) == sorted(needs)
    for name, needed in needs.items():
        for other in needed.replace("absent", "").split():
            assert steps.ended.index(other) < steps.began.index(name) + at_once
            assert steps.began.index(other) < steps.began.index(name)


def test_a_failure_lets_what_is_under_way_end_and_begins_nothing_more() -> None:
    failed, waiting = threading.Event(), threading.Event()

    def fail() -> None:
        assert waiting.wait(WAIT_SECONDS)
        failed.set()
        raise refused()

    def end_late() -> None:
        waiting.set()
        assert failed.wait(WAIT_SECONDS)

    steps = Steps(a=fail, b=end_late)
    journal = MemoryJournal()
    with pytest.raises(ApplyFailed) as caught:
        apply_plan(plan_of({"a": "", "b": "", "c": "", "d": "b"}), steps, journal, at_once=2)
    error = caught.value
    assert (error.done, error.failed, error.not_done) == (("rule:b",), ("rule:a",), ("rule:c", "rule:d"))
    assert error.message == (
        "apply stopped at the rule a: no more of it\n  done: 1 step (rule:b)\n  not done: 2 steps (rule:c, rule:d)"
    )
    assert error.hint == "ask for more; then `pullthrough apply` goes on where this one stopped"
    assert isinstance(error.__cause__, AwsRefused)
    assert [(entry["event"], entry["name"]) for entry in journal.entries][:2] == [("begin", "a"), ("begin", "b")]
    assert {(entry["event"], entry["name"]) for entry in journal.entries[2:]} == {("failed", "a"), ("done", "b")}


def test_two_failures_at_once_are_both_told() -> None:
    both = threading.Barrier(2)

    def fail() -> None:
        both.wait(WAIT_SECONDS)
        raise refused()

    with pytest.raises(ApplyFailed) as caught:
        apply_plan(plan_of({"a": "", "b": ""}), Steps(a=fail, b=fail), MemoryJournal())
    assert set(caught.value.failed) <= {"rule:a", "rule:b"}
    for name in caught.value.failed:
        assert f"the {name.replace(':', ' ')}: no more of it" in caught.value.message


def test_a_step_without_an_answer_is_not_written_down_as_failed() -> None:
    journal = MemoryJournal()
    with pytest.raises(ApplyFailed):
        apply_plan(plan_of({"a": ""}), Steps(a=AwsUnreachable("no answer")), journal)
    assert [entry["event"] for entry in journal.entries] == ["begin", "unknown"]
    assert journal.read().created == {key("a")}


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        apply_plan(plan_of({"a": "", "b": "a"}), Steps(a=ZeroDivisionError()), MemoryJournal())


def test_a_plan_with_problems_is_not_begun() -> None:
    steps = Steps()
    with pytest.raises(PlanProblem, match="2 problems:\n  - one\n  - two"):
        apply_plan(plan_of({"a": ""}, problems=("one", "two")), steps, MemoryJournal())
    assert steps.began == []


def test_progress_is_told_one_at_a_time_and_after_the_journal() -> None:
    journal, told, inside = MemoryJournal(), [], threading.Lock()

    def watch(step: Step, progress: StepProgress) -> None:
        assert inside.acquire(blocking=False)
        assert {"begins": "begin", "done": "done"}[progress] in {
            entry["event"] for entry in journal.entries if entry["name"] == step.key.name
        }
        told.append((step.key.name, progress.value))
        inside.release()

    apply_plan(plan_of(dict.fromkeys("abcdefgh", "")), Steps(), journal, watch)
    assert sorted(told) == sorted((name, what) for name in "abcdefgh" for what in ("begins", "done"))


@pytest.mark.parametrize("destroys", [False, True], ids=["apply", "destroy"])
def test_calls_of_the_module_keep_the_order_of_their_needs(destroys: bool) -> None:
    """A rule after its secret, a template after its role; the other way round to destroy."""
    ended: list[str] = []
    fake = fake_with_roles()
    world = World(fake, at_once=4)
    if destroys:
        world.apply(FULL)
    fake.forget_calls()
    world.destroy(FULL) if destroys else world.apply(FULL)
    ended = [str(call) for call in fake.writes]
    if destroys:
        arn = fake.secret("ecr-pullthroughcache/gitlab").arn
        order = ["DeletePullThroughCacheRule gitlab", f"DeleteSecret {arn}"]
        roles = ["DeleteRepositoryCreationTemplate docker-hub", "DeleteRolePolicy pullthrough-pullthrough-template"]
    else:
        order = ["CreateSecret ecr-pullthroughcache/gitlab", "CreatePullThroughCacheRule gitlab"]
        roles = ["PutRolePolicy pullthrough-pullthrough-template", "CreateRepositoryCreationTemplate docker-hub"]
    for first, second in (order, roles):
        assert ended.index(first) < ended.index(second)


def test_independent_steps_of_the_module_are_under_way_at_once() -> None:
    together = threading.Barrier(4)

    def meet(call: Call) -> None:
        if call.operation == "CreateRepositoryCreationTemplate" and call.about != "docker-hub":
            together.wait(WAIT_SECONDS)

    world = World(FakeAws(before_call=meet), at_once=4)
    world.apply(DEFAULT)
    assert len(world.send.ecr.templates) == 5
