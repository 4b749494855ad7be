"""Images as the ECR API sees them: described and listed in pages, looked up, archived, deleted.

A page costs the same wherever it begins: its key is the digest, which the index of a repository's images is sorted by.
A method is one transaction, and raises RepositoryUnknown where there is no such repository; times are seconds since the
epoch. Where a question takes an owner, what another one has left under the name is not there; None takes whoever has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.image_rows import delete_images
from pullthrough.storage.catalog.records import Failure, ImageDetail, ImageId, ImageState
from pullthrough.storage.registry.image_queries import (
    DETAILS,
    HAS_TAG,
    are_unchanged,
    describe_images,
    find_again,
    find_dependents,
    find_images,
    find_parents,
    image_states,
    require_repository,
    require_repository_of,
)
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import blobs, manifest_blobs, repository_blobs, repository_manifests, tags

_images = repository_manifests


@dataclass(frozen=True, slots=True)
class Filter:
    """Which images are wanted. None: whether or not."""

    tagged: bool | None = None
    archived: bool | None = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of one wish to delete. Without a failure, `removed` are the names that went: each tag, or the digest;
    and `image` what they named."""

    wanted: ImageId
    failure: Failure | None = None
    #: The indexes that the image belongs to, for REFERENCED.
    indexes: tuple[str, ...] = ()
    removed: tuple[ImageId, ...] = ()
    image: ImageDetail | None = None


@dataclass(frozen=True, slots=True)
class LayerState:
    """A blob as seen from a repository."""

    digest: Digest
    size_bytes: int
    media_type: str
    #: Whether an image of the repository names it, and whether every image that does is archived.
    named: bool
    archived: bool
    #: Whether a repository's right to read it was recorded: it was filled or pushed there.
    granted: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Images that go together, or not at all."""

    expired: tuple[ImageState, ...] = ()
    archived: tuple[ImageState, ...] = ()


class Images:
    """Safe to use from many threads and processes; not across a fork. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Pages

    def page(
        self, repository: RepositoryName, wanted: Filter, *, after: str, limit: int, owner: Owner | None = None
    ) -> list[ImageDetail]:
        """Up to `limit` images whose digest is greater than `after` (empty for the first page), by digest."""
        with self._database.reading() as connection:
            repository_id = require_repository_of(connection, repository, owner)
            rows = connection.execute(
                DETAILS.where(_images.c.repository_id == repository_id, _images.c.digest > after, *_conditions(wanted))
                .order_by(_images.c.digest)
                .limit(limit)
            ).all()
            return describe_images(connection, rows)

    def names_page(
        self,
        repository: RepositoryName,
        wanted: Filter,
        *,
        after: tuple[str, str],
        limit: int,
        owner: Owner | None = None,
    ) -> list[tuple[Digest, Tag | None]]:
        """Digest and tag, once for each tag, and once for an image without; by both, those greater than `after`."""
        digest, tag = after
        later = or_(_images.c.digest > digest, tags.c.name > tag)
        with self._database.reading() as connection:
            repository_id = require_repository_of(connection, repository, owner)
            rows = connection.execute(
                select(_images.c.digest, tags.c.name)
                .outerjoin(tags, tags.c.image_id == _images.c.id)
                .where(
                    _images.c.repository_id == repository_id, _images.c.digest >= digest, later, *_conditions(wanted)
                )
                .order_by(_images.c.digest, tags.c.name)
                .limit(limit)
            )
            return [(Digest(row.digest), None if row.name is None else Tag(row.name)) for row in rows]

    # By name

    def find(
        self, repository: RepositoryName, wanted: Sequence[ImageId], *, owner: Owner | None = None
    ) -> list[ImageDetail | Failure]:
        """Each of the wanted images, in their order, or why there is none."""
        with self._database.reading() as connection:
            repository_id = require_repository_of(connection, repository, owner)
            return find_images(connection, repository_id, wanted)

    def layers(
        self, repository: RepositoryName, owner: Owner | None, digests: Sequence[Digest]
    ) -> dict[Digest, LayerState]:
        """What the repository knows of these blobs; those of which it knows nothing are left out."""
        found: dict[Digest, LayerState] = {}
        with self._database.reading() as connection:
            repository_id = require_repository_of(connection, repository, owner)
            for part in in_parts(digests):
                granted = {
                    row.digest: row.size_bytes
                    for row in connection.execute(
                        select(blobs.c.digest, blobs.c.size_bytes)
                        .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
                        .where(repository_blobs.c.repository_id == repository_id, repository_blobs.c.digest.in_(part))
                    )
                }
                naming = connection.execute(
                    select(
                        manifest_blobs.c.blob_digest,
                        func.max(manifest_blobs.c.size_bytes).label("size_bytes"),
                        func.max(manifest_blobs.c.media_type).label("media_type"),
                        func.min(_images.c.archived_at.is_not(None)).label("archived"),
                    )
                    .join(_images, _images.c.id == manifest_blobs.c.image_id)
                    .where(manifest_blobs.c.blob_digest.in_(part), manifest_blobs.c.repository_id == repository_id)
                    .group_by(manifest_blobs.c.blob_digest)
                )
                for row in naming:
                    digest = Digest(row.blob_digest)
                    found[digest] = LayerState(
                        digest, row.size_bytes, row.media_type, True, bool(row.archived), digest in granted
                    )
                for digest in part:
                    if digest in granted and digest not in found:
                        found[digest] = LayerState(digest, granted[digest], "", False, False, True)
        return found

    # Lifecycle

    def states(self, repository: RepositoryName) -> list[ImageState]:
        """All images of the repository."""
        with self._database.reading() as connection:
            repository_id = require_repository(connection, repository)
            return image_states(connection, repository_id)

    # Changes

    def delete(
        self, repository: RepositoryName, wanted: Sequence[ImageId], *, now: float, owner: Owner | None = None
    ) -> list[Deletion]:
        """What became of each wish, in their order.

        By digest an image goes with all its tags; by tag the tag goes, and the image if that was its last one and no
        index has it as a child. By digest the child of an index stays, unless the index is among the wanted.
        """

        def change(connection: Connection) -> list[Deletion]:
            note_change(connection, Topic.ANSWERS)
            done: dict[int, Deletion] = {}
            repository_id = require_repository_of(connection, repository, owner)
            # An index goes before its children, in whatever order they are named.
            refused = -1
            while len(done) < len(wanted) and refused != len(wanted) - len(done):
                refused = len(wanted) - len(done)
                for position, image_id in enumerate(wanted):
                    if position not in done:
                        deletion = _delete(connection, repository_id, image_id, now)
                        if deletion.failure is not Failure.REFERENCED:
                            done[position] = deletion
            for position, image_id in enumerate(wanted):
                if position not in done:
                    done[position] = _delete(connection, repository_id, image_id, now)
            return [done[position] for position in range(len(wanted))]

        return self._database.write(change)

    def archive(
        self, repository: RepositoryName, wanted: ImageId, *, now: float, owner: Owner | None = None
    ) -> ImageDetail | Failure:
        """Archive an image, with its referrers, and those of its children that have no tag and no other active index.

        REFERENCED where it is itself the child of an active index.
        """

        def change(connection: Connection) -> ImageDetail | Failure:
            note_change(connection, Topic.ANSWERS)
            repository_id = require_repository_of(connection, repository, owner)
            (found,) = find_images(connection, repository_id, [wanted])
            if isinstance(found, Failure) or found.archived_at is not None:
                return found
            if any(not parent.archived for parent in find_parents(connection, repository_id, [found.digest])):
                return Failure.REFERENCED
            _archive(connection, find_dependents(connection, repository_id, found, exclusive=True), now)
            return find_again(connection, repository_id, found)

        return self._database.write(change)

    def restore(
        self, repository: RepositoryName, wanted: ImageId, *, now: float, owner: Owner | None = None
    ) -> ImageDetail | Failure:
        """Take an image out of the archive, with its children and its referrers."""

        def change(connection: Connection) -> ImageDetail | Failure:
            note_change(connection, Topic.ANSWERS)
            repository_id = require_repository_of(connection, repository, owner)
            (found,) = find_images(connection, repository_id, [wanted])
            if isinstance(found, Failure) or found.archived_at is None:
                return found
            for part in in_parts(find_dependents(connection, repository_id, found, exclusive=False)):
                connection.execute(
                    update(_images)
                    .where(_images.c.id.in_(part), _images.c.archived_at.is_not(None))
                    .values(archived_at=None, activated_at=now)
                )
            return find_again(connection, repository_id, found)

        return self._database.write(change)

    def carry_out(self, repository: RepositoryName, groups: Sequence[Group], *, now: float) -> list[Group]:
        """Delete and archive what a policy says to; the groups that were carried out.

        One in which an image has changed since it was evaluated is left alone as a whole: an image that is gone, has
        other tags, was archived or restored, or is part of an index that stays.
        """

        def change(connection: Connection) -> list[Group]:
            note_change(connection, Topic.ANSWERS)
            done: list[Group] = []
            repository_id = require_repository(connection, repository)
            for group in groups:
                if _is_valid(connection, repository_id, group):
                    delete_images(connection, [image.image_id for image in group.expired], now=now)
                    _archive(connection, [image.image_id for image in group.archived], now)
                    done.append(group)
            return done

        return self._database.write(change)


