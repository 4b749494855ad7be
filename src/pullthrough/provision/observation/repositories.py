"""Repositories of the cache as AWS or an engine has them: read, and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pullthrough.addressing.names import covering
from pullthrough.declaration import ROOT
from pullthrough.errors import AwsRefused
from pullthrough.oci.owners import OWNER_TAG
from pullthrough.provision.aws import Aws, ReadingPool
from pullthrough.provision.model.observed import ImageCount, Repository
from pullthrough.provision.model.policies import parse_document
from pullthrough.provision.observation.shapes import tags_of

_PAGE = 1000


def read_repositories(aws: Aws, prefixes: Collection[str], *, root_is_cached: bool = False) -> list[Repository]:
    """All under these prefixes of rules, by name. `root_is_cached`: whether those under ROOT alone are the cache's.

    Costs a call a page, and three for each repository, which go out together. Raises what `Aws.call` raises; a repository
    that goes away meanwhile is left out.
    """
    with ReadingPool(aws) as readers:
        reads = [
            readers.start(_read, aws, answer, prefix, is_cached=prefix != ROOT or root_is_cached)
            for answer, prefix in list_under(aws, prefixes)
        ]
        return [repository for read in reads if (repository := read.result()) is not None]


def list_under(aws: Aws, prefixes: Collection[str]) -> list[tuple[dict[str, Any], str]]:
    """Each repository under one of the prefixes, with its prefix, ordered by name."""
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


def is_own(aws: Aws, arn: str) -> bool:
    """Whether this repository was pushed to the engine. False for one that is gone."""
    try:
        return OWNER_TAG in tags_of(aws.call("ecr", "ListTagsForResource", resourceArn=arn).get("tags"))
    except AwsRefused as error:
        if error.code == "RepositoryNotFoundException":
            return False
        raise


def count_images(aws: Aws, name: str) -> ImageCount:
    """One call a page. A repository that is gone has no images. Raises what `Aws.call` raises."""
    try:
        details = aws.pages("ecr", "DescribeImages", "imageDetails", repositoryName=name, maxResults=_PAGE)
    except AwsRefused as error:
        if error.code == "RepositoryNotFoundException":
            return ImageCount(0, 0)
        raise
    return ImageCount(len(details), sum(int(entry.get("imageSizeInBytes") or 0) for entry in details))
