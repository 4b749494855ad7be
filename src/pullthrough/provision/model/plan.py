"""A plan: ordered steps from what is to what is to be. Data only: it is shown, saved and applied as it is.

No secret is in it: a token is its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pullthrough.provision.model.resources import Attributes, Json, Key
from pullthrough.provision.model.target import DeploymentTarget


class StepAction(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    #: Deletes and creates, because AWS changes it in no other way.
    REPLACE = "replace"
    #: Takes a secret back that is to be deleted, and puts it right.
    RESTORE = "restore"
    DELETE = "delete"

    @property
    def sign(self) -> str:
        return {StepAction.CREATE: "+", StepAction.REPLACE: "-/+", StepAction.DELETE: "-"}.get(self, "~")


class Purpose(StrEnum):
    APPLY = "apply"
    DESTROY = "destroy"


@dataclass(frozen=True, slots=True)
class Options:
    """What the person consented to, or asked for beside the declaration."""

    #: Whether a rule whose upstream differs may be deleted and made anew.
    replace: bool = False
    #: Prefixes of rules that are not declared and are to go.
    prune: tuple[str, ...] = ()
    #: What is somebody else's and may be taken over, as `template:docker-hub`.
    adopt: tuple[str, ...] = ()
    #: Whether repositories that are there are brought in line with their template.
    existing: bool = False
    #: destroy: whether rules go that were there before.
    include_adopted: bool = False
    #: destroy: whether cached repositories go, with their images.
    delete_repositories: bool = False

    def as_json(self) -> dict[str, Json]:
        return {
            "replace": self.replace,
            "prune": list(self.prune),
            "adopt": list(self.adopt),
            "existing": self.existing,
            "include_adopted": self.include_adopted,
            "delete_repositories": self.delete_repositories,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    key: Key
    action: StepAction
    reason: str
    #: None where there is nothing yet.
    before: Attributes | None = None
    #: None where there is to be nothing.
    after: Attributes | None = None
    #: The steps that must be done first.
    needs: tuple[Key, ...] = ()
    #: What AWS calls it, where that is known: a secret's ARN.
    arn: str = ""
    #: What the step needs beside: filters to add and to remove, days until a secret is gone.
    details: Mapping[str, Json] = field(default_factory=dict)

    @property
    def changes(self) -> list[tuple[str, Json, Json]]:
        """The attributes that differ, with what they are and are to be."""
        before, after = self.before or {}, self.after or {}
        names = [*after, *(name for name in before if name not in after)]
        return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]

    def as_json(self) -> dict[str, Json]:
        return {
            "id": str(self.key),
            "kind": self.key.kind.value,
            "name": self.key.name,
            "action": self.action.value,
            "reason": self.reason,
            "before": self.before,
            "after": self.after,
            "needs": [str(key) for key in self.needs],
            "arn": self.arn,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Something that is there, and stays as it is."""

    key: Key
    reason: str
    #: What is known of it, for people: a rule's upstream.
    what: str = ""

    def as_json(self) -> dict[str, Json]:
        return {"kind": self.key.kind.value, "name": self.key.name, "what": self.what, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Plan:
    purpose: Purpose
    #: The declaration's name.
    name: str
    target: DeploymentTarget
    options: Options
    #: Each stands behind those that it needs.
    steps: tuple[Step, ...]
    left_alone: tuple[LeftAlone, ...] = ()
    #: What the target has no place for.
    not_applicable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    #: What keeps the plan from being applied; each says what, why, and what to try.
    problems: tuple[str, ...] = ()
    #: Which key the fingerprints were made with.
    fingerprint_key: str = ""
    #: What was made here and is gone already, by a call whose answer was lost, or by somebody else: nothing to do, but the
    #: journal is told, so that what may be there again one day is not taken for ours. No part of what is shown or saved.
    gone: tuple[Step, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def count(self, *actions: StepAction) -> int:
        return sum(step.action in actions for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """All of it. The same plan gives the same document, so that a saved one can be compared."""
        return {
            "format": 1,
            "purpose": self.purpose.value,
            "declaration": self.name,
            "target": self.target.as_json(),
            "options": self.options.as_json(),
            "fingerprint_key": self.fingerprint_key,
            "steps": [step.as_json() for step in self.steps],
            "left_alone": [left.as_json() for left in self.left_alone],
            "not_applicable": list(self.not_applicable),
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


def in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps in their order, but each behind those that it needs. A need without a step is met already."""
    waiting = {step.key: step for step in steps}
    ordered: dict[Key, Step] = {}

    def place(step: Step) -> None:
        if step.key in ordered:
            return
        del waiting[step.key]
        for key in step.needs:
            if key in waiting:
                place(waiting[key])
        ordered[step.key] = step

    for step in steps:
        place(step)
    return tuple(ordered.values())
