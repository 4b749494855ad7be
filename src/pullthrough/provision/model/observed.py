"""What is there, as it was read, and what of it was made here. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pullthrough.provision.model.resources import Attributes, Existing, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget

#: The value of a secret that is there and is no account; no fingerprint looks so.
NOT_AN_ACCOUNT = "(not a user name and a token)"
UNREADABLE = "(can not be read)"


@dataclass(frozen=True, slots=True)
class Scanning:
    """The registry's scanning configuration, as AWS has it."""

    scan_type: str = "BASIC"
    rules: tuple[Mapping[str, Any], ...] = ()

    @property
    def entries(self) -> frozenset[str]:
        """Each filter as `SCAN_ON_PUSH docker-hub/*`."""
        return frozenset(
            f"{rule['scanFrequency']} {entry['filter']}" for rule in self.rules for entry in rule["repositoryFilters"]
        )


@dataclass(frozen=True, slots=True)
class Questions:
    """What to look at beside what the registry lists by itself."""

    #: Names of declared secrets.
    secrets: tuple[str, ...] = ()
    #: ARNs of secrets that are somebody else's, which rules use.
    given_secrets: tuple[str, ...] = ()
    #: Node roles and the name of the policy to look for in each.
    node_roles: tuple[str, ...] = ()
    node_policy_name: str = ""
    #: Template roles, and the name of their policy.
    roles: tuple[str, ...] = ()
    role_policy_name: str = "create-repositories"


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that was found."""

    target: DeploymentTarget
    existing: Mapping[Key, Existing]
    #: The registry's policy, to the byte; empty for none.
    registry_policy: str = ""
    scanning: Scanning = field(default_factory=Scanning)
    #: IAM roles that were looked for and are not there.
    absent_roles: frozenset[str] = frozenset()
    #: What was found of given secrets, by ARN: None for one that is not there.
    given_secrets: Mapping[str, Existing | None] = field(default_factory=dict)

    def of(self, kind: ResourceKind) -> dict[str, Existing]:
        """By name."""
        return {key.name: existing for key, existing in self.existing.items() if key.kind is kind}

    def get(self, kind: ResourceKind, name: str) -> Existing | None:
        return self.existing.get(Key(kind, name))


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository under a rule's prefix, as it is."""

    name: str
    arn: str
    #: The rule's.
    prefix: str
    #: As a template's, without `resourceTags` of AWS's own.
    attributes: Attributes
    #: Seconds since 1970; None where that is not told.
    created_at: float | None = None
    #: Whether it is the cache's beyond doubt. Under ROOT an account of AWS has its own repositories too, and nothing tells
    #: them apart; an engine says which are its own.
    is_cached: bool = True
    #: Whether it was pushed to an engine before there was the rule.
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class ImageCount:
    """How many images a repository has, and their size. A layer that images share counts with each."""

    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Owned:
    """What was made here and not taken back."""

    created: frozenset[Key] = frozenset()
    #: Filters of the scanning configuration, as `SCAN_ON_PUSH docker-hub/*`; a frequency alone is a rule made for them.
    filters: frozenset[str] = frozenset()
    #: Roles that could not be made whole: something of each may be there, and bears the mark then.
    attempted: frozenset[Key] = frozenset()
