"""Secrets Manager: making, describing, changing and deleting secrets. Their values are in `secret_values`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.errors import SecretUnknown
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.resources import secret_arn
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.secrets.secret_ids import KnownSecrets, invalid, not_offered, read_tags
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.storage.secrets.secret_rows import SecretRecord, Value
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Runner

_NAME = re.compile(r"[A-Za-z0-9/_+=.@!-]+")
#: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html
_MIN_WINDOW_DAYS, _MAX_WINDOW_DAYS, _DEFAULT_WINDOW_DAYS = 7, 30, 30
#: The model counts characters; AWS, like every disk, counts bytes.
_MAX_VALUE_BYTES = 65536
_NO_ROTATION = "it runs no functions that would rotate secrets; put a new value with PutSecretValue or UpdateSecret"
_ONE_REGION = "one engine is one account in one region, and has no replicas"


@dataclass(frozen=True, slots=True)
class SecretHandlers:
    run: Runner
    secrets: Secrets
    known: KnownSecrets
    rights: Rights

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "CreateSecret": self.create_secret,
            "DescribeSecret": self.describe_secret,
            "UpdateSecret": self.update_secret,
            "DeleteSecret": self.delete_secret,
            "RestoreSecret": self.restore_secret,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "RotateSecret": self._refusal("RotateSecret", _NO_ROTATION),
            "CancelRotateSecret": self._refusal("CancelRotateSecret", _NO_ROTATION),
            "ReplicateSecretToRegions": self._refusal("ReplicateSecretToRegions", _ONE_REGION),
            "RemoveRegionsFromReplication": self._refusal("RemoveRegionsFromReplication", _ONE_REGION),
            "StopReplicationToReplica": self._refusal("StopReplicationToReplica", _ONE_REGION),
            "AssociateCrossAccountReplica": self._refusal("AssociateCrossAccountReplica", _ONE_REGION),
            "DisassociateCrossAccountReplica": self._refusal("DisassociateCrossAccountReplica", _ONE_REGION),
        }

    async def create_secret(self, call: Call, input: Input) -> Output:
        name = input["Name"]
        if _NAME.fullmatch(name) is None:
            raise ApiError(
                "ValidationException",
                "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
            )
        if "AddReplicaRegions" in input or "CrossAccountPrimaryARN" in input:
            raise not_offered("CreateSecret with replicas", _ONE_REGION)
        _refuse_type("CreateSecret", input)
        tags = read_tags(input.get("Tags", []))
        if tags:
            self.rights.check_secret(call, "TagResource", secret_arn(name, call.registry), tags=tags.items())
        token, value = read_token(input), read_value(input)
        record = await self.run(
            self.secrets.create,
            name,
            token=token,
            value=value,
            description=input.get("Description"),
            kms_key_id=input.get("KmsKeyId"),
            tags=tags,
        )
        return {"ARN": record.arn, "Name": record.name, "VersionId": token if value else None}

    async def describe_secret(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "DescribeSecret", input["SecretId"])
        return describe(record) | {
            "DeletedDate": record.delete_due_at,
            "VersionIdsToStages": _stages_by_version(record) or None,
        }

    async def update_secret(self, call: Call, input: Input) -> Output:
        _refuse_type("UpdateSecret", input)
        record = await self.known.find(call, "UpdateSecret", input["SecretId"])
        token, value = read_token(input), read_value(input)
        await self.run(
            self.secrets.update,
            record.arn,
            token=token,
            value=value,
            description=input.get("Description"),
            kms_key_id=input.get("KmsKeyId"),
        )
        return {"ARN": record.arn, "Name": record.name, "VersionId": token if value else None}

    async def delete_secret(self, call: Call, input: Input) -> Output:
        """By force, one that does not exist is deleted as well: a retry after a lost answer then succeeds, as on AWS."""
        days, force = input.get("RecoveryWindowInDays"), input.get("ForceDeleteWithoutRecovery", False)
        if days is not None and force:
            raise invalid("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
        if days is not None and not _MIN_WINDOW_DAYS <= days <= _MAX_WINDOW_DAYS:
            raise invalid(
                f"The RecoveryWindowInDays value must be between {_MIN_WINDOW_DAYS} and {_MAX_WINDOW_DAYS} days (inclusive)."
            )
        secret_id = input["SecretId"]
        if not force:
            record = await self.known.find(call, "DeleteSecret", secret_id)
            days = _DEFAULT_WINDOW_DAYS if days is None else days
            due = await self.run(self.secrets.mark_deleted, record.arn, after_days=days)
            return {"ARN": record.arn, "Name": record.name, "DeletionDate": due}
        try:
            record = await self.known.find(call, "DeleteSecret", secret_id)
            await self.run(self.secrets.delete, record.arn)
        except SecretUnknown:
            arn = secret_arn(secret_id, call.registry).removesuffix("-??????")
            return {"ARN": arn, "Name": arn.partition(":secret:")[2], "DeletionDate": call.now}
        return {"ARN": record.arn, "Name": record.name, "DeletionDate": call.now}

    async def restore_secret(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "RestoreSecret", input["SecretId"])
        await self.run(self.secrets.restore, record.arn)
        return {"ARN": record.arn, "Name": record.name}

    async def tag_resource(self, call: Call, input: Input) -> Output:
        tags = read_tags(input["Tags"])
        record = await self.known.find(call, "TagResource", input["SecretId"])
        await self.run(self.secrets.tag, record.arn, tags)
        return {}

    async def untag_resource(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "UntagResource", input["SecretId"])
        await self.run(self.secrets.untag, record.arn, input["TagKeys"])
        return {}

    def _refusal(self, operation: str, why: str) -> Handler:
        """A handler for what needs a part of AWS that is not here."""

        async def refuse(call: Call, input: Input) -> Output:
            await self.known.find(call, operation, input["SecretId"])
            raise not_offered(operation, why)

        return refuse


def describe(record: SecretRecord) -> Output:
    """What DescribeSecret and ListSecrets have in common; members that were not set are None."""
    return {
        "ARN": record.arn,
        "Name": record.name,
        "Description": record.description or None,
        "KmsKeyId": record.kms_key_id or None,
        "LastChangedDate": record.changed_at,
        "LastAccessedDate": record.accessed_at,
        "Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()] or None,
        "CreatedDate": record.created_at,
    }


def _stages_by_version(record: SecretRecord) -> dict[str, list[str]]:
    """Deprecated versions are left out, as on AWS."""
    return {version.version_id: list(version.stages) for version in record.versions if version.stages}


def read_token(input: Input) -> str:
    """SDKs always send one; whoever writes requests by hand may leave it to us."""
    return input.get("ClientRequestToken") or str(uuid.uuid4())


def read_value(input: Input) -> Value | None:
    """None where there is none."""
    if "SecretString" in input and "SecretBinary" in input:
        raise invalid("You can't specify both a binary secret value and a string secret value in the same secret.")
    if "SecretBinary" in input:
        return Value(input["SecretBinary"], is_binary=True)
    if "SecretString" not in input:
        return None
    content: bytes = input["SecretString"].encode()
    if len(content) > _MAX_VALUE_BYTES:
        raise invalid(f"The secret value can have {_MAX_VALUE_BYTES} bytes in UTF-8 at most.")
    return Value(content, is_binary=False)


def _refuse_type(operation: str, input: Input) -> None:
    if input.get("Type"):
        raise not_offered(f"{operation} with a Type", "it knows no partners that would hold external secrets")
