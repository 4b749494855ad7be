"""AWS's tags of a resource, by key: of repositories and of secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, Connection, delete, select

from pullthrough.storage.sql.database import upsert
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import resource_tags

#: Of one repository. https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MAX_RESOURCE_TAGS = 50


def repository_resource(name: str) -> str:
    return f"repository/{name}"


def is_resource(resource: str) -> ColumnElement[bool]:
    return resource_tags.c.resource == resource


def read_tags(connection: Connection, resource: str) -> dict[str, str]:
    """Sorted by key."""
    statement = (
        select(resource_tags.c.key, resource_tags.c.value).where(is_resource(resource)).order_by(resource_tags.c.key)
    )
    return {row.key: row.value for row in connection.execute(statement)}


def write_tags(connection: Connection, resource: str, added: Mapping[str, str]) -> None:
    rows = [{"resource": resource, "key": key, "value": value} for key, value in added.items()]
    upsert(connection, resource_tags, rows, key=["resource", "key"], update=["value"])


def remove_tags(connection: Connection, resource: str, keys: Collection[str]) -> None:
    for part in in_parts(keys):
        connection.execute(delete(resource_tags).where(is_resource(resource), resource_tags.c.key.in_(part)))
