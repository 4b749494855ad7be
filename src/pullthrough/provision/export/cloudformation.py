"""A CloudFormation template: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ECR.html

What goes with a deleted stack: its secrets, whose tokens their owners still have. What stays: everything that pulls have
cached, since repositories are no part of the stack, and the registry's policy and scanning configuration, since others
may have come to rely on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pullthrough.addressing.labels import cloudformation_style, labels
from pullthrough.declaration import ROOT, Declaration
from pullthrough.errors import PlanProblem
from pullthrough.provision.export.common import (
    Writer,
    addresses,
    desired_anywhere,
    filters_by_frequency,
    is_marked,
    needed,
    render,
    texts,
    unmark,
    variables_of,
)
from pullthrough.provision.model.desired import problem_of
from pullthrough.provision.model.resources import Json, Resource, ResourceKind

_FORMAT = "2010-09-09"
_WORDS = {
    "account": "${AWS::AccountId}",
    "region": "${AWS::Region}",
    "partition": "${AWS::Partition}",
    "suffix": "${AWS::URLSuffix}",
}
#: CloudFormation puts the values into a JSON text as they are.
_NO_QUOTES = r'^[^"\\\s]+$'
#: CloudFormation's own pattern of AWS::ECR::RepositoryCreationTemplate has no place for a role's path.
_ROLE_OF_TEMPLATE = re.compile(r"arn:aws[-a-z0-9]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_-]*", re.ASCII)
#: The least and the most characters of a creation template's lifecycle policy there.
_MIN_LIFECYCLE_CHARACTERS = 100

_TEMPLATE_ROLE = "TemplateRole"
_TEMPLATE_ROLE_POLICY = "TemplateRolePolicy"

Body = dict[str, Any]


def cloudformation_template(declaration: Declaration) -> dict[str, object]:
    """What to write into a template's JSON file. User names and tokens are parameters that CloudFormation never shows.

    Raises PlanProblem for what AWS, or CloudFormation, does not take.
    """
    return _CloudFormationExport(declaration).template()


def _text(text: str) -> str | Body:
    """The text, or what CloudFormation makes it of."""
    if not is_marked(text):
        return text
    return {"Fn::Sub": unmark(text, _WORDS, _escape)}


def _escape(text: str) -> str:
    return text.replace("${", "${!")


def _json(document: Json, indent: int | None = None) -> str | Body:
    """A document as a text. What looks like a dynamic reference in it is not one to CloudFormation."""
    text = json.dumps(document, indent=indent, separators=None if indent else (",", ":"), ensure_ascii=False)
    return _text(text.replace("{{resolve:", "{\\u007bresolve:"))


def _tags(tags: Json) -> list[Body]:
    assert isinstance(tags, Mapping)
    return [{"Key": key, "Value": _text(str(value))} for key, value in tags.items()]


class _CloudFormationExport(Writer):
    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._desired = desired_anywhere(declaration)
        self._check()
        prefixes = [rule.prefix for rule in declaration.rules]
        self._labels = labels(prefixes, cloudformation_style)
        self._nodes = labels(
            (resource.key.name for resource in self._desired.of(ResourceKind.NODE_ACCESS)), cloudformation_style
        )
        self._variables = variables_of(declaration, cloudformation_style, "")
        #: The logical id of each secret, after the first rule that uses it.
        self._secrets = {
            resource.key.name: f"{self._labels[resource.prefix]}Secret"
            for resource in self._desired.of(ResourceKind.SECRET)
        }
        self._resources: dict[str, Body] = {}

    def template(self) -> dict[str, object]:
        for resource in self._desired.resources:
            self.write(resource)
        template: dict[str, object] = {
            "AWSTemplateFormatVersion": _FORMAT,
            "Description": f"A pull-through cache of ECR (pullthrough, {self._declaration.name}).",
        }
        if parameters := self._parameters():
            template["Parameters"] = parameters
        template["Resources"] = self._resources
        template["Outputs"] = {
            f"{name}Registry": {"Value": _text(address)}
            for name, address in addresses(self._declaration, cloudformation_style, "").items()
        }
        return template

    def _check(self) -> None:
        if not self._desired.resources:
            raise PlanProblem("every rule is switched off, and a CloudFormation template without a resource is none")
        problems = []
        for resource in self._desired.of(ResourceKind.TEMPLATE):
            where = f"the template of {resource.key.name}"
            role = str(resource.attributes["customRoleArn"])
            if role and not needed(resource, ResourceKind.ROLE) and _ROLE_OF_TEMPLATE.fullmatch(role) is None:
                problems.append(f"{where} has the role {role}; CloudFormation takes none with a path")
        if problems:
            raise problem_of(problems)

    def _parameters(self) -> dict[str, object]:
        parameters: dict[str, object] = {}
        used = {resource.prefix for resource in self._desired.of(ResourceKind.SECRET)}
        for prefix, variables in self._variables.items():
            if prefix not in used:
                continue
            for name, what in (("Username", variables.username), ("AccessToken", variables.token)):
                parameters[f"{variables.stem}{name}"] = {
                    "Type": "String",
                    "NoEcho": True,
                    "MinLength": 1,
                    "AllowedPattern": _NO_QUOTES,
                    "Description": what,
                }
        return parameters

    def _put(self, logical_id: str, kind: str, properties: Mapping[str, Any], **more: object) -> None:
        """Properties that are empty are left out."""
        kept = {name: value for name, value in properties.items() if value not in ("", None, {}, [])}
        self._resources[logical_id] = {"Type": kind, **more, "Properties": kept}

    def _secret(self, resource: Resource) -> None:
        name, attributes = resource.key.name, resource.attributes
        stem = self._variables[resource.prefix].stem
        self._put(
            self._secrets[name],
            "AWS::SecretsManager::Secret",
            {
                "Name": name,
                "Description": attributes["description"],
                "SecretString": {
                    "Fn::Sub": f'{{"username": "${{{stem}Username}}", "accessToken": "${{{stem}AccessToken}}"}}'
                },
                "Tags": _tags(attributes["tags"]),
            },
            DeletionPolicy="Delete",
            UpdateReplacePolicy="Delete",
        )

    def _rule(self, resource: Resource) -> None:
        prefix, attributes = resource.key.name, resource.attributes
        secret = self._secrets.get(needed(resource, ResourceKind.SECRET), "")
        upstream_prefix = attributes["upstreamRepositoryPrefix"]
        self._put(
            f"{self._labels[prefix]}Rule",
            "AWS::ECR::PullThroughCacheRule",
            {
                "EcrRepositoryPrefix": prefix,
                "UpstreamRegistryUrl": attributes["upstreamRegistryUrl"],
                "UpstreamRepositoryPrefix": "" if upstream_prefix == ROOT else upstream_prefix,
                # The ARN.
                "CredentialArn": {"Ref": secret} if secret else attributes["credentialArn"],
                "CustomRoleArn": attributes["customRoleArn"],
            },
        )

    def _role(self, resource: Resource) -> None:
        attributes = resource.attributes
        self._put(
            _TEMPLATE_ROLE,
            "AWS::IAM::Role",
            {
                "RoleName": resource.key.name,
                "Description": attributes["description"],
                "AssumeRolePolicyDocument": render(attributes["trustPolicy"], _text),
                "Tags": _tags(attributes["tags"]),
            },
        )
        self._put(
            _TEMPLATE_ROLE_POLICY,
            "AWS::IAM::RolePolicy",
            {
                "PolicyName": attributes["policyName"],
                "RoleName": {"Ref": _TEMPLATE_ROLE},
                "PolicyDocument": render(attributes["policy"], _text),
            },
        )

    def _template(self, resource: Resource) -> None:
        prefix, attributes = resource.key.name, resource.attributes
        lifecycle, policy = attributes["lifecyclePolicy"], attributes["repositoryPolicy"]
        exclusions = texts(attributes["imageTagMutabilityExclusionFilters"])
        makes_role = bool(needed(resource, ResourceKind.ROLE))
        encryption = {"EncryptionType": attributes["encryptionType"], "KmsKey": attributes["kmsKey"]}
        more = {"DependsOn": _TEMPLATE_ROLE_POLICY} if makes_role else {}
        self._put(
            f"{self._labels[prefix]}Template",
            "AWS::ECR::RepositoryCreationTemplate",
            {
                "Prefix": prefix,
                "Description": attributes["description"],
                "AppliedFor": attributes["appliedFor"],
                "ImageTagMutability": attributes["imageTagMutability"],
                "ImageTagMutabilityExclusionFilters": [
                    {
                        "ImageTagMutabilityExclusionFilterType": "WILDCARD",
                        "ImageTagMutabilityExclusionFilterValue": filter,
                    }
                    for filter in exclusions
                ],
                "EncryptionConfiguration": {name: value for name, value in encryption.items() if value},
                "LifecyclePolicy": "" if lifecycle is None else _lifecycle(lifecycle),
                "RepositoryPolicy": "" if policy is None else _json(policy),
                "ResourceTags": _tags(attributes["resourceTags"]),
                "CustomRoleArn": (
                    {"Fn::GetAtt": [_TEMPLATE_ROLE, "Arn"]} if makes_role else attributes["customRoleArn"]
                ),
            },
            **more,
        )

    def _node_access(self, resource: Resource) -> None:
        role = resource.key.name
        self._put(
            f"Node{self._nodes[role]}Policy",
            "AWS::IAM::RolePolicy",
            {
                "PolicyName": resource.attributes["policyName"],
                "RoleName": role,
                "PolicyDocument": render(resource.attributes["policy"], _text),
            },
        )

    def _registry_policy(self, resource: Resource) -> None:
        document: Json = {"Version": "2012-10-17", "Statement": resource.attributes["statements"]}
        self._put(
            "RegistryPolicy",
            "AWS::ECR::RegistryPolicy",
            {"PolicyText": render(document, _text)},
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )

    def _scanning(self, resource: Resource) -> None:
        filters = filters_by_frequency(resource)
        self._put(
            "RegistryScanning",
            "AWS::ECR::RegistryScanningConfiguration",
            {
                "ScanType": "ENHANCED" if "CONTINUOUS_SCAN" in filters else "BASIC",
                "Rules": [
                    {
                        "ScanFrequency": frequency,
                        "RepositoryFilters": [{"Filter": filter, "FilterType": "WILDCARD"} for filter in found],
                    }
                    for frequency, found in filters.items()
                ],
            },
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )


def _lifecycle(document: Json) -> str | Body:
    """A lifecycle policy, spread over lines where it is shorter than CloudFormation takes."""
    text = json.dumps(document, separators=(",", ":"))
    return _json(document, indent=None if len(text) >= _MIN_LIFECYCLE_CHARACTERS else 4)
