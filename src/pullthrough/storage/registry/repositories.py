"""Repositories as the ECR API sees them: made, described, set up, tagged and deleted.

Every method is one transaction and may raise StorageError; times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, false, func, insert, or_, select, update

from pullthrough.errors import AlreadyExists, LimitReached, NotEmpty
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import OWN, UNKNOWN, Owner
from pullthrough.storage.catalog.claims import FIND_REPOSITORY, NO_ENCRYPTION, dump_json
from pullthrough.storage.catalog.image_rows import MutabilityFilters, delete_images
from pullthrough.storage.catalog.templates import is_under
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.parts import PART
from pullthrough.storage.sql.resource_tags import (
    MAX_RESOURCE_TAGS,
    is_resource,
    read_tags,
    remove_tags,
    repository_resource,
    write_tags,
)
from pullthrough.storage.sql.schema import (
    listings,
    negatives,
    repositories,
    repository_blobs,
    repository_manifests,
    resource_tags,
)

_images = repository_manifests


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
                    mutability_filters=dump_json(list(settings.mutability_filters)),
                    encryption=dump_json(settings.encryption or NO_ENCRYPTION),
                    scan_on_push=settings.scan_on_push,
                )
            )
            write_tags(connection, repository_resource(name), settings.tags or {})
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

    def names(self, last: str, limit: int) -> list[RepositoryName]:
        """The names of `page`."""
        statement = (
            select(repositories.c.name).where(repositories.c.name > last).order_by(repositories.c.name).limit(limit)
        )
        with self._database.reading() as connection:
            return [RepositoryName(name) for name in connection.execute(statement).scalars()]

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
            connection.execute(delete(resource_tags).where(is_resource(repository_resource(name))))
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
        return self._set(name, tag_mutability=mutability, mutability_filters=dump_json(list(filters)))

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

    def is_there(self, name: RepositoryName, owner: Owner | None) -> bool:
        """Whether anything of this owner's was ever stored under this name and is not all evicted."""
        with self._database.reading() as connection:
            return connection.execute(FIND_REPOSITORY, {"repository": name, "owner": owner}).first() is not None

    def find_owner(self, name: RepositoryName) -> str | None:
        """Whose the repository is: empty for nobody's yet; None where there is none."""
        statement = select(func.coalesce(repositories.c.owner, "")).where(repositories.c.name == name)
        with self._database.reading() as connection:
            owner: str | None = connection.execute(statement).scalar()
        return owner

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
        prefix = repository_resource("")
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
            return read_tags(connection, repository_resource(name))

    def tag(self, name: RepositoryName, added: Mapping[str, str]) -> bool:
        """False where there is no such repository. Raises LimitReached where it had more tags than it may then."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.CONFIGURATION)
            if _find(connection, name) is None:
                return False
            if len(read_tags(connection, repository_resource(name)).keys() | added.keys()) > MAX_RESOURCE_TAGS:
                raise LimitReached(f"a repository may have no more than {MAX_RESOURCE_TAGS} tags")
            write_tags(connection, repository_resource(name), added)
            connection.execute(update(repositories).where(repositories.c.name == name).values(kept=True))
            return True

        return self._database.write(change)

    def untag(self, name: RepositoryName, keys: Collection[str]) -> bool:
        """False where there is no such repository; keys that it does not have are no error."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.CONFIGURATION)
            if _find(connection, name) is None:
                return False
            remove_tags(connection, repository_resource(name), keys)
            return True

        return self._database.write(change)


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
