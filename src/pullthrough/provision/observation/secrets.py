"""Secrets that are there, and what of their texts may be known: the user name, and the token's fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pullthrough.errors import AwsRefused
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import Aws
from pullthrough.provision.model.observed import NOT_AN_ACCOUNT, UNREADABLE
from pullthrough.provision.model.resources import MARKER_TAG, Existing, Json, Key, ResourceKind
from pullthrough.provision.observation.shapes import seconds_of, tags_of

_PAGE = 100
#: What AWS's own key for secrets is called.
DEFAULT_SECRETS_KEY = "alias/aws/secretsmanager"


def list_marked_secrets(aws: Aws) -> list[dict[str, Any]]:
    """The secrets that bear any declaration's mark. The list may be minutes late: it only serves to find leftovers."""
    return aws.pages(
        "secretsmanager",
        "ListSecrets",
        "SecretList",
        Filters=[{"Key": "tag-key", "Values": [MARKER_TAG]}],
        IncludePlannedDeletion=True,
        MaxResults=_PAGE,
    )


def read_values(aws: Aws, names: Iterable[str]) -> dict[str, str]:
    """The texts of these secrets, by name, without those that are not there or are to be deleted."""
    answer = aws.call("secretsmanager", "BatchGetSecretValue", SecretIdList=list(names))
    values = {}
    for entry in answer.get("SecretValues", []):
        values[entry["Name"]] = entry.get("SecretString", "")
        aws.secrets |= tokens_in(values[entry["Name"]])
    for error in answer.get("Errors", []):
        if error.get("ErrorCode") in ("AccessDeniedException", "DecryptionFailure", "InternalServiceError"):
            values[str(error.get("SecretId", ""))] = UNREADABLE
    return values


def describe_secret(aws: Aws, secret_id: str) -> dict[str, Any] | None:
    try:
        return aws.call("secretsmanager", "DescribeSecret", SecretId=secret_id)
    except AwsRefused as error:
        if error.code == "ResourceNotFoundException":
            return None
        raise


def observed_secret(description: Mapping[str, Any], value: str | None, fingerprints: Fingerprints) -> Existing:
    """`value` is the secret's text; None where it was not read."""
    tags = tags_of(description.get("Tags"))
    key_id = description.get("KmsKeyId") or ""
    return Existing(
        Key(ResourceKind.SECRET, description["Name"]),
        {
            "description": description.get("Description", ""),
            **account_attributes(value, fingerprints),
            "kmsKeyId": "" if key_id.endswith(DEFAULT_SECRETS_KEY) else key_id,
            "tags": {name: text for name, text in tags.items() if not name.startswith("aws:")},
        },
        arn=description["ARN"],
        marked_by=str(tags.get(MARKER_TAG, "")),
        is_scheduled_for_deletion=description.get("DeletedDate") is not None,
        created_at=seconds_of(description.get("CreatedDate")),
        changed_at=seconds_of(description.get("LastChangedDate")),
        more={"currentVersion": _current_version(description)},
    )


def _current_version(description: Mapping[str, Any]) -> str:
    stages = description.get("VersionIdsToStages") or description.get("SecretVersionsToStages") or {}
    return next((version for version, names in stages.items() if "AWSCURRENT" in names), "")


def account_attributes(value: str | None, fingerprints: Fingerprints) -> dict[str, Json]:
    """`username` and the fingerprint of `accessToken` in a secret's text."""
    if not value or value == UNREADABLE:
        return {"username": "", "accessToken": value or ""}
    account = parse_account(value)
    if account is None:
        return {"username": "", "accessToken": NOT_AN_ACCOUNT}
    return {"username": account[0], "accessToken": fingerprints.of(account[1])}


def parse_account(text: str) -> tuple[str, str] | None:
    """User name and token of a secret as ECR wants it: a JSON object of exactly these two texts."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or set(document) != {"username", "accessToken"}:
        return None
    username, token = document["username"], document["accessToken"]
    return (username, token) if isinstance(username, str) and isinstance(token, str) else None


def tokens_in(text: str) -> set[str]:
    """The parts of a secret's text that no message may hold."""
    account = parse_account(text)
    return {account[1]} if account else {text}
