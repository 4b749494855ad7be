"""Terraform, in its JSON syntax: https://developer.hashicorp.com/terraform/language/syntax/json

The resources are those of hashicorp/aws. Their arguments and the forms of their import ids are in its documentation:
https://registry.terraform.io/providers/hashicorp/aws/latest/docs
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pullthrough.addressing.labels import labels, terraform_style
from pullthrough.declaration import ROOT, Declaration
from pullthrough.provision.export.common import (
    Writer,
    addresses,
    desired_anywhere,
    needed,
    texts,
    unmark,
    variables_of,
)
from pullthrough.provision.model.desired import problem_of
from pullthrough.provision.model.documents import is_our_sid
from pullthrough.provision.model.resources import Existing, Json, Key, Resource, ResourceKind
from pullthrough.provision.planning.merging import merge_filters, merge_statements

if TYPE_CHECKING:
    # For types only: it imports what makes AWS's calls.
    from pullthrough.provision.model.observed import Observed

#: `import` blocks came with it.
MINIMUM_TERRAFORM = ">= 1.5"
#: The newest thing that is used is `image_tag_mutability_exclusion_filter` of creation templates:
#: https://github.com/hashicorp/terraform-provider-aws/blob/main/CHANGELOG.md#6100-august-21-2025
MINIMUM_PROVIDER = ">= 6.10"

RULE = "aws_ecr_pull_through_cache_rule"
SECRET = "aws_secretsmanager_secret"
SECRET_VERSION = "aws_secretsmanager_secret_version"
TEMPLATE = "aws_ecr_repository_creation_template"
ROLE = "aws_iam_role"
ROLE_POLICY = "aws_iam_role_policy"
REGISTRY_POLICY = "aws_ecr_registry_policy"
SCANNING = "aws_ecr_registry_scanning_configuration"

#: The labels of what there is one of. Those of node roles begin with `node_`.
_TEMPLATE_ROLE = "template"
_REGISTRY = "registry"

_WORDS = {
    "account": "${data.aws_caller_identity.current.account_id}",
    "region": "${data.aws_region.current.region}",
    "partition": "${data.aws_partition.current.partition}",
    "suffix": "${data.aws_partition.current.dns_suffix}",
}
#: What the provider takes as a prefix; ECR itself takes `__` and more than one `-` too.
_PREFIX = re.compile(r"(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*|ROOT", re.ASCII)

_WHOLE_POLICY = (
    "A registry has one policy: Terraform owns all of it from now on, and removes statements that are not here. "
    "`pullthrough export terraform --imports` takes over those that are there."
)
_WHOLE_SCANNING = (
    "A registry has one scanning configuration: Terraform owns all of it from now on, scan_type included, and removes "
    "filters that are not here. `pullthrough export terraform --imports` takes over those that are there."
)


def terraform_document(declaration: Declaration, *, observed: Observed | None = None) -> dict[str, object]:
    """What to write into a `.tf.json` file. Secrets are variables without a default.

    `observed`: with it come `import` blocks for everything that is there already, and what others have put into the
    registry's policy and scanning configuration is kept. Raises PlanProblem for what AWS, or the provider, does not take.
    """
    return _TerraformExport(declaration, observed).document()


def _escape(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")


def _text(text: str) -> str:
    return unmark(text, _WORDS, _escape)


def _json(document: Json) -> str:
    """A document as the text of an argument."""
    return _text(json.dumps(document, separators=(",", ":"), ensure_ascii=False))


def _table(table: Json) -> dict[str, str]:
    """Tags; the names in tables are templates too."""
    assert isinstance(table, Mapping)
    return {_text(key): _text(str(value)) for key, value in table.items()}


class _TerraformExport(Writer):
    def __init__(self, declaration: Declaration, observed: Observed | None) -> None:
        self._declaration = declaration
        self._observed = observed
        self._desired = desired_anywhere(declaration)
        self._check()
        prefixes = [rule.prefix for rule in declaration.rules]
        self._labels = labels(prefixes, terraform_style, separator="_")
        self._nodes = labels(
            (resource.key.name for resource in self._desired.of(ResourceKind.NODE_ACCESS)),
            terraform_style,
            separator="_",
        )
        self._variables = variables_of(declaration, terraform_style, "_")
        #: The label of each secret, which is that of the first rule that uses it.
        self._secrets = {
            resource.key.name: self._labels[resource.prefix] for resource in self._desired.of(ResourceKind.SECRET)
        }
        self._resources: dict[str, dict[str, dict[str, Any]]] = {}
        self._imports: list[dict[str, str]] = []

    def document(self) -> dict[str, object]:
        for resource in self._desired.resources:
            self.write(resource)
        document: dict[str, object] = {
            "//": _escape(
                f"Made by `pullthrough export terraform` of the declaration {self._declaration.name}. It holds no secret: "
                "user names and tokens are variables (TF_VAR_...). Terraform writes them into its state; keep that as secret."
            ),
            "terraform": {
                "required_version": MINIMUM_TERRAFORM,
                "required_providers": {"aws": {"source": "hashicorp/aws", "version": MINIMUM_PROVIDER}},
            },
            "data": {
                "aws_caller_identity": {"current": {}},
                "aws_partition": {"current": {}},
                "aws_region": {"current": {}},
            },
        }
        if variables := self._variable_blocks():
            document["variable"] = variables
        if self._resources:
            document["resource"] = self._resources
        document["output"] = {
            f"{name}_registry": {"value": _text(address)}
            for name, address in addresses(self._declaration, terraform_style, "_").items()
        }
        if self._imports:
            document["import"] = self._imports
        return document

    def _check(self) -> None:
        problems = [
            f"the prefix {prefix} has '__' or '--', which Terraform's AWS provider does not take; rename it"
            for rule in self._declaration.rules
            for prefix in (rule.prefix, rule.upstream_repository_prefix or ROOT)
            if _PREFIX.fullmatch(prefix) is None
        ]
        if problems:
            raise problem_of(problems)

    def _variable_blocks(self) -> dict[str, object]:
        blocks: dict[str, object] = {}
        used = {resource.prefix for resource in self._desired.of(ResourceKind.SECRET)}
        for prefix, variables in self._variables.items():
            if prefix not in used:
                continue
            for name, what in (("username", variables.username), ("access_token", variables.token)):
                blocks[f"{variables.stem}_{name}"] = {
                    "type": "string",
                    "description": _escape(what),
                    "sensitive": True,
                    "nullable": False,
                }
        return blocks

    def _put(self, kind: str, label: str, body: Mapping[str, Any], import_id: str = "") -> None:
        """Arguments that are empty are left out."""
        self._resources.setdefault(kind, {})[label] = {
            name: value for name, value in body.items() if value not in ("", None, {}, [])
        }
        if import_id:
            self._imports.append({"to": f"{kind}.{label}", "id": _escape(import_id)})

    def _existing(self, key: Key) -> Existing | None:
        return self._observed.existing.get(key) if self._observed else None

    def _secret(self, resource: Resource) -> None:
        name, attributes = resource.key.name, resource.attributes
        label, stem = self._secrets[name], self._variables[resource.prefix].stem
        existing = self._existing(resource.key)
        comment = arn = version = ""
        if existing is not None and existing.is_scheduled_for_deletion:
            comment = (
                "It is scheduled for deletion, and can not be made again until it is gone or restored: "
                f"aws secretsmanager restore-secret --secret-id {name}"
            )
        elif existing is not None:
            arn, version = existing.arn, str(existing.more.get("currentVersion") or "")
        self._put(
            SECRET,
            label,
            {
                "//": _escape(comment),
                "name": _text(name),
                "description": _text(str(attributes["description"])),
                "tags": _table(attributes["tags"]),
            },
            arn,
        )
        self._put(
            SECRET_VERSION,
            label,
            {
                "secret_id": f"${{{SECRET}.{label}.id}}",
                # To the character what `apply` writes, so that an import finds nothing to change.
                "secret_string": (
                    f'{{"username": ${{jsonencode(var.{stem}_username)}}, '
                    f'"accessToken": ${{jsonencode(var.{stem}_access_token)}}}}'
                ),
            },
            f"{arn}|{version}" if version else "",
        )

    def _rule(self, resource: Resource) -> None:
        prefix, attributes = resource.key.name, resource.attributes
        secret = self._secrets.get(needed(resource, ResourceKind.SECRET), "")
        upstream_prefix = str(attributes["upstreamRepositoryPrefix"])
        self._put(
            RULE,
            self._labels[prefix],
            {
                "ecr_repository_prefix": prefix,
                "upstream_registry_url": attributes["upstreamRegistryUrl"],
                # Not said where it is all of the upstream: a rule can not be changed in it, only replaced.
                "upstream_repository_prefix": "" if upstream_prefix == ROOT else upstream_prefix,
                "credential_arn": (
                    f"${{{SECRET}.{secret}.arn}}" if secret else _text(str(attributes["credentialArn"]))
                ),
                "custom_role_arn": _text(str(attributes["customRoleArn"])),
                # ECR refuses a rule whose secret has no value yet.
                "depends_on": [f"{SECRET_VERSION}.{secret}"] if secret else [],
            },
            prefix if self._existing(resource.key) else "",
        )

    def _role(self, resource: Resource) -> None:
        name, attributes = resource.key.name, resource.attributes
        existing = self._existing(resource.key)
        has_policy = existing is not None and existing.attributes.get("policy") is not None
        policy_name = str(attributes["policyName"])
        self._put(
            ROLE,
            _TEMPLATE_ROLE,
            {
                "name": _text(name),
                "description": _text(str(attributes["description"])),
                "assume_role_policy": _json(attributes["trustPolicy"]),
                "tags": _table(attributes["tags"]),
            },
            name if existing else "",
        )
        self._put(
            ROLE_POLICY,
            _TEMPLATE_ROLE,
            {
                "name": _text(policy_name),
                "role": f"${{{ROLE}.{_TEMPLATE_ROLE}.name}}",
                "policy": _json(attributes["policy"]),
            },
            f"{name}:{policy_name}" if has_policy else "",
        )

    def _template(self, resource: Resource) -> None:
        prefix, attributes = resource.key.name, resource.attributes
        lifecycle, policy = attributes["lifecyclePolicy"], attributes["repositoryPolicy"]
        makes_role = bool(needed(resource, ResourceKind.ROLE))
        encryption = {"encryption_type": attributes["encryptionType"], "kms_key": _text(str(attributes["kmsKey"]))}
        self._put(
            TEMPLATE,
            self._labels[prefix],
            {
                "prefix": prefix,
                "description": _text(str(attributes["description"])),
                "applied_for": attributes["appliedFor"],
                "image_tag_mutability": attributes["imageTagMutability"],
                "image_tag_mutability_exclusion_filter": [
                    {"filter": _text(filter), "filter_type": "WILDCARD"}
                    for filter in texts(attributes["imageTagMutabilityExclusionFilters"])
                ],
                "encryption_configuration": [{name: value for name, value in encryption.items() if value}],
                "lifecycle_policy": "" if lifecycle is None else _json(lifecycle),
                "repository_policy": "" if policy is None else _json(policy),
                "resource_tags": _table(attributes["resourceTags"]),
                "custom_role_arn": (
                    f"${{{ROLE}.{_TEMPLATE_ROLE}.arn}}" if makes_role else _text(str(attributes["customRoleArn"]))
                ),
                "depends_on": [f"{ROLE_POLICY}.{_TEMPLATE_ROLE}"] if makes_role else [],
            },
            prefix if self._existing(resource.key) else "",
        )

    def _node_access(self, resource: Resource) -> None:
        role, policy_name = resource.key.name, str(resource.attributes["policyName"])
        self._put(
            ROLE_POLICY,
            f"node_{self._nodes[role]}",
            {"name": _text(policy_name), "role": _text(role), "policy": _json(resource.attributes["policy"])},
            f"{role}:{policy_name}" if self._existing(resource.key) else "",
        )

    # The registry's documents

    def _registry_policy(self, resource: Resource) -> None:
        statements: Any = resource.attributes["statements"]
        there, name = (self._observed.registry_policy if self._observed else ""), self._declaration.name
        document: Json = json.loads(merge_statements(there, lambda sid: is_our_sid(sid, name), statements))
        body = {"//": _WHOLE_POLICY, "policy": _json(document)}
        self._put(REGISTRY_POLICY, _REGISTRY, body, self._registry_id() if there else "")

    def _scanning(self, resource: Resource) -> None:
        there = self._observed.scanning.rules if self._observed else ()
        rules = merge_filters(there, add=texts(resource.attributes["filters"]), remove=(), own=())
        enhanced = self._observed is not None and self._observed.scanning.scan_type == "ENHANCED"
        enhanced = enhanced or any(rule["scanFrequency"] == "CONTINUOUS_SCAN" for rule in rules)
        self._put(
            SCANNING,
            _REGISTRY,
            {
                "//": _WHOLE_SCANNING,
                "scan_type": "ENHANCED" if enhanced else "BASIC",
                "rule": [
                    {
                        "scan_frequency": rule["scanFrequency"],
                        "repository_filter": [
                            {"filter": _text(text), "filter_type": "WILDCARD"}
                            for text in sorted(entry["filter"] for entry in rule["repositoryFilters"])
                        ],
                    }
                    for rule in rules
                ],
            },
            self._registry_id(),
        )

    def _registry_id(self) -> str:
        return self._observed.target.account if self._observed else ""
