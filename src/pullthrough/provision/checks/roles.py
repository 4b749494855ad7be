"""Roles that ECR itself assumes: for templates with tags or KMS, and for upstreams that are an ECR of another account.

AWS takes a template that needs a role and has none, or one that is not there, and from then on answers every pull of a
new repository with "not found".
https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pullthrough.declaration import ROOT, Rule
from pullthrough.provision.aws import Aws
from pullthrough.provision.checks.report import CheckKind, CheckRow, Trouble, failed, passed, skipped
from pullthrough.provision.model import documents
from pullthrough.provision.model.policies import listed
from pullthrough.provision.model.resources import Desired, Existing, Json, Key, Resource, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.roles import read_role
from pullthrough.provision.observation.rules import read_templates

_ROLE_POLICY = "create-repositories"
_NO_REPOSITORIES = "so that ECR can not create repositories, and answers 'not found' to every pull that would"
_NO_UPSTREAM = "so that ECR can not pull from the upstream"


@dataclass(frozen=True, slots=True)
class Templates:
    """All templates for pulls that are there, by prefix, whoever made them."""

    by_prefix: Mapping[str, Existing]

    def of(self, rule: Rule) -> list[Existing]:
        """The templates of this rule's repositories: the nearest one at or above its prefix, and all below."""
        if rule.prefix == ROOT:
            return [self.by_prefix[ROOT]] if ROOT in self.by_prefix else []
        parts = rule.prefix.split("/")
        above = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)] + [ROOT]
        nearest = next((name for name in above if name in self.by_prefix), None)
        below = [name for name in self.by_prefix if name.startswith(f"{rule.prefix}/")]
        return [self.by_prefix[name] for name in (*([nearest] if nearest else []), *below)]


def read_templates_of(aws: Aws, target: DeploymentTarget) -> Templates:
    """One call a page; none where no template needs a role. Raises what `Aws.call` raises."""
    if not target.has_iam:
        return Templates({})
    return Templates(
        {
            template.key.name: template
            for template in read_templates(aws)
            if "PULL_THROUGH_CACHE" in cast("list[str]", template.attributes["appliedFor"])
        }
    )


def check_template(
    aws: Aws, target: DeploymentTarget, desired: Desired, rule: Rule, templates: Templates
) -> list[CheckRow]:
    """A row for each template of this rule that needs a role; none where none does. Raises what `Aws.call` raises."""
    if not target.has_iam:
        return []
    wanted = desired.get(Key(ResourceKind.TEMPLATE, rule.prefix))
    if wanted is not None and _needs_role(wanted) and rule.prefix not in templates.by_prefix:
        trouble = Trouble(f"the template of {rule.prefix} is not there", "`pullthrough apply` makes it and its role")
        return [failed(rule.prefix, CheckKind.TEMPLATE, trouble)]
    return [_check(aws, target, rule, template) for template in templates.of(rule) if _needs_role(template)]


def _needs_role(template: Existing | Resource) -> bool:
    attributes = template.attributes
    return bool(attributes["resourceTags"]) or attributes["encryptionType"] != "AES256"


def _check(aws: Aws, target: DeploymentTarget, rule: Rule, template: Existing) -> CheckRow:
    name = template.key.name
    arn = str(template.attributes["customRoleArn"])
    if not arn:
        trouble = Trouble(
            f"the template {name} has tags or KMS and no role, {_NO_REPOSITORIES}",
            "`pullthrough apply` gives a template that is declared its role; give others one, or remove tags and KMS",
        )
        return failed(rule.prefix, CheckKind.TEMPLATE, trouble)
    return _check_role(aws, target, rule, CheckKind.TEMPLATE, arn, documents.TEMPLATE_PRINCIPAL, f"the template {name}")


def check_upstream_role(aws: Aws, target: DeploymentTarget, rule: Rule) -> list[CheckRow]:
    """One row for a rule that has such a role. Raises what `Aws.call` raises."""
    if not rule.custom_role_arn or not target.has_iam:
        return []
    principal = documents.RULE_PRINCIPAL
    whose = f"the rule {rule.prefix}"
    return [_check_role(aws, target, rule, CheckKind.UPSTREAM_ROLE, rule.custom_role_arn, principal, whose)]


def _check_role(
    aws: Aws, target: DeploymentTarget, rule: Rule, check: CheckKind, arn: str, principal: str, whose: str
) -> CheckRow:
    """Whether `principal` may assume this role."""
    effect = _NO_REPOSITORIES if check is CheckKind.TEMPLATE else _NO_UPSTREAM
    name = arn.rpartition("/")[2]
    if arn.split(":")[4:5] != [target.account]:
        return skipped(rule.prefix, check, f"the role {name} of {whose} is in another account")
    role = read_role(aws, name, _ROLE_POLICY)
    if role is None:
        trouble = Trouble(
            f"{whose} has the role {name}, which does not exist, {effect}",
            "`pullthrough apply` makes the role of its own; make the role, or correct its ARN, where one is given",
        )
        return failed(rule.prefix, check, trouble)
    if not may_assume(role.attributes["trustPolicy"], principal):
        trouble = Trouble(
            f"the role {name} of {whose} does not trust {principal}, {effect}",
            f"let {principal} do sts:AssumeRole in the role's trust policy; `pullthrough policy template` prints it",
        )
        return failed(rule.prefix, check, trouble)
    return passed(rule.prefix, check)


def may_assume(trust_policy: Json, service: str) -> bool:
    """Whether a trust policy lets this service assume the role, its conditions aside."""
    statements = trust_policy.get("Statement", []) if isinstance(trust_policy, Mapping) else []
    effects = {
        str(statement.get("Effect"))
        for statement in listed(statements)
        if isinstance(statement, Mapping)
        and any(str(action).lower() in ("sts:assumerole", "sts:*", "*") for action in listed(statement.get("Action")))
        and _names(statement.get("Principal"), service)
    }
    return effects == {"Allow"}


def _names(principal: Json, service: str) -> bool:
    if isinstance(principal, Mapping):
        return service in listed(principal.get("Service"))
    return principal == "*"
