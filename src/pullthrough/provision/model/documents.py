"""The policy documents of the module: what nodes, other accounts, ECR's template role and the operator may do. Pure.

Sources: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html,
https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-iam.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pullthrough.declaration import ROOT, Template
from pullthrough.provision.model.target import DeploymentTarget

_VERSION = "2012-10-17"
READ_ACTIONS = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
#: What a pull needs beyond reading when the image, or its repository, is not there yet. Lacking either, AWS answers
#: "not found", never "denied".
FILL_ACTIONS = ("ecr:BatchImportUpstreamImage", "ecr:CreateRepository")
#: Who assumes the role of a creation template.
TEMPLATE_PRINCIPAL = "ecr.amazonaws.com"
#: Who makes ECR's own role with the first rule of an account.
RULE_PRINCIPAL = "pullthroughcache.ecr.amazonaws.com"

Document = dict[str, Any]


def repository_arns(target: DeploymentTarget, prefixes: Iterable[str]) -> list[str]:
    """The repositories under these prefixes; ROOT is all of them."""
    prefixes = set(prefixes)
    start = f"arn:{target.partition}:ecr:{target.region}:{target.account}:repository"
    return [f"{start}/*"] if ROOT in prefixes else [f"{start}/{prefix}/*" for prefix in sorted(prefixes)]


def node_policy(target: DeploymentTarget, prefixes: Iterable[str], templates: Iterable[Template]) -> Document:
    """What a node that pulls through these prefixes needs, as an identity policy."""
    actions = [*READ_ACTIONS, *FILL_ACTIONS]
    if any(template.resource_tags for template in templates):
        actions.append("ecr:TagResource")
    return {
        "Version": _VERSION,
        "Statement": [
            {"Sid": "Login", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
            {
                "Sid": "PullThroughCache",
                "Effect": "Allow",
                "Action": sorted(actions),
                "Resource": repository_arns(target, prefixes),
            },
        ],
    }


def repository_policy(target: DeploymentTarget, accounts: Iterable[str], organization: str) -> Document | None:
    """What lets these accounts read a repository; None where nobody is named."""
    statements = [
        {"Sid": sid, "Effect": "Allow", **principals, "Action": list(READ_ACTIONS)}
        for sid, principals in _principals(target, accounts, organization)
    ]
    return {"Version": _VERSION, "Statement": statements} if statements else None


def registry_statements(
    target: DeploymentTarget, name: str, accounts: Iterable[str], organization: str, prefixes: Iterable[str]
) -> list[Document]:
    """Our statements of the registry's policy: these accounts may fill the cache.

    Reading is left to the repositories' own policies: a registry of policy scope V1 takes nothing else here.
    """
    return [
        {
            "Sid": f"{sid}Of{_sid_part(name)}",
            "Effect": "Allow",
            **principals,
            "Action": list(FILL_ACTIONS),
            "Resource": repository_arns(target, prefixes),
        }
        for sid, principals in _principals(target, accounts, organization)
    ]


def is_our_sid(sid: object, name: str) -> bool:
    """Whether a registry policy's statement with this Sid is one that the declaration `name` made."""
    return sid in {f"{what}Of{_sid_part(name)}" for what in (_ACCOUNTS_SID, _ORGANIZATION_SID)}


_ACCOUNTS_SID = "PullthroughAccounts"
_ORGANIZATION_SID = "PullthroughOrganization"


def _sid_part(name: str) -> str:
    """A Sid is letters and digits; a declaration's name has no capitals of its own."""
    return name.replace("-", "Z")


def _principals(target: DeploymentTarget, accounts: Iterable[str], organization: str) -> list[tuple[str, Document]]:
    found: list[tuple[str, Document]] = []
    if arns := [f"arn:{target.partition}:iam::{account}:root" for account in sorted(set(accounts))]:
        found.append((_ACCOUNTS_SID, {"Principal": {"AWS": arns}}))
    if organization:
        condition = {"StringEquals": {"aws:PrincipalOrgID": organization}}
        found.append((_ORGANIZATION_SID, {"Principal": "*", "Condition": condition}))
    return found


def template_trust() -> Document:
    return {
        "Version": _VERSION,
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": TEMPLATE_PRINCIPAL}, "Action": "sts:AssumeRole"},
        ],
    }


def template_role_policy(
    target: DeploymentTarget, prefixes: Iterable[str], kms_keys: Iterable[str], *, kms: bool
) -> Document:
    """What ECR needs to create repositories as these templates say. `kms`: whether any is encrypted with KMS."""
    statements: list[Document] = [
        {
            "Sid": "CreateRepositories",
            "Effect": "Allow",
            "Action": [
                "ecr:CreateRepository",
                "ecr:PutLifecyclePolicy",
                "ecr:ReplicateImage",
                "ecr:SetRepositoryPolicy",
                "ecr:TagResource",
            ],
            "Resource": repository_arns(target, prefixes),
        }
    ]
    if kms:
        keys = sorted({key for key in kms_keys if key})
        statements.append(
            {
                "Sid": "Encrypt",
                "Effect": "Allow",
                "Action": ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"],
                "Resource": keys or [f"arn:{target.partition}:kms:{target.region}:{target.account}:key/*"],
            }
        )
    return {"Version": _VERSION, "Statement": statements}


