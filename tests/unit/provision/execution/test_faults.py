"""A call that fails, each in turn and in each way: running it again ends where an undisturbed run ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest

from pullthrough.declaration import NodeAccess, Rule, Template
from pullthrough.errors import ActionDenied, ApplyFailed, AwsUnreachable
from pullthrough.provision.model.documents import OPERATOR_ACTIONS
from pullthrough.provision.model.observed import Owned
from pullthrough.provision.model.plan import Plan
from tests.deployments import FULL, GITLAB, HUB, TOKENS, World, fake_with_roles
from tests.fakes.aws import Died, FakeAws, Mode

ACTIONS = {action for actions in OPERATOR_ACTIONS.values() for action in actions}
#: One failure that is repeated within the run, and is not noticed.
PASSING = (Mode.SERVER, Mode.THROTTLED, Mode.LOST_AFTER)
#: Another upstream for a prefix, a rule and a secret less, another account, other templates, rights and tags.
CHANGED = replace(
    FULL,
    rules=(
        *(rule for rule in FULL.rules if rule.prefix not in ("quay", "team", "gitlab")),
        Rule("quay", "public.ecr.aws"),
        Rule("gl", GITLAB, credential=FULL.rules[5].credential),
    ),
    templates={**FULL.templates, "github": Template(enabled=False), "quay": Template(resource_tags={"a": "b"})},
    access=NodeAccess(pull_organization="o-abcdefghij"),
    scan_frequency=None,
    tags={"owner": "platform"},
)


def prepared() -> World:
    """An account in which somebody has documents of the whole registry already, so that they are read and merged."""
    fake = fake_with_roles()
    fake.ecr.registry_policy = '{"Statement": {"Effect": "Allow", "Sid": "Theirs", "Principal": "*",\n "Action": []}}'
    fake.ecr.scanning["rules"] = [
        {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "quay/*", "filterType": "WILDCARD"}]}
    ]
    fake.add_secret("ecr-pullthroughcache/other", "theirs")
    fake.add_rule("theirs", "quay.io")
    return World(fake)


def applied() -> World:
    world = prepared()
    world.apply(FULL)
    return world


def with_another_token() -> World:
    world = applied()
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    return world


def destroyed() -> World:
    world = applied()
    world.destroy(FULL)
    return world


def plan_change(world: World) -> Plan:
    gone = tuple(sorted({"team", "gitlab"} & set(world.send.ecr.rules)))
    # A template that a run before was to remove with its rule is there without it.
    return world.plan(CHANGED, replace=True, prune=gone)


@dataclass(frozen=True)
class Scenario:
    prepare: Callable[[], World]
    plan: Callable[[World], Plan]
    declaration: Any = FULL

    def act(self, world: World) -> None:
        world.carry_out(self.plan(world), self.declaration)

    @cached_property
    def _prepared(self) -> World:
        return self.prepare()

    def start(self) -> World:
        return self._prepared.copy()

    @cached_property
    def counts(self) -> tuple[int, int]:
        """How many calls planning makes, and all of it."""
        world = self.start()
        world.send.forget_calls()
        plan = self.plan(world)
        planning = len(world.send.calls)
        world.carry_out(plan, self.declaration)
        return planning, len(world.send.calls)

    @cached_property
    def expected(self) -> tuple[dict[str, Any], Owned]:
        """State and journal after an undisturbed run."""
        world = self.start()
        self.act(world)
        return world.send.state(), world.journal.read()

    @contextmanager
    def each(self, *, writing: bool = False) -> Iterator[Iterator[tuple[int, World]]]:
        """A world for each call, from 1, or for each that carries out the plan; a failure says at which call."""
        at = 0

        def worlds() -> Iterator[tuple[int, World]]:
            nonlocal at
            planning, count = self.counts
            for at in range(planning + 1 if writing else 1, count + 1):
                world = self.start()
                world.send.forget_calls()
                yield at, world

        try:
            yield worlds()
        except BaseException as error:
            error.add_note(f"at call {at}")
            raise

    def check_same_end(self, world: World) -> None:
        """Another run puts everything right, and one more changes nothing."""
        fake: FakeAws = world.send
        fake.heal()
        self.act(world)
        state, owned = self.expected
        assert fake.state() == state
        assert world.journal.read() == owned
        fake.forget_calls()
        self.act(world)
        assert fake.writes == []


SCENARIOS = {
    "apply": Scenario(prepared, lambda world: world.plan(FULL)),
    "change": Scenario(with_another_token, plan_change, CHANGED),
    "destroy": Scenario(applied, lambda world: world.plan_destroy(FULL)),
    "restore": Scenario(destroyed, lambda world: world.plan(FULL)),
}
scenarios = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def test_every_kind_of_step_and_every_action_is_in_what_is_disturbed() -> None:
    steps = [step for scenario in SCENARIOS.values() for step in scenario.plan(scenario.start()).steps]
    assert {step.key.kind.value for step in SCENARIOS["apply"].plan(prepared()).steps} == {
        "secret",
        "role",
        "rule",
        "template",
        "node access",
        "registry policy",
        "scanning",
    }
    assert {step.action.value for step in steps} == {"create", "update", "replace", "restore", "delete"}


@scenarios
@pytest.mark.parametrize("mode", PASSING)
def test_one_passing_failure_changes_nothing(scenario: Scenario, mode: Mode) -> None:
    with scenario.each() as worlds:
        for at, world in worlds:
            world.send.fail(at, mode)
            scenario.act(world)
            assert (world.send.state(), world.journal.read()) == scenario.expected


@scenarios
def test_a_denied_call_names_its_action_and_the_next_run_goes_on(scenario: Scenario) -> None:
    with scenario.each() as worlds:
        for at, world in worlds:
            world.send.fail(at, Mode.DENIED)
            expected = ActionDenied if at <= scenario.counts[0] else ApplyFailed
            with pytest.raises(expected) as caught:
                scenario.act(world)
            denied = caught.value if expected is ActionDenied else caught.value.__cause__
            assert isinstance(denied, ActionDenied)
            assert denied.action in ACTIONS
            assert denied.action in world.send.actions
            assert denied.action in caught.value.message
            assert "pullthrough policy operator" in caught.value.hint
            scenario.check_same_end(world)


@scenarios
@pytest.mark.parametrize("mode", [Mode.SERVER, Mode.LOST_AFTER])
def test_when_every_call_fails_from_one_on_the_next_run_goes_on(scenario: Scenario, mode: Mode) -> None:
    what = "destroy" if scenario is SCENARIOS["destroy"] else "apply"
    with scenario.each(writing=True) as worlds:
        for at, world in worlds:
            world.send.fail(at, mode, lasts=True)
            with pytest.raises(ApplyFailed) as caught:
                scenario.act(world)
            assert isinstance(caught.value.__cause__, AwsUnreachable)
            assert f"`pullthrough {what}` goes on" in caught.value.hint
            scenario.check_same_end(world)


@scenarios
@pytest.mark.parametrize("mode", [Mode.DIES_BEFORE, Mode.DIES_AFTER])
def test_when_our_process_dies_the_next_run_goes_on(scenario: Scenario, mode: Mode) -> None:
    with scenario.each(writing=True) as worlds:
        for at, world in worlds:
            world.send.fail(at, mode, lasts=True)
            with pytest.raises(Died):
                scenario.act(world)
            scenario.check_same_end(world)


@scenarios
def test_a_repeated_creation_that_is_refused_ends_the_same(scenario: Scenario) -> None:
    """AWS does not promise that the same CreateSecret again is the same answer."""
    with scenario.each(writing=True) as worlds:
        for at, world in worlds:
            world.send.secretsmanager.refuses_repeated_creation = True
            world.send.fail(at, Mode.LOST_AFTER)
            scenario.act(world)
            assert (world.send.state(), world.journal.read()) == scenario.expected


@pytest.mark.parametrize("seed", range(60))
def test_several_failures_and_several_steps_at_once_end_the_same(seed: int) -> None:
    chance = random.Random(seed)
    scenario = chance.choice(list(SCENARIOS.values()))
    world = scenario.start()
    world.at_once = 4
    for _ in range(5):
        world.send.fail(chance.randrange(1, scenario.counts[1]), chance.choice(list(Mode)), lasts=chance.random() < 0.5)
        try:
            scenario.act(world)
        except (ActionDenied, ApplyFailed, AwsUnreachable, Died):
            continue
    scenario.check_same_end(world)
