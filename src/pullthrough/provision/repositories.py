"""Repositories of the cache as AWS or an engine has them: read, brought up by a step, counted, deleted.

Which steps there are is `existing`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pullthrough.addressing.names import covering
from pullthrough.declaration import ROOT
from pullthrough.errors import AwsRefused
from pullthrough.oci.owners import OWNER_TAG
from pullthrough.provision.aws import Aws, Readers
from pullthrough.provision.observe import parse_document, tags_of
from pullthrough.provision.plan import Step
from pullthrough.provision.resources import Attributes, Json
from pullthrough.provision.target import Target

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Repository:
    """One under a rule's prefix, as it is."""

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
class Images:
    """What is in a repository. Layers that images share are counted with each."""

    count: int
    size_bytes: int


def read_repositories(aws: Aws, prefixes: Collection[str], *, root_is_cached: bool = False) -> list[Repository]:
    """All under these prefixes of rules, by name. `root_is_cached`: whether those under ROOT alone are the cache's.

    Costs a call a page, and three for each repository, which go out together. Raises what `Aws.call` raises; a repository
    that goes away meanwhile is left out.
    """
    with Readers(aws) as readers:
        reads = [
            readers.start(_read, aws, answer, prefix, is_cached=prefix != ROOT or root_is_cached)
            for answer, prefix in list_under(aws, prefixes)
        ]
        return [repository for read in reads if (repository := read.result()) is not None]


def list_under(aws: Aws, prefixes: Collection[str]) -> list[tuple[dict[str, Any], str]]:
    """Each repository under one of them, with the one; by name."""
    if not prefixes:
        return []
    listed = aws.pages("ecr", "DescribeRepositories", "repositories", maxResults=_PAGE)
    return [
        (answer, prefix)
        for answer in sorted(listed, key=lambda entry: str(entry["repositoryName"]))
        if (prefix := covering(prefixes, str(answer["repositoryName"])))
    ]


def _read(aws: Aws, answer: Mapping[str, Any], prefix: str, *, is_cached: bool) -> Repository | None:
    name, arn = str(answer["repositoryName"]), str(answer["repositoryArn"])
    encryption = answer.get("encryptionConfiguration") or {}
    try:
        lifecycle = _optional(
            aws, "GetLifecyclePolicy", "lifecyclePolicyText", "LifecyclePolicyNotFoundException", name
        )
        policy = _optional(aws, "GetRepositoryPolicy", "policyText", "RepositoryPolicyNotFoundException", name)
        tags = tags_of(aws.call("ecr", "ListTagsForResource", resourceArn=arn).get("tags"))
    except AwsRefused as error:
        if error.code == "RepositoryNotFoundException":
            return None
        raise
    created = answer.get("createdAt")
    return Repository(
        name=name,
        arn=arn,
        prefix=prefix,
        attributes={
            "imageTagMutability": answer.get("imageTagMutability", "MUTABLE"),
            "imageTagMutabilityExclusionFilters": sorted(
                entry["filter"] for entry in answer.get("imageTagMutabilityExclusionFilters") or []
            ),
            "encryptionType": encryption.get("encryptionType", "AES256"),
            "kmsKey": encryption.get("kmsKey", ""),
            "lifecyclePolicy": parse_document(lifecycle),
            "repositoryPolicy": parse_document(policy),
            "resourceTags": {tag: value for tag, value in tags.items() if not tag.startswith("aws:")},
        },
        created_at=created.timestamp() if created is not None else None,
        is_cached=is_cached and OWNER_TAG not in tags,
        is_own=OWNER_TAG in tags,
    )


def _optional(aws: Aws, operation: str, key: str, absent: str, name: str) -> str:
    """A document of a repository; empty for none."""
    try:
        return str(aws.call("ecr", operation, repositoryName=name)[key])
    except AwsRefused as error:
        if error.code == absent:
            return ""
        raise


def tags_in(attributes: Attributes) -> dict[str, Json]:
    return dict(cast("Mapping[str, Json]", attributes["resourceTags"]))


# Carrying a step out


def apply_repository(aws: Aws, target: Target, step: Step) -> None:
    """Once or again: what is so already stays so. A repository that is gone needs nothing.

    Raises what `Aws.call` raises.
    """
    name = step.key.name
    after = step.after or {}
    changed = {attribute for attribute, _, _ in step.changes}
    try:
        if changed & {"imageTagMutability", "imageTagMutabilityExclusionFilters"}:
            _put_mutability(aws, name, after)
        if "lifecyclePolicy" in changed:
            _put_document(aws, name, after["lifecyclePolicy"], "LifecyclePolicy", "lifecyclePolicyText", "Put")
        if "repositoryPolicy" in changed:
            _put_document(aws, name, after["repositoryPolicy"], "RepositoryPolicy", "policyText", "Set")
        if "resourceTags" in changed:
            arn = step.arn or f"arn:{target.partition}:ecr:{target.region}:{target.account}:repository/{name}"
            there = tags_in(step.before or {"resourceTags": {}})
            tags = [{"Key": tag, "Value": value} for tag, value in tags_in(after).items() if there.get(tag) != value]
            aws.call("ecr", "TagResource", resourceArn=arn, tags=tags)
    except AwsRefused as error:
        if error.code != "RepositoryNotFoundException":
            raise


def _put_mutability(aws: Aws, name: str, after: Attributes) -> None:
    filters = cast("list[str]", after["imageTagMutabilityExclusionFilters"])
    more: dict[str, Any] = {}
    if filters:
        more["imageTagMutabilityExclusionFilters"] = [{"filterType": "WILDCARD", "filter": text} for text in filters]
    aws.call(
        "ecr", "PutImageTagMutability", repositoryName=name, imageTagMutability=after["imageTagMutability"], **more
    )


def _put_document(aws: Aws, name: str, document: Json, noun: str, parameter: str, verb: str) -> None:
    if document is not None:
        text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
        aws.call("ecr", f"{verb}{noun}", repositoryName=name, **{parameter: text})
        return
    try:
        aws.call("ecr", f"Delete{noun}", repositoryName=name)
    except AwsRefused as error:
        if error.code != f"{noun}NotFoundException":
            raise


# Taking them away


def is_own(aws: Aws, arn: str) -> bool:
    """Whether the repository of an engine was pushed to it. One that is gone was not."""
    try:
        return OWNER_TAG in tags_of(aws.call("ecr", "ListTagsForResource", resourceArn=arn).get("tags"))
    except AwsRefused as error:
        if error.code == "RepositoryNotFoundException":
            return False
        raise


def count_images(aws: Aws, name: str) -> Images:
    """A call a page. A repository that is gone has none. Raises what `Aws.call` raises."""
    try:
        details = aws.pages("ecr", "DescribeImages", "imageDetails", repositoryName=name, maxResults=_PAGE)
    except AwsRefused as error:
        if error.code == "RepositoryNotFoundException":
            return Images(0, 0)
        raise
    return Images(len(details), sum(int(entry.get("imageSizeInBytes") or 0) for entry in details))


def delete_repository(aws: Aws, name: str) -> None:
    """With all its images; one that is gone already is as wanted. Raises what `Aws.call` raises."""
    try:
        aws.call("ecr", "DeleteRepository", repositoryName=name, force=True)
    except AwsRefused as error:
        if error.code != "RepositoryNotFoundException":
            raise
