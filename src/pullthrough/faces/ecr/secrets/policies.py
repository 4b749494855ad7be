"""Secrets Manager: a secret's own policy, which is obeyed for all that is asked of the secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.access.policy.documents import PolicyInvalid, PolicyKind, parse_policy
from pullthrough.errors import SecretNotUsable
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.secrets.secret_ids import KnownSecrets, invalid
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.storage.secrets.secret_rows import MARKED
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Runner

#: A secret has one policy.
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class SecretPolicyHandlers:
    run: Runner
    secrets: Secrets
    known: KnownSecrets

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetResourcePolicy": self.get_resource_policy,
            "PutResourcePolicy": self.put_resource_policy,
            "DeleteResourcePolicy": self.delete_resource_policy,
            "ListResourcePolicies": self.list_resource_policies,
            "ValidateResourcePolicy": self.validate_resource_policy,
        }

    async def get_resource_policy(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "GetResourcePolicy", input["SecretId"])
        if record.deleted_at is not None:
            raise SecretNotUsable(MARKED)
        _refuse_other_name(input)
        return {
            "ARN": record.arn,
            "Name": record.name,
            "ResourcePolicy": record.policy,
            "PolicyName": input.get("PolicyName"),
        }

    async def put_resource_policy(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "PutResourcePolicy", input["SecretId"])
        if input.get("PolicyName", _DEFAULT) != _DEFAULT:
            raise invalid(f"You can only attach the policy named {_DEFAULT}.")
        _check(input["ResourcePolicy"])
        if input.get("BlockPublicPolicy", False) and _is_public(input["ResourcePolicy"]):
            raise ApiError("PublicPolicyException", "You can't attach this policy because it allows everybody access.")
        await self.run(self.secrets.set_policy, record.arn, input["ResourcePolicy"])
        return {"ARN": record.arn, "Name": record.name, "PolicyName": input.get("PolicyName")}

    async def delete_resource_policy(self, call: Call, input: Input) -> Output:
        """That there is none is no error."""
        record = await self.known.find(call, "DeleteResourcePolicy", input["SecretId"])
        _refuse_other_name(input)
        await self.run(self.secrets.set_policy, record.arn, None)
        return {"ARN": record.arn, "Name": record.name, "PolicyName": input.get("PolicyName")}

    async def list_resource_policies(self, call: Call, input: Input) -> Output:
        """One name at most, hence one page."""
        record = await self.known.find(call, "ListResourcePolicies", input["SecretId"])
        if "NextToken" in input:
            raise ApiError("InvalidNextTokenException", "There is one page of resource policies only.")
        return {"ResourcePolicies": [{"PolicyName": _DEFAULT}] if record.policy is not None else []}

    async def validate_resource_policy(self, call: Call, input: Input) -> Output:
        if "SecretId" in input:
            await self.known.find(call, "ValidateResourcePolicy", input["SecretId"])
        _check(input["ResourcePolicy"])
        if not _is_public(input["ResourcePolicy"]):
            return {"PolicyValidationPassed": True, "ValidationErrors": []}
        error = {"CheckName": "PublicPolicy", "ErrorMessage": "The policy allows everybody access to the secret."}
        return {"PolicyValidationPassed": False, "ValidationErrors": [error]}


def _refuse_other_name(input: Input) -> None:
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
