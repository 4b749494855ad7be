"""IAM roles that are there: those of templates, and the policies of nodes' roles."""

from __future__ import annotations

from pullthrough.errors import AwsRefused
from pullthrough.provision.aws import Aws
from pullthrough.provision.model.policies import parse_document
from pullthrough.provision.model.resources import MARKER_TAG, Attributes, Existing, Key, ResourceKind
from pullthrough.provision.observation.shapes import seconds_of, tags_of

#: Stands for a role that is not there.
ABSENT_ROLE = Existing(Key(ResourceKind.ROLE, ""), {})


def read_role(aws: Aws, name: str, policy_name: str) -> Existing | None:
    """None where there is no such role."""
    try:
        role = aws.call("iam", "GetRole", RoleName=name)["Role"]
    except AwsRefused as error:
        if error.code == "NoSuchEntity":
            return None
        raise
    policy = _read_role_policy(aws, name, policy_name)
    tags = tags_of(role.get("Tags"))
    return Existing(
        Key(ResourceKind.ROLE, name),
        {
            "description": role.get("Description", ""),
            "trustPolicy": parse_document(role.get("AssumeRolePolicyDocument")),
            "policyName": policy_name,
            "policy": policy if isinstance(policy, dict) else None,
            "tags": tags,
        },
        arn=role["Arn"],
        marked_by=str(tags.get(MARKER_TAG, "")),
        created_at=seconds_of(role.get("CreateDate")),
    )


def read_node_access(aws: Aws, name: str, policy_name: str) -> Existing | None:
    """None where the role has no such policy, ABSENT_ROLE where there is no such role: one call tells."""
    policy = _read_role_policy(aws, name, policy_name)
    if policy is None:
        return None
    if policy is ABSENT_ROLE:
        return ABSENT_ROLE
    assert isinstance(policy, dict)
    return Existing(Key(ResourceKind.NODE_ACCESS, name), {"policyName": policy_name, "policy": policy})


def _read_role_policy(aws: Aws, name: str, policy_name: str) -> Attributes | Existing | None:
    try:
        answer = aws.call("iam", "GetRolePolicy", RoleName=name, PolicyName=policy_name)
    except AwsRefused as error:
        if error.code != "NoSuchEntity":
            raise
        # "The role with name X cannot be found." or "The role policy with name X cannot be found."
        return None if "policy" in error.message.partition(": ")[2].lower().partition("with name")[0] else ABSENT_ROLE
    document = parse_document(answer["PolicyDocument"])
    return document if isinstance(document, dict) else {}
