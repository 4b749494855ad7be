"""What the module makes, as plain values: each resource is a kind, a name, and attributes in the words of AWS's API.

Desired and observed resources have the same attributes, so that a difference is a comparison, and a plan can show, save
and apply them as they are.

| kind | name | attributes |
| --- | --- | --- |
| secret | its full name | `description`, `username`, `accessToken` (a fingerprint), `kmsKeyId`, `tags` |
| role | the IAM role's name | `description`, `trustPolicy`, `policyName`, `policy`, `tags` |
| rule | the repository prefix | `upstreamRegistryUrl`, `upstreamRepositoryPrefix`, `credentialArn`, `customRoleArn` |
| template | the repository prefix | `description`, `appliedFor`, `imageTagMutability`, `imageTagMutabilityExclusionFilters`, |
| | | `encryptionType`, `kmsKey`, `lifecyclePolicy`, `repositoryPolicy`, `resourceTags`, `customRoleArn` |
| node access | the IAM role's name | `policyName`, `policy` |
| registry policy | `registry` | `statements`: ours only, sorted by `Sid` |
| scanning | `registry` | `scanFrequency`, `filters`: ours only, sorted |
| repository | its name | as a template, without what can not be changed any more |

Absent texts are "", absent documents None, tags are tables, lists are sorted where their order says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Attributes = Mapping[str, Json]

#: The tag of secrets and roles that says which declaration made them; templates say it in their description.
MARKER_TAG = "pullthrough:declaration"
#: The name of the one resource of the kinds that are a document of the whole registry.
REGISTRY = "registry"


class ResourceKind(StrEnum):
    """In the order in which they are shown; what must come first is said by each resource's `needs`."""

    SECRET = "secret"
    ROLE = "role"
    RULE = "rule"
    TEMPLATE = "template"
    NODE_ACCESS = "node access"
    REGISTRY_POLICY = "registry policy"
    SCANNING = "scanning"
    REPOSITORY = "repository"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which resource."""

    kind: ResourceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing as it is to be."""

    key: Key
    attributes: Attributes
    #: What must be there before it.
    needs: tuple[Key, ...] = ()
    #: Why it is there, for people.
    reason: str = ""
    #: The rule it belongs to, by prefix; empty for what belongs to the whole.
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Existing:
    """One thing as it is."""

    key: Key
    attributes: Attributes
    arn: str = ""
    #: The declaration whose mark it bears; empty for none.
    marked_by: str = ""
    #: Whether it is a secret that is to be deleted, and can be restored until then.
    is_scheduled_for_deletion: bool = False
    #: Whether it is a rule of the engine's own file, which the API does not change.
    is_of_engine_file: bool = False
    #: When it was made and last changed, in seconds since 1970; None where that is not told.
    created_at: float | None = None
    changed_at: float | None = None
    #: What else AWS says of it, for exports and status: the ids of secret versions, for instance.
    more: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything as it is to be, and what the target has no place for."""

    resources: tuple[Resource, ...]
    #: What was asked for and is left out on this target, each with the reason.
    not_applicable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, kind: ResourceKind) -> tuple[Resource, ...]:
        return tuple(resource for resource in self.resources if resource.key.kind is kind)

    def get(self, key: Key) -> Resource | None:
        return next((resource for resource in self.resources if resource.key == key), None)


def secret_reference(name: str) -> str:
    """What stands for the ARN of a secret that is not made yet; its last characters are AWS's choice."""
    return f"${{secret:{name}}}"


def tags_in(attributes: Attributes) -> dict[str, Json]:
    return dict(cast("Mapping[str, Json]", attributes["resourceTags"]))
