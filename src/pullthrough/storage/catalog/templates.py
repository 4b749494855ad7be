"""Repository creation templates: what repositories of a name are made with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, true, update

from pullthrough.declaration import ROOT
from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.limits import refuse_another
from pullthrough.storage.sql.schema import creation_templates

#: Not documented by AWS.
MAX_TEMPLATES = 1_000


@dataclass(frozen=True, slots=True)
class CreationTemplate:
    #: Without a slash at its end, or ROOT.
    prefix: str
    #: The API's RepositoryCreationTemplate without prefix and times; only what was given.
    body: Mapping[str, Any]
    created_at: float
    updated_at: float


class CreationTemplates:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[CreationTemplate]:
        """All of them, by prefix."""
        with self._database.reading() as connection:
            rows = connection.execute(select(creation_templates).order_by(creation_templates.c.prefix)).all()
        return [_template(row) for row in rows]

    def create(self, template: CreationTemplate) -> None:
        """Raises AlreadyExists or LimitReached."""

        def change(connection: Connection) -> None:
            refuse_another(connection, creation_templates, template.prefix, MAX_TEMPLATES, "creation templates")
            values = asdict(template) | {"body": json.dumps(template.body)}
            connection.execute(insert(creation_templates).values(**values))

        self._database.write(change)

    def update(
        self, prefix: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]], now: float
    ) -> CreationTemplate | None:
        """`change` makes the new body of the old one, and what it raises leaves that. None if there is no such one."""
        is_template = creation_templates.c.prefix == prefix

        def write(connection: Connection) -> CreationTemplate | None:
            row = connection.execute(select(creation_templates).where(is_template)).first()
            if row is None:
                return None
            before = _template(row)
            body = change(before.body)
            connection.execute(
                update(creation_templates).where(is_template).values(body=json.dumps(body), updated_at=now)
            )
            return replace(before, body=body, updated_at=now)

        return self._database.write(write)

    def delete(self, prefix: str) -> CreationTemplate | None:
        """What was deleted; None where there is no such template."""
        is_template = creation_templates.c.prefix == prefix

        def change(connection: Connection) -> CreationTemplate | None:
            row = connection.execute(select(creation_templates).where(is_template)).first()
            connection.execute(delete(creation_templates).where(is_template))
            return None if row is None else _template(row)

        return self._database.write(change)


def find_template(connection: Connection, name: str, scenario: str) -> CreationTemplate | None:
    """The template for a repository of this name: of those applied for the scenario, the one with the longest prefix.

    `scenario` is PULL_THROUGH_CACHE, CREATE_ON_PUSH or REPLICATION. ROOT stands for all names and comes last.
    """
    prefixes = [*_leading(name), ROOT]
    rows = connection.execute(select(creation_templates).where(creation_templates.c.prefix.in_(prefixes))).all()
    found = {row.prefix: _template(row) for row in rows}
    for prefix in prefixes:
        if prefix in found and scenario in found[prefix].body["appliedFor"]:
            return found[prefix]
    return None


def _leading(name: str) -> Iterator[str]:
    """For `a/b/c`: `a/b`, `a`. A prefix stands for what is below it, not for the repository of its own name."""
    while name := name.rpartition("/")[0]:
        yield name


def _template(row: Any) -> CreationTemplate:
    return CreationTemplate(row.prefix, json.loads(row.body), row.created_at, row.updated_at)


def is_under(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Whether a name is below a rule's prefix."""
    if prefix == ROOT:
        return true()
    # "0" comes right after "/".
    return (column > f"{prefix}/") & (column < f"{prefix}0")
