"""What a step does to a repository that is there: brings it up to its template, or deletes it."""

from __future__ import annotations

import json
from typing import Any, cast

from pullthrough.errors import AwsRefused
from pullthrough.provision.aws import Aws
from pullthrough.provision.model.plan import Step
from pullthrough.provision.model.resources import Attributes, Json, tags_in
from pullthrough.provision.model.target import DeploymentTarget


def apply_repository(aws: Aws, target: DeploymentTarget, step: Step) -> None:
    """Idempotent. A repository that is gone needs nothing.

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


def delete_repository(aws: Aws, name: str) -> None:
    """Delete it with all its images. One that is gone already is no error. Raises what `Aws.call` raises."""
    try:
        aws.call("ecr", "DeleteRepository", repositoryName=name, force=True)
    except AwsRefused as error:
        if error.code != "RepositoryNotFoundException":
            raise
