"""Repositories as the ECR API sees them: made, described, set up, tagged and deleted.

Every method is one transaction and may raise StorageError; times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, bindparam, delete, false, insert, or_, select, update

from pullthrough.errors import AlreadyExists, LimitReached, NotEmpty
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import OWN, UNKNOWN, Owner
from pullthrough.storage.database import Database, Topic, note_change, upsert
from pullthrough.storage.deletion import delete_images
from pullthrough.storage.registry import find_template, is_under
from pullthrough.storage.schema import (
    lifecycle_previews,
    listings,
    negatives,
    repositories,
    repository_blobs,
    repository_manifests,
    resource_tags,
)
from pullthrough.storage.sql.parts import PART, in_parts

#: AWS tags of one resource. https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MAX_RESOURCE_TAGS = 50

_images = repository_manifests
_FIND = select(repositories.c.id, repositories.c.owner).where(repositories.c.name == bindparam("repository"))
#: What a repository without a template is made with; the tables' own defaults.
_NO_ENCRYPTION = {"encryptionType": "AES256"}

#: As the API spells it: {"filterType": "WILDCARD", "filter": "latest*"}.
MutabilityFilters = Sequence[Mapping[str, str]]


class NotKept(Exception):
    """What came from an upstream is served, but cannot be stored."""


class RepositoryOwned(NotKept):
    """Something of an upstream's is not stored under this name: clients have pushed to it meanwhile."""


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """A repository and its settings, in the API's own words."""

    id: int
    name: RepositoryName
    created_at: float
    #: MUTABLE, IMMUTABLE, or one of them with _WITH_EXCLUSION.
    tag_mutability: str
    mutability_filters: MutabilityFilters
    encryption: Mapping[str, str]
    scan_on_push: bool
    policy: str | None
    lifecycle_policy: str | None


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """What CreateRepository may say."""

    tag_mutability: str = "MUTABLE"
    mutability_filters: MutabilityFilters = ()
    encryption: Mapping[str, str] | None = None
    scan_on_push: bool = False
    #: AWS's tags, by key.
    tags: Mapping[str, str] | None = None


