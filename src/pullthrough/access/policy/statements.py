"""What statements of policies say of a request. No I/O.

An explicit Deny anywhere wins; else an Allow anywhere is enough, since everybody here is of one account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from pullthrough.access.policy.conditions import Condition, asks_for_resource_tags, substitute
from pullthrough.access.policy.context import Context
from pullthrough.access.policy.globs import matches

_ACCOUNT_ROOT = re.compile(r"(?:arn:aws:iam::)?([0-9]{12})(?::root)?", re.ASCII)


class PolicyDecision(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    #: No statement speaks of the request.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class JudgedRequest:
    """What is judged: who does what to which resource, under which circumstances."""

    #: `ecr:BatchGetImage`.
    action: str
    resource: str
    principal_arn: str
    user_id: str
    account: str
    is_anonymous: bool
    context: Context


@dataclass(frozen=True, slots=True)
class PrincipalNames:
    """Principal or NotPrincipal."""

    names: tuple[str, ...]
    is_not: bool

    def match(self, request: JudgedRequest, *, denies: bool) -> bool:
        if self.is_not:
            return not any(_is_named(name, request, whole_account=False) for name in self.names)
        # An Allow to an account leaves it to the identity's own policies; a Deny to it denies everyone in it.
        return any(_is_named(name, request, whole_account=denies) for name in self.names)


@dataclass(frozen=True, slots=True)
class Statement:
    denies: bool
    #: Lower case: actions are compared without case.
    actions: tuple[str, ...]
    not_actions: bool
    #: Empty where the policy stands at the only resource it can mean.
    resources: tuple[str, ...]
    not_resources: bool
    #: None in an identity's own policy.
    principals: PrincipalNames | None
    conditions: tuple[Condition, ...]
    #: Whether `${aws:username}` and the like are replaced.
    has_variables: bool

    @property
    def asks_for_resource_tags(self) -> bool:
        return any(condition.asks_for_resource_tags for condition in self.conditions) or any(
            asks_for_resource_tags(resource) for resource in self.resources
        )

    def applies(self, request: JudgedRequest) -> bool:
        action = request.action.lower()
        if any(matches(pattern, action) for pattern in self.actions) is self.not_actions:
            return False
        if self.resources and self._names_resource(request) is self.not_resources:
            return False
        if self.principals is not None and not self.principals.match(request, denies=self.denies):
            return False
        return all(
            condition.holds(request.context, denies=self.denies, variables=self.has_variables)
            for condition in self.conditions
        )

    def _names_resource(self, request: JudgedRequest) -> bool:
        unclear = False
        for pattern in self.resources:
            try:
                filled = substitute(pattern, request.context, is_pattern=True) if self.has_variables else pattern
            except ValueError:
                unclear = True
                continue
            if filled is not None and matches(filled, request.resource):
                return True
        # A Deny applies where that cannot be said, an Allow does not.
        return unclear and self.denies is not self.not_resources


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Compared by identity: `parse_policy` gives the same one for the same text."""

    statements: tuple[Statement, ...] = field(repr=False)
    #: Whether what it says depends on the tags that a resource has.
    asks_for_resource_tags: bool = False

    def decide(self, request: JudgedRequest) -> PolicyDecision:
        decision = PolicyDecision.NONE
        for statement in self.statements:
            if statement.denies or decision is PolicyDecision.NONE:
                if not statement.applies(request):
                    continue
                if statement.denies:
                    return PolicyDecision.DENY
                decision = PolicyDecision.ALLOW
        return decision


@lru_cache(maxsize=4096)
def allows_always(policy: Policy, action: str) -> bool:
    """Whether the policy allows the action whatever the resource and the circumstances: what roles say, at no cost."""
    action = action.lower()
    return not any(statement.denies for statement in policy.statements) and any(
        statement.resources == ("*",)
        and not statement.not_resources
        and not statement.conditions
        and statement.principals is None
        and any(matches(pattern, action) for pattern in statement.actions) is not statement.not_actions
        for statement in policy.statements
    )


def _is_named(name: str, request: JudgedRequest, *, whole_account: bool) -> bool:
    if name == "*":
        return True
    if request.is_anonymous:
        return False
    if account := _ACCOUNT_ROOT.fullmatch(name):
        is_root = request.principal_arn.endswith(":root")
        return account[1] == request.account and (whole_account or is_root)
    return name in (request.principal_arn, request.user_id)
