"""Secrets Manager: a secret's own policy, which is obeyed for all that is asked of the secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pullthrough.access.policies import PolicyInvalid, PolicyKind, parse_policy
from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.secret_ids import find_secret, invalid
from pullthrough.errors import SecretNotUsable
from pullthrough.storage.secret_rows import MARKED

#: A secret has one policy.
_DEFAULT = "default"


async def get_resource_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    record = await find_secret(call, "GetResourcePolicy", input["SecretId"])
    if record.deleted_at is not None:
        raise SecretNotUsable(MARKED)
    _refuse_other_name(input)
    return {
        "ARN": record.arn,
        "Name": record.name,
        "ResourcePolicy": record.policy,
        "PolicyName": input.get("PolicyName"),
    }


async def put_resource_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    record = await find_secret(call, "PutResourcePolicy", input["SecretId"])
    if input.get("PolicyName", _DEFAULT) != _DEFAULT:
        raise invalid(f"You can only attach the policy named {_DEFAULT}.")
    _check(input["ResourcePolicy"])
    if input.get("BlockPublicPolicy", False) and _is_public(input["ResourcePolicy"]):
        raise ApiError("PublicPolicyException", "You can't attach this policy because it allows everybody access.")
    await call.engine.call(call.engine.secrets.set_policy, record.arn, input["ResourcePolicy"])
    return {"ARN": record.arn, "Name": record.name, "PolicyName": input.get("PolicyName")}


async def delete_resource_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """That there is none is no error."""
    record = await find_secret(call, "DeleteResourcePolicy", input["SecretId"])
    _refuse_other_name(input)
    await call.engine.call(call.engine.secrets.set_policy, record.arn, None)
    return {"ARN": record.arn, "Name": record.name, "PolicyName": input.get("PolicyName")}


async def list_resource_policies(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """One name at most, hence one page."""
    record = await find_secret(call, "ListResourcePolicies", input["SecretId"])
    if "NextToken" in input:
        raise ApiError("InvalidNextTokenException", "There is one page of resource policies only.")
    return {"ResourcePolicies": [{"PolicyName": _DEFAULT}] if record.policy is not None else []}


async def validate_resource_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    if "SecretId" in input:
        await find_secret(call, "ValidateResourcePolicy", input["SecretId"])
    _check(input["ResourcePolicy"])
    if not _is_public(input["ResourcePolicy"]):
        return {"PolicyValidationPassed": True, "ValidationErrors": []}
    error = {"CheckName": "PublicPolicy", "ErrorMessage": "The policy allows everybody access to the secret."}
    return {"PolicyValidationPassed": False, "ValidationErrors": [error]}


def _refuse_other_name(input: Mapping[str, Any]) -> None:
    if input.get("PolicyName", _DEFAULT) != _DEFAULT:
        raise ApiError("ResourceNotFoundException", "Secrets Manager can't find the specified resource policy.")


def _check(text: str) -> None:
    try:
        parse_policy(text, PolicyKind.SECRET)
    except PolicyInvalid as error:
        raise ApiError(
            "MalformedPolicyDocumentException", f"This resource policy contains an error: {error.message}."
        ) from error


def _is_public(text: str) -> bool:
    """Of a policy that was found to be one: whether it allows something to everybody, unconditionally."""
    entries = json.loads(text)["Statement"]
    for statement in entries if isinstance(entries, list) else [entries]:
        everybody = statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]}) or "NotPrincipal" in statement
        if statement["Effect"] == "Allow" and everybody and not statement.get("Condition"):
            return True
    return False


HANDLERS: Mapping[str, Handler] = {
    "GetResourcePolicy": get_resource_policy,
    "PutResourcePolicy": put_resource_policy,
    "DeleteResourcePolicy": delete_resource_policy,
    "ListResourcePolicies": list_resource_policies,
    "ValidateResourcePolicy": validate_resource_policy,
}