class Repositories:
    """Safe to use from many threads and processes; not across a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: RepositoryName, settings: RepositorySettings, now: float) -> RepositoryRecord:
        """Raises AlreadyExists, also for one that pulls have made."""

        def change(connection: Connection) -> RepositoryRecord:
            note_change(connection, Topic.ANSWERS)
            if settings.tags:
                note_change(connection, Topic.CONFIGURATION)
            if _find(connection, name) is not None:
                raise AlreadyExists(f"the repository {name} is there already")
            connection.execute(
                insert(repositories).values(
                    name=name,
                    created_at=now,
                    kept=True,
                    tag_mutability=settings.tag_mutability,
                    mutability_filters=_dump(list(settings.mutability_filters)),
                    encryption=_dump(settings.encryption or _NO_ENCRYPTION),
                    scan_on_push=settings.scan_on_push,
                )
            )
            _write_tags(connection, name, settings.tags or {})
            return _require(connection, name)

        return self._database.write(change)

    def find(self, name: RepositoryName) -> RepositoryRecord | None:
        with self._database.reading() as connection:
            return _find(connection, name)

    def find_all(self, names: Iterable[RepositoryName]) -> list[RepositoryRecord]:
        """Those of these that there are, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(repositories).where(repositories.c.name.in_(set(names))).order_by(repositories.c.name)
            )
            return [_record(row) for row in rows]

    def page(self, last: str, limit: int) -> list[RepositoryRecord]:
        """Up to `limit` after the name `last` (empty for the first page), in byte order."""
        statement = select(repositories).where(repositories.c.name > last).order_by(repositories.c.name).limit(limit)
        with self._database.reading() as connection:
            return [_record(row) for row in connection.execute(statement)]

    def delete(self, name: RepositoryName, *, force: bool) -> RepositoryRecord | None:
        """What was deleted: its images, tags, grants and settings with it. None where there is no such repository.

        Raises NotEmpty where it has images and `force` is false. Many images go in several transactions, so that other
        writers need not wait for all of them, the newest first: after a crash it may be there still, with fewer, but no
        pushed index without its images. Blobs that nothing names any more stay for eviction; pins stay as they are, since
        they may be set before there is anything to pin.
        """
        while force and self._delete_some_images(name):
            pass

        def change(connection: Connection) -> RepositoryRecord | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            record = _find(connection, name)
            if record is None:
                return None
            mine = _images.c.repository_id == record.id
            images = connection.execute(select(_images.c.id).where(mine)).scalars().all()
            if images and not force:
                raise NotEmpty(f"the repository {name} still contains images")
            delete_images(connection, images, now=None)  # all that it has goes
            connection.execute(delete(repository_blobs).where(repository_blobs.c.repository_id == record.id))
            for table in (listings, negatives):
                connection.execute(delete(table).where(table.c.repository == name))
            connection.execute(delete(resource_tags).where(resource_tags.c.resource == _resource(name)))
            connection.execute(delete(repositories).where(repositories.c.id == record.id))
            return record

        return self._database.write(change)

    def _delete_some_images(self, name: RepositoryName) -> bool:
        """The newest of those above what one transaction may delete; False where there are not so many."""
        mine = (
            select(_images.c.id)
            .join(repositories)
            .where(repositories.c.name == name)
            .order_by(_images.c.id.desc())
            .limit(2 * PART)
        )
        with self._database.reading() as connection:
            images = connection.execute(mine).scalars().all()
        if len(images) <= PART:
            return False

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS)
            delete_images(connection, images[:PART], now=None)
            return True

        return self._database.write(change)

    # Settings. None where there is no such repository. Who sets something wants it to stay: it is kept from then on.

    def set_mutability(
        self, name: RepositoryName, mutability: str, filters: MutabilityFilters
    ) -> RepositoryRecord | None:
        return self._set(name, tag_mutability=mutability, mutability_filters=_dump(list(filters)))

    def set_scan_on_push(self, name: RepositoryName, scan_on_push: bool) -> RepositoryRecord | None:
        return self._set(name, scan_on_push=scan_on_push)

    def set_policy(self, name: RepositoryName, text: str) -> RepositoryRecord | None:
        return self._set(name, changes_configuration=True, policy=text)

    def take_policy(self, name: RepositoryName) -> RepositoryRecord | None:
        """The repository as it was, its policy with it."""

        def change(connection: Connection) -> RepositoryRecord | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            record = _find(connection, name)
            connection.execute(update(repositories).where(repositories.c.name == name).values(policy=None))
            return record

        return self._database.write(change)

    def _set(
        self, name: RepositoryName, *, changes_configuration: bool = False, **values: Any
    ) -> RepositoryRecord | None:
        def change(connection: Connection) -> RepositoryRecord | None:
            note_change(connection, Topic.ANSWERS)
            if changes_configuration:
                note_change(connection, Topic.CONFIGURATION)
            connection.execute(update(repositories).where(repositories.c.name == name).values(kept=True, **values))
            return _find(connection, name)

        return self._database.write(change)

    def policies(self) -> dict[RepositoryName, str]:
        """The repository policies there are."""
        statement = select(repositories.c.name, repositories.c.policy).where(repositories.c.policy.is_not(None))
        with self._database.reading() as connection:
            return {RepositoryName(row.name): row.policy for row in connection.execute(statement)}

    # Whose they are

    def own_names(self, prefixes: Collection[str]) -> list[RepositoryName]:
        """The registry's own repositories under any of the prefixes, sorted."""
        is_wanted = or_(false(), *(is_under(repositories.c.name, prefix) for prefix in prefixes))
        statement = select(repositories.c.name).where(repositories.c.owner == OWN, is_wanted)
        with self._database.reading() as connection:
            return sorted(RepositoryName(name) for name in connection.execute(statement).scalars())

    def unknown_names(self) -> list[RepositoryName]:
        """Names under which something is stored of which nobody wrote down whose it is."""
        with self._database.reading() as connection:
            found = {
                RepositoryName(name)
                for column, owner in (
                    (repositories.c.name, repositories.c.owner),
                    (listings.c.repository, listings.c.owner),
                )
                for name in connection.execute(select(column).where(owner == UNKNOWN)).scalars()
            }
        return sorted(found)

    def settle_owners(self, owners: Mapping[RepositoryName, Owner]) -> None:
        """Whose is what nobody knew of."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            for name, owner in owners.items():
                for table, column in ((repositories, repositories.c.name), (listings, listings.c.repository)):
                    connection.execute(
                        update(table).where(column == name, table.c.owner == UNKNOWN).values(owner=owner)
                    )

        self._database.write(change)

    # AWS's tags. Policies may ask for them, so that all workers learn of each change.

    def all_tags(self) -> dict[RepositoryName, dict[str, str]]:
        """Of the repositories that have any."""
        prefix = _resource("")
        # "0" comes right after "/".
        mine = (resource_tags.c.resource > prefix) & (resource_tags.c.resource < f"{prefix[:-1]}0")
        statement = select(resource_tags.c.resource, resource_tags.c.key, resource_tags.c.value).where(mine)
        tags: dict[RepositoryName, dict[str, str]] = {}
        with self._database.reading() as connection:
            for resource, key, value in connection.execute(statement):
                tags.setdefault(RepositoryName(resource.removeprefix(prefix)), {})[key] = value
        return tags

    def tags(self, name: RepositoryName) -> dict[str, str] | None:
        """By key, sorted; None where there is no such repository."""
        with self._database.reading() as connection:
            if _find(connection, name) is None:
                return None
            return _read_tags(connection, name)

    def tag(self, name: RepositoryName, added: Mapping[str, str]) -> bool:
        """False where there is no such repository. Raises LimitReached where it had more tags than it may then."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.CONFIGURATION)
            if _find(connection, name) is None:
                return False
            if len(_read_tags(connection, name).keys() | added.keys()) > MAX_RESOURCE_TAGS:
                raise LimitReached(f"a repository may have no more than {MAX_RESOURCE_TAGS} tags")
            _write_tags(connection, name, added)
            connection.execute(update(repositories).where(repositories.c.name == name).values(kept=True))
            return True

        return self._database.write(change)

    def untag(self, name: RepositoryName, keys: Collection[str]) -> bool:
        """False where there is no such repository; keys that it does not have are no error."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.CONFIGURATION)
            if _find(connection, name) is None:
                return False
            for part in in_parts(keys):
                mine = (resource_tags.c.resource == _resource(name)) & resource_tags.c.key.in_(part)
                connection.execute(delete(resource_tags).where(mine))
            return True

        return self._database.write(change)


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
    where nobody has it. To be called within `Database.writing`.

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
            "mutability_filters": _dump(body.get("imageTagMutabilityExclusionFilters", [])),
            "encryption": _dump(body.get("encryptionConfiguration", _NO_ENCRYPTION)),
            # An empty text, as the API allows it, is none.
            "policy": body.get("repositoryPolicy") or None,
            "lifecycle_policy": body.get("lifecyclePolicy") or None,
        }
        tags = {tag["Key"]: tag["Value"] for tag in body.get("resourceTags", [])}
        _write_tags(connection, name, tags)
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


def is_immutable(mutability: str, filters: MutabilityFilters, tag: str) -> bool:
    """Whether a tag, once set, may not come to name another image.

    The filters exempt tags: from being immutable, or, for MUTABLE_WITH_EXCLUSION, from being mutable.
    """
    exempt = any(_matches(tag, entry["filter"]) for entry in filters)
    match mutability:
        case "IMMUTABLE":
            return True
        case "IMMUTABLE_WITH_EXCLUSION":
            return not exempt
        case "MUTABLE_WITH_EXCLUSION":
            return exempt
    return False


def may_move_tag(connection: Connection, repository_id: int, tag: str) -> bool:
    """Whether this repository lets the tag, if it is set, come to name another image."""
    row = connection.execute(
        select(repositories.c.tag_mutability, repositories.c.mutability_filters).where(
            repositories.c.id == repository_id
        )
    ).one()
    return row.tag_mutability == "MUTABLE" or not is_immutable(
        row.tag_mutability, json.loads(row.mutability_filters), tag
    )


def _matches(tag: str, pattern: str) -> bool:
    # `*` is the only wildcard of the API's grammar, which has neither `?` nor `[`.
    return fnmatchcase(tag, pattern)


def _find(connection: Connection, name: str) -> RepositoryRecord | None:
    row = connection.execute(select(repositories).where(repositories.c.name == name)).first()
    return None if row is None else _record(row)


def _require(connection: Connection, name: str) -> RepositoryRecord:
    return _record(connection.execute(select(repositories).where(repositories.c.name == name)).one())


def _record(row: Any) -> RepositoryRecord:
    return RepositoryRecord(
        id=row.id,
        name=RepositoryName(row.name),
        created_at=row.created_at,
        tag_mutability=row.tag_mutability,
        mutability_filters=tuple(json.loads(row.mutability_filters)),
        encryption=json.loads(row.encryption),
        scan_on_push=row.scan_on_push,
        policy=row.policy,
        lifecycle_policy=row.lifecycle_policy,
    )


def _resource(name: str) -> str:
    return f"repository/{name}"


def _read_tags(connection: Connection, name: str) -> dict[str, str]:
    statement = (
        select(resource_tags.c.key, resource_tags.c.value)
        .where(resource_tags.c.resource == _resource(name))
        .order_by(resource_tags.c.key)
    )
    return {row.key: row.value for row in connection.execute(statement)}


def _write_tags(connection: Connection, name: str, added: Mapping[str, str]) -> None:
    rows = [{"resource": _resource(name), "key": key, "value": value} for key, value in added.items()]
    upsert(connection, resource_tags, rows, key=["resource", "key"], update=["value"])


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
