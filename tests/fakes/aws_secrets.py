"""Secrets Manager in memory: secrets, their versions, deletion windows, tags."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pullthrough.provision.aws import Refused

Params = Mapping[str, Any]
Document = dict[str, Any]

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
#: The names of AWS's own key, which it does not tell of.
_DEFAULT_KEYS = ("alias/aws/secretsmanager",)
_MARKED_DELETED = "You can't perform this operation on the secret because it was marked for deletion."


@dataclass
class FakeSecret:
    name: str
    arn: str
    created_at: datetime
    changed_at: datetime
    description: str = ""
    kms_key: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    #: Texts by version; a version is never forgotten here, so that tests can count them.
    versions: dict[str, str] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None

    @property
    def value(self) -> str | None:
        return self.versions.get(self.stages.get(CURRENT, ""))

    @property
    def versions_to_stages(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for stage, version in self.stages.items():
            found.setdefault(version, []).append(stage)
        return found

    def put(self, version: str, text: str, when: datetime) -> None:
        if CURRENT in self.stages:
            self.stages[PREVIOUS] = self.stages[CURRENT]
        self.versions[version] = text
        self.stages[CURRENT] = version
        self.changed_at = when


class FakeSecretsManager:
    """Each method is an operation of the API; the caller holds the lock and has checked shapes."""

    def __init__(self, account: str, region: str, clock: Callable[[], datetime]) -> None:
        self.account = account
        self.region = region
        self._clock = clock
        self.secrets: dict[str, FakeSecret] = {}
        #: Names that ListSecrets does not know yet; AWS may be minutes late with it.
        self.not_listed_yet: set[str] = set()
        #: Names whose value the caller may not read.
        self.unreadable: set[str] = set()
        #: Whether the same CreateSecret again is an error, not the same answer.
        self.refuses_repeated_creation = False

    def arn_of(self, name: str) -> str:
        """AWS's last six characters are random; these depend on the name, so that states can be compared."""
        suffix = hashlib.sha256(name.encode()).hexdigest()[:6]
        return f"arn:aws:secretsmanager:{self.region}:{self.account}:secret:{name}-{suffix}"

    def state(self, arn: str) -> str:
        """For ECR: "", "usable", "deleted" or "custom key"."""
        secret = next((secret for secret in self.secrets.values() if secret.arn == arn), None)
        if secret is None:
            return ""
        return "deleted" if secret.deleted_at else "custom key" if secret.kms_key else "usable"

    def create_secret(self, params: Params) -> Document:
        name, token, text = params["Name"], params.get("ClientRequestToken", ""), params.get("SecretString", "")
        there = self.secrets.get(name)
        if there is not None:
            if there.deleted_at is not None:
                raise _invalid_request(
                    "You can't create this secret because a secret with this name is already scheduled for deletion."
                )
            if there.versions.get(token) == text and not self.refuses_repeated_creation:
                return {"ARN": there.arn, "Name": name, "VersionId": token}
            raise Refused(
                "ResourceExistsException", f"The operation failed because the secret {name} already exists.", 400
            )
        assert 32 <= len(token) <= 64, "AWS wants a token of 32 to 64 characters"
        secret = FakeSecret(name, self.arn_of(name), self._clock(), self._clock(), params.get("Description", ""))
        secret.kms_key = "" if params.get("KmsKeyId", "") in _DEFAULT_KEYS else params.get("KmsKeyId", "")
        secret.tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])}
        secret.put(token, text, self._clock())
        self.secrets[name] = secret
        return {"ARN": secret.arn, "Name": name, "VersionId": token}

    def describe_secret(self, params: Params) -> Document:
        secret = self._secret(params)
        return {**_description(secret), "VersionIdsToStages": secret.versions_to_stages}

    def list_secrets(self, params: Params) -> Document:
        found = [
            secret
            for name, secret in sorted(self.secrets.items())
            if name not in self.not_listed_yet
            and (secret.deleted_at is None or params.get("IncludePlannedDeletion"))
            and all(_matches(secret, entry) for entry in params.get("Filters", []))
        ]
        size, start = params.get("MaxResults", 100), int(params.get("NextToken", "0"))
        more = {"NextToken": str(start + size)} if start + size < len(found) else {}
        listed = [
            {**_description(secret), "SecretVersionsToStages": secret.versions_to_stages}
            for secret in found[start : start + size]
        ]
        return {"SecretList": listed, **more}

    def get_secret_value(self, params: Params) -> Document:
        return self._value(params["SecretId"])

    def batch_get_secret_value(self, params: Params) -> Document:
        values, errors = [], []
        if not 1 <= len(params["SecretIdList"]) <= 20:
            raise Refused("InvalidParameterException", "1 to 20 secrets", 400)
        for secret_id in params["SecretIdList"]:
            try:
                values.append(self._value(secret_id))
            except Refused as refused:
                errors.append({"SecretId": secret_id, "ErrorCode": refused.code, "Message": refused.message})
        return {"SecretValues": values, "Errors": errors}

    def put_secret_value(self, params: Params) -> Document:
        secret = self._usable(params)
        token, text = params["ClientRequestToken"], params["SecretString"]
        if secret.versions.get(token, text) != text:
            raise Refused("ResourceExistsException", "You can't modify an existing version.", 400)
        if token not in secret.versions:
            secret.put(token, text, self._clock())
        return {"ARN": secret.arn, "Name": secret.name, "VersionId": token, "VersionStages": [CURRENT]}

    def update_secret(self, params: Params) -> Document:
        secret = self._usable(params)
        assert "SecretString" not in params, "the module changes values by PutSecretValue"
        if "Description" in params:
            secret.description = params["Description"]
        if "KmsKeyId" in params:
            secret.kms_key = "" if params["KmsKeyId"] in _DEFAULT_KEYS else params["KmsKeyId"]
        secret.changed_at = self._clock()
        return {"ARN": secret.arn, "Name": secret.name}

    def tag_resource(self, params: Params) -> Document:
        self._usable(params).tags |= {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        return {}

    def untag_resource(self, params: Params) -> Document:
        tags = self._usable(params).tags
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}

    def delete_secret(self, params: Params) -> Document:
        secret = self._secret(params)
        if params.get("ForceDeleteWithoutRecovery"):
            del self.secrets[secret.name]
            return {"ARN": secret.arn, "Name": secret.name, "DeletionDate": self._clock()}
        if secret.deleted_at is not None:
            raise _invalid_request(
                "You can't perform this operation on the secret because it was already scheduled for deletion."
            )
        days = params.get("RecoveryWindowInDays", 30)
        if not 7 <= days <= 30:
            raise Refused("InvalidParameterException", "RecoveryWindowInDays is 7 to 30", 400)
        when = self._clock() + timedelta(days=days)
        secret.deleted_at = when
        return {"ARN": secret.arn, "Name": secret.name, "DeletionDate": when}

    def restore_secret(self, params: Params) -> Document:
        secret = self._secret(params)
        secret.deleted_at = None
        return {"ARN": secret.arn, "Name": secret.name}

    def _secret(self, params: Params) -> FakeSecret:
        secret_id = params["SecretId"]
        for secret in self.secrets.values():
            if secret_id in (secret.name, secret.arn):
                return secret
        raise Refused("ResourceNotFoundException", "Secrets Manager can't find the specified secret.", 400)

    def _usable(self, params: Params) -> FakeSecret:
        secret = self._secret(params)
        if secret.deleted_at is not None:
            raise _invalid_request(_MARKED_DELETED)
        return secret

    def _value(self, secret_id: str) -> Document:
        secret = self._usable({"SecretId": secret_id})
        if secret.name in self.unreadable:
            raise Refused("AccessDeniedException", "Access to KMS is not allowed", 400)
        if secret.value is None:
            raise Refused(
                "ResourceNotFoundException",
                f"Secrets Manager can't find the specified secret value for staging label: {CURRENT}",
                400,
            )
        version = secret.stages[CURRENT]
        return {
            "ARN": secret.arn,
            "Name": secret.name,
            "VersionId": version,
            "SecretString": secret.versions[version],
            "VersionStages": [CURRENT],
            "CreatedDate": secret.changed_at,
        }


def _description(secret: FakeSecret) -> Document:
    return {
        "ARN": secret.arn,
        "Name": secret.name,
        **({"Description": secret.description} if secret.description else {}),
        **({"KmsKeyId": secret.kms_key} if secret.kms_key else {}),
        "LastChangedDate": secret.changed_at,
        "CreatedDate": secret.created_at,
        "Tags": [{"Key": key, "Value": value} for key, value in secret.tags.items()],
        **({"DeletedDate": secret.deleted_at} if secret.deleted_at else {}),
    }


def _matches(secret: FakeSecret, entry: Params) -> bool:
    """By prefix, as AWS's filters are."""
    texts = {"tag-key": list(secret.tags), "tag-value": list(secret.tags.values()), "name": [secret.name]}[entry["Key"]]
    return any(text.startswith(value) for text in texts for value in entry["Values"])


def _invalid_request(message: str) -> Refused:
    return Refused("InvalidRequestException", message, 400)