def lifecycle_policy(keep_images: int) -> Document:
    """By count of tagged images only: what is untagged may be a part of an index that is still pulled."""
    return {
        "rules": [
            {
                "rulePriority": 1,
                "description": f"Keep the newest {keep_images} tagged images",
                "selection": {
                    "tagStatus": "tagged",
                    "tagPatternList": ["*"],
                    "countType": "imageCountMoreThan",
                    "countNumber": keep_images,
                },
                "action": {"type": "expire"},
            }
        ]
    }


#: Everything that plan, apply, verify, status, import, export and destroy call, by what it is for. `pullthrough policy
#: operator` is made of it, and a test compares it with what is really called.
OPERATOR_ACTIONS: Mapping[str, Sequence[str]] = {
    "Rules": (
        "ecr:CreatePullThroughCacheRule",
        "ecr:DeletePullThroughCacheRule",
        "ecr:DescribePullThroughCacheRules",
        "ecr:UpdatePullThroughCacheRule",
        "ecr:ValidatePullThroughCacheRule",
    ),
    "Templates": (
        "ecr:CreateRepositoryCreationTemplate",
        "ecr:DeleteRepositoryCreationTemplate",
        "ecr:DescribeRepositoryCreationTemplates",
        "ecr:UpdateRepositoryCreationTemplate",
    ),
    "Registry": (
        "ecr:DeleteRegistryPolicy",
        "ecr:GetAuthorizationToken",
        "ecr:GetRegistryPolicy",
        "ecr:GetRegistryScanningConfiguration",
        "ecr:PutRegistryPolicy",
        "ecr:PutRegistryScanningConfiguration",
    ),
    "Repositories": (
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:CreateRepository",
        "ecr:DeleteLifecyclePolicy",
        "ecr:DeleteRepository",
        "ecr:DeleteRepositoryPolicy",
        "ecr:DescribeImages",
        "ecr:DescribeRepositories",
        "ecr:GetDownloadUrlForLayer",
        "ecr:GetLifecyclePolicy",
        "ecr:GetRepositoryPolicy",
        "ecr:ListTagsForResource",
        "ecr:PutImageTagMutability",
        "ecr:PutLifecyclePolicy",
        "ecr:SetRepositoryPolicy",
        "ecr:TagResource",
    ),
    "Secrets": (
        "secretsmanager:BatchGetSecretValue",
        "secretsmanager:CreateSecret",
        "secretsmanager:DeleteSecret",
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetSecretValue",
        "secretsmanager:ListSecrets",
        "secretsmanager:PutSecretValue",
        "secretsmanager:RestoreSecret",
        "secretsmanager:TagResource",
        "secretsmanager:UntagResource",
        "secretsmanager:UpdateSecret",
    ),
    "Roles": (
        "iam:CreateRole",
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:PassRole",
        "iam:PutRolePolicy",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy",
        "iam:UpdateRole",
    ),
    "Verify": ("ec2:DescribeVpcEndpoints", "iam:SimulatePrincipalPolicy"),
}
#: Those of the above whose resource is the secret; the other two of Secrets Manager have none.
_SECRETS_WITHOUT_RESOURCE = ("secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets")


def operator_policy(
    target: DeploymentTarget, name: str, node_roles: Iterable[str] = (), passed_roles: Collection[str] = ()
) -> Document:
    """What whoever runs `plan`, `apply` and `destroy` needs; IAM rights only for the roles that it touches.

    `passed_roles`: ARNs of roles that rules and templates are given.
    """
    secrets = OPERATOR_ACTIONS["Secrets"]
    account = f"arn:{target.partition}:iam::{target.account}"
    # A role of nodes may have a path, which its name does not tell.
    roles = [f"{account}:role/{template_role_name(name)}"]
    roles += [f"{account}:role/{path}{role}" for role in node_roles for path in ("", "*/")]
    return {
        "Version": _VERSION,
        "Statement": [
            {
                "Sid": "PullThroughCache",
                "Effect": "Allow",
                "Action": [
                    *(
                        action
                        for part in ("Rules", "Templates", "Registry", "Repositories")
                        for action in OPERATOR_ACTIONS[part]
                    ),
                    *_SECRETS_WITHOUT_RESOURCE,
                    "ec2:DescribeVpcEndpoints",
                ],
                "Resource": "*",
            },
            {
                "Sid": "Secrets",
                "Effect": "Allow",
                "Action": [action for action in secrets if action not in _SECRETS_WITHOUT_RESOURCE],
                "Resource": (
                    f"arn:{target.partition}:secretsmanager:{target.region}:{target.account}:"
                    "secret:ecr-pullthroughcache/*"
                ),
            },
            {
                "Sid": "Roles",
                "Effect": "Allow",
                "Action": [*OPERATOR_ACTIONS["Roles"], "iam:SimulatePrincipalPolicy"],
                "Resource": roles,
            },
            *(
                [
                    {
                        "Sid": "GivenRoles",
                        "Effect": "Allow",
                        "Action": "iam:PassRole",
                        "Resource": sorted(set(passed_roles)),
                    }
                ]
                if passed_roles
                else []
            ),
            {
                "Sid": "RuleRole",
                "Effect": "Allow",
                "Action": "iam:CreateServiceLinkedRole",
                "Resource": f"{account}:role/aws-service-role/{RULE_PRINCIPAL}/*",
                "Condition": {"StringEquals": {"iam:AWSServiceName": RULE_PRINCIPAL}},
            },
        ],
    }


def template_role_name(name: str) -> str:
    """The IAM role that a declaration makes for templates that need one."""
    return f"pullthrough-{name}-template"


def access_policy_name(name: str) -> str:
    """The inline policy that a declaration puts into nodes' roles."""
    return f"pullthrough-{name}"
