"""Manifests and tags by repository, for serving and for what upstreams send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, select, update

from pullthrough.errors import ImageArchived
from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import Manifest
from pullthrough.oci.names import Reference, RepositoryName, Tag
from pullthrough.oci.owners import OWN, Owner
from pullthrough.storage.catalog.claims import PULL_THROUGH, RepositoryOwned, claim_repository, is_repository
from pullthrough.storage.catalog.image_rows import (
    delete_images,
    is_immutable,
    remove_empty,
    repositories_of,
    save_image,
    save_tag,
)
from pullthrough.storage.catalog.records import ManifestRecord, TagRecord
from pullthrough.storage.catalog.usage import Usage
from pullthrough.storage.sql.database import Database, Topic, note_change, upsert
from pullthrough.storage.sql.schema import manifests, negatives, repositories, repository_manifests, tags

_BODIES_PER_PAGE = 50

_images = repository_manifests

# The statements of the hot path are built once.
_FIND_TAG = (
    select(
        _images.c.digest,
        _images.c.media_type,
        manifests.c.body,
        tags.c.validated_at,
        tags.c.forced_at,
        tags.c.gone_at,
        repositories.c.tag_mutability,
        repositories.c.mutability_filters,
        repositories.c.owner,
        _images.c.archived_at,
    )
    .select_from(repositories)
    .join(tags, tags.c.repository_id == repositories.c.id)
    .join(_images, _images.c.id == tags.c.image_id)
    .join(manifests, manifests.c.digest == _images.c.digest)
    .where(is_repository, tags.c.name == bindparam("tag"))
)
_FIND_MANIFEST = (
    select(_images.c.media_type, manifests.c.body, repositories.c.owner, _images.c.archived_at)
    .select_from(repositories)
    .join(_images, _images.c.repository_id == repositories.c.id)
    .join(manifests, manifests.c.digest == _images.c.digest)
    .where(is_repository, _images.c.digest == bindparam("digest"))
)


class ManifestRows:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError.

    Content is asked for and stored by a repository's name and its owner: what another one has under the name is not there.
    Where a question takes None for the owner, it is for a name under no rule, and whoever has it will do.
    """

    def __init__(self, database: Database, usage: Usage) -> None:
        self._database = database
        self._usage = usage

    def find_tag(self, repository: RepositoryName, owner: Owner | None, tag: Tag) -> TagRecord | None:
        """Raises ImageArchived where the tag names an archived image."""
        with self._database.reading() as connection:
            row = connection.execute(_FIND_TAG, {"repository": repository, "owner": owner, "tag": tag}).first()
        if row is None:
            return None
        _refuse_archived(row.archived_at, repository, row.digest)
        manifest = ManifestRecord(Digest(row.digest), row.media_type, row.body, row.owner == OWN)
        immutable = row.tag_mutability != "MUTABLE" and is_immutable(
            row.tag_mutability, json.loads(row.mutability_filters), tag
        )
        return TagRecord(tag, manifest, row.validated_at, row.forced_at, row.gone_at, immutable)

    def find_manifest(self, repository: RepositoryName, owner: Owner | None, digest: Digest) -> ManifestRecord | None:
        """None where the manifest was not stored under this repository, though another one may have it.

        Raises ImageArchived where it is archived.
        """
        with self._database.reading() as connection:
            names = {"repository": repository, "owner": owner, "digest": digest}
            row = connection.execute(_FIND_MANIFEST, names).first()
        if row is None:
            return None
        _refuse_archived(row.archived_at, repository, digest)
        return ManifestRecord(digest, row.media_type, row.body, row.owner == OWN)

    def has(self, repository: RepositoryName, owner: Owner | None, reference: Reference) -> bool:
        """Whether it would be found. Raises ImageArchived where it is archived."""
        if isinstance(reference, Digest):
            return self.find_manifest(repository, owner, reference) is not None
        return self.find_tag(repository, owner, reference) is not None

    def save_manifest(
        self,
        repository: RepositoryName,
        owner: Owner,
        digest: Digest,
        body: bytes,
        manifest: Manifest,
        *,
        tag: Tag | None,
        now: float,
    ) -> bool:
        """Store a verified manifest under the repository and point the tag at it, validated now.

        True if the tag is new or named another manifest before; an immutable one goes on naming what it did. What was
        remembered as absent under this tag or digest is forgotten. What another upstream, or account, had left under this
        name is gone then.

        Raises NotKept, and stores nothing, where the registry itself has the name, or where the catalog is full;
        ImageArchived, after that, where the image is in the archive: it stays there.
        """

        def change(connection: Connection) -> tuple[bool, float | None]:
            note_change(connection, Topic.ANSWERS)
            if self._usage.max_content_bytes is not None and not _has_manifest(connection, digest):
                self._usage.refuse_if_full(connection, len(body))
            repository_id = claim_repository(connection, repository, owner, now, PULL_THROUGH, takes_over=True)
            if repository_id is None:
                raise RepositoryOwned(f"{repository} is the registry's own: it was pushed")
            upsert(connection, manifests, [{"digest": digest, "body": body}], key=["digest"], update=["body"])
            image_id = save_image(connection, repository_id, digest, manifest, now)
            archived_at: float | None = connection.execute(
                select(_images.c.archived_at).where(_images.c.id == image_id)
            ).scalar()
            moved = tag is not None and save_tag(connection, repository_id, tag, image_id, now)
            references = [digest, tag] if tag else [digest]
            connection.execute(
                delete(negatives).where(
                    negatives.c.repository == repository,
                    negatives.c.owner == owner,
                    negatives.c.reference.in_(references),
                )
            )
            return moved, archived_at

        moved, archived_at = self._database.write(change)
        _refuse_archived(archived_at, repository, digest)
        return moved

    def validate_tag(self, repository: RepositoryName, owner: Owner, tag: Tag, *, now: float, forced: bool) -> None:
        """The upstream has just confirmed the tag."""
        self._update_tag(repository, owner, tag, {"validated_at": now, "gone_at": None}, now if forced else None)

    def note_forced(self, repository: RepositoryName, owner: Owner, tag: Tag, *, now: float) -> None:
        """The upstream was just asked on demand, and gave no answer."""
        self._update_tag(repository, owner, tag, {}, now)

    def mark_tag_gone(self, repository: RepositoryName, owner: Owner, tag: Tag, *, now: float, forced: bool) -> None:
        """The upstream has just said that it has no such tag; `gone_at` keeps the first such answer."""
        self._update_tag(
            repository,
            owner,
            tag,
            {"validated_at": now, "gone_at": func.coalesce(tags.c.gone_at, now)},
            now if forced else None,
        )

    def remove_tag(self, repository: RepositoryName, owner: Owner, tag: Tag) -> None:
        """The manifest stays, by its digest."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(delete(tags).where(_is_tag(repository, owner, tag)))

        self._database.write(change)

    def _update_tag(
        self, repository: RepositoryName, owner: Owner, tag: Tag, values: dict[str, Any], forced_at: float | None
    ) -> None:
        if forced_at is not None:
            values["forced_at"] = forced_at

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(update(tags).where(_is_tag(repository, owner, tag)).values(values))

        self._database.write(change)

    def tags(
        self, repository: RepositoryName, owner: Owner | None, *, after: str = "", most: int | None = None
    ) -> list[Tag]:
        """The tags that were pulled or pushed, sorted, the first `most` above `after`; not those of archived images, which
        cannot be pulled."""
        query = (
            select(tags.c.name)
            .join(repositories, repositories.c.id == tags.c.repository_id)
            .join(_images, _images.c.id == tags.c.image_id)
            .where(is_repository, _images.c.archived_at.is_(None), tags.c.name > after)
            .order_by(tags.c.name)
            .limit(most)
        )
        with self._database.reading() as connection:
            names = connection.execute(query, {"repository": repository, "owner": owner})
            return [Tag(name) for name in names.scalars()]

    # Check

    def manifest_bodies(self) -> Iterator[tuple[Digest, bytes]]:
        """Every stored manifest once, by digest; read in pages."""
        statement = select(manifests.c.digest, manifests.c.body)
        for row in self._database.read_pages(statement, manifests.c.digest, _BODIES_PER_PAGE):
            yield Digest(row[0]), row[1]

    def forget_manifest(self, digest: Digest, *, now: float) -> None:
        """Take the manifest out of every repository, with the tags that name it; it is fetched again when asked for.

        Its blobs are loose from now on: who pushes it again need not push them.
        """

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            mine = list(connection.execute(select(_images.c.id).where(_images.c.digest == digest)).scalars())
            affected = repositories_of(connection, mine)
            delete_images(connection, mine, now=now)
            connection.execute(delete(manifests).where(manifests.c.digest == digest))
            remove_empty(connection, affected)

        self._database.write(change)

    def dangling(self) -> list[tuple[RepositoryName, Digest]]:
        """Images whose manifest is missing. Foreign keys keep these from arising; a damaged file may hold some."""
        statement = (
            select(repositories.c.name, _images.c.digest)
            .join(repositories, repositories.c.id == _images.c.repository_id)
            .where(~exists().where(manifests.c.digest == _images.c.digest))
        )
        with self._database.reading() as connection:
            return [(RepositoryName(row[0]), Digest(row[1])) for row in connection.execute(statement)]


def _has_manifest(connection: Connection, digest: Digest) -> bool:
    return connection.execute(select(manifests.c.digest).where(manifests.c.digest == digest)).first() is not None


def _refuse_archived(archived_at: float | None, repository: str, digest: str) -> None:
    if archived_at is not None:
        raise ImageArchived(f"{repository}@{digest} is archived: it can be pulled again when it has been restored")


def _is_tag(repository: str, owner: Owner, tag: str) -> Any:
    mine = (repositories.c.name == repository) & (repositories.c.owner == owner)
    of = select(repositories.c.id).where(mine).scalar_subquery()
    return (tags.c.repository_id == of) & (tags.c.name == tag)
