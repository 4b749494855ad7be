"""Secrets Manager: values, their versions and staging labels, and random passwords."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pullthrough.errors import PullthroughError
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.secrets.lists import SecretListHandlers
from pullthrough.faces.ecr.secrets.secret_handlers import read_token, read_value
from pullthrough.faces.ecr.secrets.secret_ids import KnownSecrets, batch_error, invalid
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.storage.secrets.secret_rows import SecretRecord
from pullthrough.storage.secrets.secrets import Secrets, VersionValue
from pullthrough.threads import Runner

_DEFAULT_LENGTH = 32
_BATCH = 20


@dataclass(frozen=True, slots=True)
class SecretValueHandlers:
    run: Runner
    secrets: Secrets
    known: KnownSecrets
    lists: SecretListHandlers
    rights: Rights

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetSecretValue": self.get_secret_value,
            "BatchGetSecretValue": self.batch_get_secret_value,
            "PutSecretValue": self.put_secret_value,
            "ListSecretVersionIds": self.list_secret_version_ids,
            "UpdateSecretVersionStage": self.update_secret_version_stage,
            "GetRandomPassword": self.get_random_password,
        }

    async def get_secret_value(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "GetSecretValue", input["SecretId"])
        found = await self.run(
            self.secrets.read,
            record.arn,
            version_id=input.get("VersionId", ""),
            stage=input.get("VersionStage", ""),
        )
        return _value(record, found)

    async def batch_get_secret_value(self, call: Call, input: Input) -> Output:
        """By ids all at once, by filters in pages. A secret whose value cannot be had is an error beside the other values."""
        if ("SecretIdList" in input) == ("Filters" in input):
            raise invalid("Either 'SecretIdList' or 'Filters' must be provided, but not both.")
        following: str | None = None
        if "SecretIdList" in input:
            if "MaxResults" in input or "NextToken" in input:
                raise invalid("'MaxResults' and 'NextToken' go with 'Filters' only.")
            secret_ids = list(dict.fromkeys(input["SecretIdList"]))
        else:
            self.rights.check_secret(call, "ListSecrets", "*")
            page, following = await self.lists.listed(call, "BatchGetSecretValue", input, default=_BATCH)
            secret_ids = [record.arn for record in page]
        values, errors = [], []
        for secret_id in secret_ids:
            try:
                record = await self.known.find(call, "GetSecretValue", secret_id)
                values.append(_value(record, await self.run(self.secrets.read, record.arn)))
            except PullthroughError as error:
                entry = batch_error(secret_id, error)
                if entry is None:
                    raise
                errors.append(entry)
        return {"SecretValues": values, "Errors": errors, "NextToken": following}

    async def put_secret_value(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "PutSecretValue", input["SecretId"])
        token, value = read_token(input), read_value(input)
        if value is None:
            raise invalid("You must provide either SecretString or SecretBinary.")
        stages = await self.run(
            self.secrets.put_value, record.arn, token=token, value=value, stages=input.get("VersionStages", ())
        )
        return {"ARN": record.arn, "Name": record.name, "VersionId": token, "VersionStages": list(stages)}

    async def list_secret_version_ids(self, call: Call, input: Input) -> Output:
        """The oldest first."""
        request = page_request(
            "ListSecretVersionIds",
            input,
            (float, str),
            code="InvalidNextTokenException",
            names=("MaxResults", "NextToken"),
        )
        record = await self.known.find(call, "ListSecretVersionIds", input["SecretId"])
        versions = [
            version
            for version in record.versions
            if (version.stages or input.get("IncludeDeprecated", False))
            and (request.after is None or (version.created_at, version.version_id) > request.after)
        ]
        page, following = request.cut(versions, lambda version: (version.created_at, version.version_id))
        return {
            "ARN": record.arn,
            "Name": record.name,
            "Versions": [
                {
                    "VersionId": version.version_id,
                    "VersionStages": list(version.stages) or None,
                    "LastAccessedDate": version.accessed_at,
                    "CreatedDate": version.created_at,
                }
                for version in page
            ],
            "NextToken": following,
        }

    async def update_secret_version_stage(self, call: Call, input: Input) -> Output:
        record = await self.known.find(call, "UpdateSecretVersionStage", input["SecretId"])
        remove_from, move_to = input.get("RemoveFromVersionId", ""), input.get("MoveToVersionId", "")
        if not remove_from and not move_to:
            raise invalid("You must provide RemoveFromVersionId, MoveToVersionId, or both.")
        await self.run(
            self.secrets.move_stage, record.arn, input["VersionStage"], remove_from=remove_from, move_to=move_to
        )
        return {"ARN": record.arn, "Name": record.name}

    async def get_random_password(self, call: Call, input: Input) -> Output:
        excluded = input.get("ExcludeCharacters", "")
        kinds = ["".join(character for character in kind if character not in excluded) for kind in _kinds(input)]
        kinds = [kind for kind in kinds if kind]
        length: int = input.get("PasswordLength", _DEFAULT_LENGTH)
        if not kinds:
            raise invalid("The password can't be made: every character is excluded.")
        characters = "".join(kinds)
        chosen: list[str] = []
        if input.get("RequireEachIncludedType", True):
            if length < len(kinds):
                raise invalid(f"The password length {length} is too short to include each of the {len(kinds)} types.")
            chosen = [secrets.choice(kind) for kind in kinds]
        chosen += [secrets.choice(characters) for _ in range(length - len(chosen))]
        secrets.SystemRandom().shuffle(chosen)
        return {"RandomPassword": "".join(chosen)}


def _kinds(input: Input) -> Iterator[str]:
    for member, kind in (
        ("ExcludeLowercase", string.ascii_lowercase),
        ("ExcludeUppercase", string.ascii_uppercase),
        ("ExcludeNumbers", string.digits),
        ("ExcludePunctuation", string.punctuation),
    ):
        if not input.get(member, False):
            yield kind
    if input.get("IncludeSpace", False):
        yield " "


def _value(record: SecretRecord, found: VersionValue) -> Output:
    value = found.value
    return {
        "ARN": record.arn,
        "Name": record.name,
        "VersionId": found.version.version_id,
        "SecretBinary": value.content if value.is_binary else None,
        "SecretString": None if value.is_binary else value.content.decode(),
        "VersionStages": list(found.version.stages) or None,
        "CreatedDate": found.version.created_at,
    }
