"""A plan in the making, and what both planners ask of what is there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from pullthrough.errors import PlanProblem
from pullthrough.provision.model.observed import Observed, Owned
from pullthrough.provision.model.plan import LeftAlone, Options, Plan, Purpose, Step, StepAction, in_order
from pullthrough.provision.model.resources import (
    REGISTRY,
    Attributes,
    Desired,
    Existing,
    Json,
    Key,
    Resource,
    ResourceKind,
    secret_reference,
)
from pullthrough.provision.planning.registry import filters_step, statements_step

#: Days in which a deleted secret can be restored: Secrets Manager's own default.
RECOVERY_DAYS = 30


@dataclass(frozen=True, slots=True)
class PlanBasis:
    """What a plan is made from."""

    #: The declaration's name.
    name: str
    desired: Desired
    observed: Observed
    #: What the journal says was made here.
    owned: Owned
    options: Options = field(default_factory=Options)
    #: Of repositories that are there, which nothing else of the plan looks at.
    repository_steps: tuple[Step, ...] = ()
    #: For people, beside those of `desired`.
    notes: tuple[str, ...] = ()
    #: Which key the fingerprints were made with.
    fingerprint_key: str = ""


class Draft:
    """Grows by steps, by what is left alone, and by problems; `plan` makes a plan of it."""

    def __init__(self, basis: PlanBasis) -> None:
        self._basis = basis
        self.steps: list[Step] = []
        self.left: list[LeftAlone] = []
        self.notes: list[str] = [*basis.desired.notes, *basis.notes]
        self.problems: list[str] = []

    def plan(self, purpose: Purpose) -> Plan:
        order = list(ResourceKind)
        steps = sorted(self.steps, key=lambda step: (step.action is StepAction.DELETE, order.index(step.key.kind)))
        return Plan(
            purpose=purpose,
            name=self._basis.name,
            target=self._basis.observed.target,
            options=self._basis.options,
            steps=in_order(steps),
            left_alone=tuple(self.left),
            not_applicable=self._basis.desired.not_applicable,
            notes=tuple(self.notes),
            problems=tuple(self.problems),
            fingerprint_key=self._basis.fingerprint_key,
            gone=tuple(self._gone()),
        )

    def _gone(self) -> Iterable[Step]:
        """What the journal names, the target no longer has, and no step makes."""
        planned = {step.key for step in self.steps}
        for key in sorted(self._basis.owned.created | self._basis.owned.attempted):
            existing = self._basis.observed.existing.get(key)
            if key not in planned and (existing is None or existing.is_scheduled_for_deletion):
                yield Step(key, StepAction.DELETE, "it is gone already")
        added = {entry for step in self.steps for entry in cast("list[str]", step.details.get("add", []))}
        filters = {entry for entry in self._basis.owned.filters if " " in entry}
        if lost := sorted(filters - self._basis.observed.scanning.entries - added):
            yield Step(
                Key(ResourceKind.SCANNING, REGISTRY),
                StepAction.UPDATE,
                "they are gone already",
                details={"remove": lost},
            )

    def add(
        self,
        resource: Resource,
        action: StepAction,
        reason: str,
        before: Attributes | None = None,
        existing: Existing | None = None,
        *,
        details: Mapping[str, Json] | None = None,
    ) -> None:
        arn = existing.arn if existing else ""
        self.steps.append(
            Step(resource.key, action, reason, before, resource.attributes, resource.needs, arn, details or {})
        )

    def delete(self, existing: Existing, reason: str, *, needs: tuple[Key, ...] = ()) -> None:
        details: dict[str, Json] = {"recoveryDays": RECOVERY_DAYS} if existing.key.kind is ResourceKind.SECRET else {}
        step = Step(existing.key, StepAction.DELETE, reason, existing.attributes, None, needs, existing.arn, details)
        self.steps.append(step)

    def add_registry_steps(self, policy: Resource | None, scanning: Resource | None) -> None:
        """Steps for our part of the registry's documents; None where we want nothing in one."""
        try:
            steps = (
                statements_step(self._basis.name, self._basis.observed, policy),
                filters_step(self._basis.observed, self._basis.owned.filters, scanning),
            )
        except PlanProblem as problem:
            self.problems.append(problem.message)
            return
        self.steps += [step for step in steps if step is not None]

    def is_ours(self, existing: Existing) -> bool:
        if existing.key.kind is ResourceKind.NODE_ACCESS:
            return True  # found by a name that is this declaration's own
        return existing.marked_by == self._basis.name or (
            not existing.marked_by and existing.key in self._basis.owned.created
        )

    def may_adopt(self, resource: Resource) -> bool:
        return str(resource.key) in self._basis.options.adopt

    def with_arn(self, attributes: Attributes) -> Attributes:
        """A rule's attributes with the ARN of its secret in place of the reference, where the secret is there."""
        arn = attributes["credentialArn"]
        for existing in self._basis.observed.existing.values():
            if existing.key.kind is ResourceKind.SECRET and arn == secret_reference(existing.key.name):
                return {**attributes, "credentialArn": existing.arn}
        return attributes

    def rules_after(self) -> dict[str, Attributes]:
        """Attributes of all rules as they will be, by prefix."""
        rules = {prefix: existing.attributes for prefix, existing in self._basis.observed.of(ResourceKind.RULE).items()}
        for step in self.steps:
            if step.key.kind is ResourceKind.RULE and step.after is None:
                rules.pop(step.key.name, None)
            elif step.key.kind is ResourceKind.RULE:
                rules[step.key.name] = step.after or {}
        # A rule that could not be planned keeps what it has now.
        return rules

    def rule_steps_with(self, arn: str) -> tuple[Key, ...]:
        return tuple(
            step.key
            for step in self.steps
            if step.key.kind is ResourceKind.RULE and step.before and step.before.get("credentialArn") == arn
        )


def upstream_of(existing: Existing) -> str:
    """The upstream of a rule that is there."""
    return str(existing.attributes["upstreamRegistryUrl"])
