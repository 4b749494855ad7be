"""What `verify` found: a row a check, each failure with its reason and its fix. Data only; no secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pullthrough.errors import PullthroughError
from pullthrough.provision.model.resources import Json
from pullthrough.provision.model.target import DeploymentTarget


class CheckOutcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    #: Not looked at, and why is said.
    SKIPPED = "skipped"


class CheckKind(StrEnum):
    #: ECR's own: the rule is there, its secret can be used, its upstream takes the login.
    RULE = "rule"
    #: A token for the registry's HTTP side.
    LOGIN = "login"
    #: A manifest through the rule.
    PULL = "pull"
    #: ECR can create repositories by the template.
    TEMPLATE = "template"
    #: ECR can assume the role that a rule has for an upstream that is an ECR.
    UPSTREAM_ROLE = "upstream role"
    #: What a node's role may do.
    NODE_RIGHTS = "node rights"
    #: How a VPC reaches ECR.
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something does not work, and what to do about it. Both are sentences for people."""

    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check of one thing."""

    #: A rule's prefix, a role, a VPC.
    subject: str
    check: CheckKind
    outcome: CheckOutcome
    #: Of a failure and of what was skipped; of what is in order sometimes a remark.
    reason: str = ""
    #: Of a failure only.
    fix: str = ""
    #: What was found: the image that was pulled and its digest.
    details: Mapping[str, Json] = field(default_factory=dict)

    @property
    def is_found_broken(self) -> bool:
        """Whether the check was made, and failed."""
        return self.outcome is CheckOutcome.FAILED and self.details.get("looked") is not False

    def as_json(self) -> dict[str, Json]:
        return {
            "subject": self.subject,
            "check": self.check.value,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "fix": self.fix,
            "details": dict(self.details),
        }


def passed(subject: str, check: CheckKind, remark: str = "", **details: Json) -> CheckRow:
    return CheckRow(subject, check, CheckOutcome.OK, remark, details=details)


def failed(subject: str, check: CheckKind, trouble: Trouble, **details: Json) -> CheckRow:
    return CheckRow(subject, check, CheckOutcome.FAILED, trouble.reason, trouble.fix, details)


def skipped(subject: str, check: CheckKind, reason: str) -> CheckRow:
    return CheckRow(subject, check, CheckOutcome.SKIPPED, reason)


def refused(subject: str, check: CheckKind, error: PullthroughError) -> CheckRow:
    """The check could not be made, which says nothing of its subject."""
    return failed(subject, check, trouble_of(error), looked=False)


def trouble_of(error: PullthroughError) -> Trouble:
    """A call that was refused, as the reason for a row. A missing right is named in both texts."""
    return Trouble(
        error.message,
        error.hint or "run `pullthrough verify` again; if it stays so, what AWS says there has to be put right",
    )


@dataclass(frozen=True, slots=True)
class Report:
    target: DeploymentTarget
    rows: tuple[CheckRow, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed. What was skipped does not count."""
        return not self.failures

    @property
    def failures(self) -> tuple[CheckRow, ...]:
        return self.of(CheckOutcome.FAILED)

    def of(self, outcome: CheckOutcome) -> tuple[CheckRow, ...]:
        return tuple(row for row in self.rows if row.outcome is outcome)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "target": self.target.as_json(),
            "counts": {outcome.value: len(self.of(outcome)) for outcome in CheckOutcome},
            "checks": [row.as_json() for row in self.rows],
        }
