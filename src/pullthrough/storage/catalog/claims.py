"""Whose a repository is: claimed by whoever stores something in it first, and made by that."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, String, and_, bindparam, delete, insert, or_, select, update

from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import OWN, Owner
from pullthrough.storage.catalog.image_rows import delete_images
from pullthrough.storage.catalog.templates import find_template
from pullthrough.storage.sql.database import Topic, note_change
from pullthrough.storage.sql.resource_tags import repository_resource, write_tags
from pullthrough.storage.sql.schema import (
    lifecycle_previews,
    listings,
    negatives,
    repositories,
    repository_blobs,
    repository_manifests,
)

#: Why a repository is made: the scenarios of creation templates.
PULL_THROUGH = "PULL_THROUGH_CACHE"
CREATE_ON_PUSH = "CREATE_ON_PUSH"
#: What a repository without a template is made with; the tables' own defaults.
NO_ENCRYPTION = {"encryptionType": "AES256"}

#: A repository as an owner sees it. With `owner` NULL whoever has it: of names under no rule, which nobody else can claim.
is_repository = and_(
    repositories.c.name == bindparam("repository"),
    or_(bindparam("owner", type_=String).is_(None), repositories.c.owner == bindparam("owner")),
)
FIND_REPOSITORY = select(repositories.c.id, repositories.c.owner).where(is_repository)

_images = repository_manifests
_FIND = select(repositories.c.id, repositories.c.owner).where(repositories.c.name == bindparam("repository"))


class NotKept(Exception):
    """What came from an upstream is served, but cannot be stored."""


class RepositoryOwned(NotKept):
    """Something of an upstream's is not stored under this name: clients have pushed to it meanwhile."""


def find_repository_id(connection: Connection, repository: RepositoryName, owner: Owner) -> int | None:
    found: int | None = connection.execute(FIND_REPOSITORY, {"repository": repository, "owner": owner}).scalar()
    return found


def claim_repository(
    connection: Connection,
    name: str,
    owner: Owner,
    now: float,
    scenario: str,
    *,
    takes_over: bool = False,
) -> int | None:
    """The id of the repository, to store something of this owner in it; made where it is missing, and given to the owner
    where nobody has it. To be called within `Database.write`.

    Where somebody else has it: None, unless it `takes_over` what an upstream left, which is gone then. What was pushed
    is never taken over.

    `scenario` is why it is made, PULL_THROUGH_CACHE or CREATE_ON_PUSH: the creation template for it, if there is one,
    says how.
    """
    row = connection.execute(_FIND, {"repository": name}).first()
    if row is None:
        return _make_repository(connection, name, owner, now, scenario)
    if row.owner == owner:
        return int(row.id)
    if row.owner is not None:
        if not takes_over or row.owner == OWN:
            return None
        _empty(connection, row.id, name)
    connection.execute(update(repositories).where(repositories.c.id == row.id).values(owner=owner))
    if owner == OWN:
        note_change(connection, Topic.CONFIGURATION)  # a rule may cover it
    return int(row.id)


def _make_repository(connection: Connection, name: str, owner: Owner, now: float, scenario: str) -> int:
    values: dict[str, Any] = {"name": name, "created_at": now, "owner": owner}
    template = find_template(connection, name, scenario)
    tags: dict[str, str] = {}
    if template is not None:
        body = template.body
        values |= {
            # Its settings would be lost with it, and a template may have changed since.
            "kept": True,
            "tag_mutability": body.get("imageTagMutability", "MUTABLE"),
            "mutability_filters": dump_json(body.get("imageTagMutabilityExclusionFilters", [])),
            "encryption": dump_json(body.get("encryptionConfiguration", NO_ENCRYPTION)),
            # An empty text, as the API allows it, is none.
            "policy": body.get("repositoryPolicy") or None,
            "lifecycle_policy": body.get("lifecyclePolicy") or None,
        }
        tags = {tag["Key"]: tag["Value"] for tag in body.get("resourceTags", [])}
        write_tags(connection, repository_resource(name), tags)
    if owner == OWN or values.get("policy") or tags:
        note_change(connection, Topic.CONFIGURATION)
    connection.execute(insert(repositories).values(**values))
    return int(connection.execute(_FIND, {"repository": name}).one().id)


def _empty(connection: Connection, repository_id: int, name: str) -> None:
    """What its last owner left goes; the repository's settings stay, and blobs stay for eviction."""
    images = connection.execute(select(_images.c.id).where(_images.c.repository_id == repository_id)).scalars().all()
    delete_images(connection, images, now=None)
    connection.execute(delete(repository_blobs).where(repository_blobs.c.repository_id == repository_id))
    for table in (listings, negatives):
        connection.execute(delete(table).where(table.c.repository == name))
    connection.execute(delete(lifecycle_previews).where(lifecycle_previews.c.repository_id == repository_id))


def dump_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
