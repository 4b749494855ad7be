"""Pull-through cache rules and repository creation templates that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.declaration import ROOT
from pullthrough.oci.ecr_upstreams import upstream_host
from pullthrough.provision.aws import Aws
from pullthrough.provision.model.desired import marked_by
from pullthrough.provision.model.policies import parse_document
from pullthrough.provision.model.resources import Existing, Key, ResourceKind
from pullthrough.provision.observation.shapes import seconds_of, tags_of

_PAGE = 100


def read_rules(aws: Aws) -> list[Existing]:
    answers = aws.pages("ecr", "DescribePullThroughCacheRules", "pullThroughCacheRules", maxResults=_PAGE)
    return [_rule(answer) for answer in answers]


def _rule(answer: Mapping[str, Any]) -> Existing:
    return Existing(
        Key(ResourceKind.RULE, str(answer["ecrRepositoryPrefix"]).removesuffix("/")),
        {
            "upstreamRegistryUrl": upstream_host(str(answer.get("upstreamRegistryUrl", ""))),
            "upstreamRepositoryPrefix": str(answer.get("upstreamRepositoryPrefix") or ROOT).removesuffix("/"),
            "credentialArn": answer.get("credentialArn", ""),
            "customRoleArn": answer.get("customRoleArn", ""),
        },
        # Both AWS and an engine know when the API made a rule; an engine's file does not say.
        is_of_engine_file="createdAt" not in answer,
        created_at=seconds_of(answer.get("createdAt")),
        changed_at=seconds_of(answer.get("updatedAt")),
    )


def read_templates(aws: Aws) -> list[Existing]:
    answers = aws.pages("ecr", "DescribeRepositoryCreationTemplates", "repositoryCreationTemplates", maxResults=_PAGE)
    return [_template(answer) for answer in answers]


def _template(answer: Mapping[str, Any]) -> Existing:
    encryption = answer.get("encryptionConfiguration") or {}
    description = answer.get("description", "")
    return Existing(
        Key(ResourceKind.TEMPLATE, str(answer["prefix"]).removesuffix("/")),
        {
            "description": description,
            "appliedFor": sorted(answer.get("appliedFor", [])),
            "imageTagMutability": answer.get("imageTagMutability", "MUTABLE"),
            "imageTagMutabilityExclusionFilters": sorted(
                entry["filter"] for entry in answer.get("imageTagMutabilityExclusionFilters") or []
            ),
            "encryptionType": encryption.get("encryptionType", "AES256"),
            "kmsKey": encryption.get("kmsKey", ""),
            "lifecyclePolicy": parse_document(answer.get("lifecyclePolicy", "")),
            "repositoryPolicy": parse_document(answer.get("repositoryPolicy", "")),
            "resourceTags": tags_of(answer.get("resourceTags")),
            "customRoleArn": answer.get("customRoleArn", ""),
        },
        marked_by=marked_by(description),
        created_at=seconds_of(answer.get("createdAt")),
        changed_at=seconds_of(answer.get("updatedAt")),
    )
