"""Repository creation templates: what repositories of a name are made with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, true

from pullthrough.declaration import ROOT
from pullthrough.storage.schema import creation_templates


@dataclass(frozen=True, slots=True)
class CreationTemplate:
    #: Without a slash at its end, or ROOT.
    prefix: str
    #: The API's RepositoryCreationTemplate without prefix and times; only what was given.
    body: Mapping[str, Any]
    created_at: float
    updated_at: float


def find_template(connection: Connection, name: str, scenario: str) -> CreationTemplate | None:
    """The template for a repository of this name: of those applied for the scenario, the one with the longest prefix.

    `scenario` is PULL_THROUGH_CACHE, CREATE_ON_PUSH or REPLICATION. ROOT stands for all names and comes last.
    """
    prefixes = [*_leading(name), ROOT]
    rows = connection.execute(select(creation_templates).where(creation_templates.c.prefix.in_(prefixes))).all()
    found = {row.prefix: read_template(row) for row in rows}
    for prefix in prefixes:
        if prefix in found and scenario in found[prefix].body["appliedFor"]:
            return found[prefix]
    return None


def _leading(name: str) -> Iterator[str]:
    """For `a/b/c`: `a/b`, `a`. A prefix stands for what is below it, not for the repository of its own name."""
    while name := name.rpartition("/")[0]:
        yield name


def read_template(row: Any) -> CreationTemplate:
    return CreationTemplate(row.prefix, json.loads(row.body), row.created_at, row.updated_at)


def is_under(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Whether a name is below a rule's prefix."""
    if prefix == ROOT:
        return true()
    # "0" comes right after "/".
    return (column > f"{prefix}/") & (column < f"{prefix}0")
