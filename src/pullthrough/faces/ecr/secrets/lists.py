"""Secrets Manager: lists of secrets, filtered, sorted and in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.secrets.secret_handlers import describe
from pullthrough.faces.ecr.secrets.secret_ids import invalid
from pullthrough.faces.ecr.wire.paging import Key, page_request
from pullthrough.storage.secrets.secret_rows import SecretRecord
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Runner

_BY_NAME = "name"


@dataclass(frozen=True, slots=True)
class SecretListHandlers:
    run: Runner
    secrets: Secrets

    def handlers(self) -> Mapping[str, Handler]:
        return {"ListSecrets": self.list_secrets}

    async def list_secrets(self, call: Call, input: Input) -> Output:
        page, following = await self.listed(call, "ListSecrets", input)
        return {"SecretList": [_entry(record) for record in page], "NextToken": following}

    async def listed(
        self, call: Call, operation: str, input: Input, *, default: int = 100
    ) -> tuple[Sequence[SecretRecord], str | None]:
        """The page that the input asks for, and the next one's token."""
        by, descends = input.get("SortBy", "created-date"), input.get("SortOrder", "asc") == "desc"
        request = page_request(
            # A token goes on in the order that it was made in.
            f"{operation} by {by}{' desc' if descends else ''}",
            input,
            (str, str) if by == _BY_NAME else (float, str),
            default=default,
            code="InvalidNextTokenException",
            names=("MaxResults", "NextToken"),
        )
        found = [
            record
            for record in await self.run(self.secrets.all)
            if (record.deleted_at is None or input.get("IncludePlannedDeletion", False))
            and all(_passes(record, one, call.registry.region) for one in input.get("Filters", []))
        ]
        found.sort(key=lambda record: _key(record, by), reverse=descends)
        if request.after is not None:
            after = request.after
            found = [record for record in found if (_key(record, by) < after if descends else _key(record, by) > after)]
        return request.cut(found, lambda record: _key(record, by))


def _entry(record: SecretRecord) -> Output:
    stages = {version.version_id: list(version.stages) for version in record.versions if version.stages}
    return describe(record) | {"DeletedDate": record.deleted_at, "SecretVersionsToStages": stages or None}


def _key(record: SecretRecord, by: str) -> Key:
    if by == _BY_NAME:
        return record.name, record.name
    times = {
        "created-date": record.created_at,
        "last-changed-date": record.changed_at,
        "last-accessed-date": record.accessed_at or 0.0,
    }
    return times[by], record.name


def _passes(record: SecretRecord, given: Mapping[str, Any], region: str) -> bool:
    """Any of the values that stand without `!`, and none of those with it."""
    if "Key" not in given or "Values" not in given:
        raise invalid("A filter needs a Key and Values.")
    wanted = [value for value in given["Values"] if not value.startswith("!")]
    unwanted = [value[1:] for value in given["Values"] if value.startswith("!")]
    if any(_has(record, given["Key"], value, region) for value in unwanted):
        return False
    return not wanted or any(_has(record, given["Key"], value, region) for value in wanted)


def _has(record: SecretRecord, key: str, value: str, region: str) -> bool:
    """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_Filter.html"""
    match key:
        case "name":
            return record.name.startswith(value)
        case "description":
            return (record.description or "").casefold().startswith(value.casefold())
        case "tag-key":
            return any(name.startswith(value) for name in record.tags)
        case "tag-value":
            return any(text.startswith(value) for text in record.tags.values())
        case "primary-region":
            return region.startswith(value)
        case "owning-service":
            return False  # no AWS service has secrets here
    attributes = [record.name, record.description or "", *record.tags, *record.tags.values()]
    return all(any(word in text.casefold() for text in attributes) for word in value.casefold().split())