def _conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.tagged is not None:
        yield HAS_TAG if wanted.tagged else ~HAS_TAG
    if wanted.archived is not None:
        yield _images.c.archived_at.is_not(None) if wanted.archived else _images.c.archived_at.is_(None)


def _delete(connection: Connection, repository_id: int, wanted: ImageId, now: float) -> Deletion:
    (found,) = find_images(connection, repository_id, [wanted])
    if isinstance(found, Failure):
        return Deletion(wanted, found)
    indexes = tuple(sorted(parent.digest for parent in find_parents(connection, repository_id, [found.digest])))
    removed: tuple[ImageId, ...]
    if wanted.tag:
        removed = (ImageId(found.digest, wanted.tag),)
        if len(found.tags) > 1 or indexes:
            connection.execute(delete(tags).where(tags.c.repository_id == repository_id, tags.c.name == wanted.tag))
            return Deletion(wanted, removed=removed, image=found)
    elif indexes:
        return Deletion(wanted, Failure.REFERENCED, indexes)
    else:
        removed = tuple(ImageId(found.digest, tag) for tag in found.tags) or (ImageId(found.digest),)
    delete_images(connection, [found.image_id], now=now)
    return Deletion(wanted, removed=removed, image=found)


def _archive(connection: Connection, image_ids: Iterable[int], now: float) -> None:
    for part in in_parts(image_ids):
        connection.execute(
            update(_images).where(_images.c.id.in_(part), _images.c.archived_at.is_(None)).values(archived_at=now)
        )


def _is_valid(connection: Connection, repository_id: int, group: Group) -> bool:
    images = [*group.expired, *group.archived]
    gone = {image.image_id for image in group.expired}
    moved = {image.image_id for image in images}
    if not are_unchanged(connection, images):
        return False
    if any(p.image_id not in gone for p in find_parents(connection, repository_id, [i.digest for i in group.expired])):
        return False
    holders = find_parents(connection, repository_id, [image.digest for image in group.archived])
    return all(parent.archived or parent.image_id in moved for parent in holders)
