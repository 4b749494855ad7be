"""A plan as people read it: a line a step, with what changes below it; coloured on a terminal only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pullthrough.units import counted

if TYPE_CHECKING:
    from pullthrough.provision.model.plan import Plan, Step

#: A document longer than that is cut; --json has it whole.
_MAX_SHOWN = 110
_COLORS = {"+": "\x1b[32m", "~": "\x1b[33m", "-/+": "\x1b[35m", "-": "\x1b[31m"}
_PLAIN = "\x1b[0m"
_USUAL = {
    "upstreamRepositoryPrefix": "ROOT",
    "appliedFor": ["PULL_THROUGH_CACHE"],
    "imageTagMutability": "MUTABLE",
    "encryptionType": "AES256",
}


def is_coloured() -> bool:
    """On a terminal, unless NO_COLOR is set: https://no-color.org"""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def plan_lines(plan: Plan, *, coloured: bool = False) -> Iterator[str]:
    """The whole plan."""
    yield f"{'Plan' if plan.purpose.value == 'apply' else 'Plan to destroy'} for {plan.target}"
    yield ""
    kinds = max((len(step.key.kind) for step in plan.steps), default=0)
    names = max((len(step.key.name) for step in plan.steps), default=0)
    for step in plan.steps:
        sign = step.action.sign
        line = f"{sign:>3} {step.key.kind:<{kinds}}  {step.key.name:<{names}}  {step.reason}".rstrip()
        yield f"{_COLORS[sign]}{line}{_PLAIN}" if coloured else line
        yield from _change_lines(step)
    if plan.is_empty:
        yield "  Nothing to do." if plan.problems else "  Nothing to do: everything is as declared."
    yield from _section(
        "Left alone", [f"{left.key.kind} {left.key.name}{_arrow(left.what)} {left.reason}" for left in plan.left_alone]
    )
    yield from _section("Not applicable here", plan.not_applicable)
    yield from _section("Notes", plan.notes)
    yield from _section("Problems, which keep this plan from being applied", plan.problems)
    yield ""
    yield summary(plan)


def summary(plan: Plan) -> str:
    from pullthrough.provision.model.plan import StepAction

    counts = (
        (plan.count(StepAction.CREATE), "to create"),
        (plan.count(StepAction.UPDATE, StepAction.RESTORE), "to change"),
        (plan.count(StepAction.REPLACE), "to replace"),
        (plan.count(StepAction.DELETE), "to delete"),
    )
    text = ", ".join(f"{count} {what}" for count, what in counts)
    problems = f"; {counted(len(plan.problems), 'problem')}" if plan.problems else ""
    return f"{text}{problems}"


def _change_lines(step: Step) -> Iterator[str]:
    if step.after is None:
        return
    changes = [
        (name, before, after)
        for name, before, after in step.changes
        if step.before or not _goes_without_saying(name, after)
    ]
    width = max((len(name) for name, _, _ in changes), default=0)
    for name, before, after in changes:
        was = f"{_shown(name, before)} → " if step.before is not None else ""
        yield f"      {name:<{width}}  {was}{_shown(name, after)}"


def _goes_without_saying(name: str, value: object) -> bool:
    """Whether an attribute of something new is what anybody would take it for; --json has it."""
    from pullthrough.provision.model.resources import MARKER_TAG

    if name == "tags" and isinstance(value, dict):
        return set(value) <= {MARKER_TAG}
    return name in ("description", "upstreamRegistryUrl") or _is_nothing(value) or value == _USUAL.get(name)


def _shown(name: str, value: object) -> str:
    if name == "accessToken" and isinstance(value, str):
        return value if value.startswith("(") else f"fingerprint {value}…" if value else "(none)"
    if _is_nothing(value):
        return "(none)"
    if isinstance(value, str):
        return f"(the secret {value[9:-1]})" if value.startswith("${secret:") else value
    text = _lifecycle(value) if name == "lifecyclePolicy" else ""
    text = text or json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _lifecycle(policy: object) -> str:
    """Its rules in their own words; empty where one has none."""
    rules = policy.get("rules") if isinstance(policy, dict) else None
    if not isinstance(rules, list) or not all(isinstance(rule, dict) and rule.get("description") for rule in rules):
        return ""
    return "; ".join(str(rule["description"]) for rule in rules)


def _is_nothing(value: object) -> bool:
    return value is None or value in ("", [], {}, ())


def _arrow(what: str) -> str:
    return f" ({what})" if what else ""


def _section(title: str, lines: object) -> Iterator[str]:
    assert isinstance(lines, (list, tuple))
    if lines:
        yield ""
        yield f"{title}:"
        for line in lines:
            yield f"  {line}"
