"""What an operation touches, as policies name it: resource ARNs and tags, read from its input.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pullthrough.access.policy.context import RequestTags, Tags
from pullthrough.errors import NameInvalid
from pullthrough.faces.ecr.calls import RegistryIdentity
from pullthrough.faces.ecr.wire.models import Operation
from pullthrough.oci.names import RepositoryName, parse_repository_name

#: The members that hold tags, and keys of tags.
_TAGS, _TAG_KEYS = ("tags", "Tags", "resourceTags"), ("tagKeys", "TagKeys")
#: What they make has the tags that they give it, as far as policies are asked: on AWS too.
_CREATE = ("CreateRepository", "CreateSecret")
_REPOSITORY_ARN = re.compile(r"arn:aws[a-z-]*:ecr:[^:]*:[0-9]*:repository/(.+)")


@dataclass(frozen=True, slots=True)
class TouchedResource:
    """`repository`, if there is one, has a policy and tags that count. `tags`, if given, count instead of its own."""

    arn: str
    repository: RepositoryName | None = None
    tags: Tags | None = None


def request_tags_of(input: Mapping[str, Any]) -> RequestTags:
    """The tags that an operation's input gives, or takes away by their keys."""
    given = (tag for member in _TAGS for tag in input.get(member, ()))
    taken = (key for member in _TAG_KEYS for key in input.get(member, ()))
    return RequestTags(tuple((tag.get("Key", ""), tag.get("Value", "")) for tag in given), tuple(taken))


def resources_of(
    operation: Operation, input: Mapping[str, Any], registry: RegistryIdentity
) -> Iterator[TouchedResource]:
    """Each must be allowed. The registry as a whole is `*`.

    An operation on one secret has none: its handler asks, since the secret has a policy of its own (secret_ids).
    """
    members = operation.input.members
    tags = request_tags_of(input).given if operation.name in _CREATE else None
    if operation.service == "secretsmanager":
        if "SecretId" not in input:
            yield TouchedResource(secret_arn(input["Name"], registry) if "Name" in input else "*", tags=tags)
    elif "repositoryName" in input:
        yield _repository(input["repositoryName"], registry, tags)
    elif "repositoryNames" in members:
        for name in input.get("repositoryNames") or ["*"]:
            yield _repository(name, registry)
    elif "resourceArn" in input:
        named = _REPOSITORY_ARN.fullmatch(input["resourceArn"])
        # By the ARN that policies know it by: handlers refuse other regions and accounts, and take any partition.
        yield _repository(named[1], registry) if named else TouchedResource(input["resourceArn"])
    else:
        yield TouchedResource("*")


def _repository(name: str, registry: RegistryIdentity, tags: Tags | None = None) -> TouchedResource:
    return TouchedResource(registry.repository_arn(name), _valid(name), tags)


def _valid(name: str) -> RepositoryName | None:
    try:
        return parse_repository_name(name)
    except NameInvalid:
        return None


def secret_arn(identifier: str, registry: RegistryIdentity) -> str:
    """A name without the six characters behind it stands for all secrets of that name, as in policies."""
    if identifier.startswith("arn:"):
        return identifier
    return f"arn:aws:secretsmanager:{registry.region}:{registry.account}:secret:{identifier}-??????"
