"""Images as the ECR API sees them: described and listed in pages, looked up, archived, deleted.

A page costs the same wherever it begins: its key is the digest, which the index of a repository's images is sorted by.
A method is one transaction, and raises RepositoryUnknown where there is no such repository; times are seconds since the
epoch. Where a question takes an owner, what another one has left under the name is not there; None takes whoever has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, func, or_, select, update

from pullthrough.errors import RepositoryUnknown
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.image_rows import delete_images
from pullthrough.storage.database import Database, Topic, note_change
from pullthrough.storage.records import ImageDetail, ImageState
from pullthrough.storage.schema import (
    blobs,
    manifest_blobs,
    manifest_children,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)
from pullthrough.storage.sql.parts import in_parts

#: SQLite counts ids from 1.
_NOBODYS = 0

_images = repository_manifests
_FIND = select(repositories.c.id).where(repositories.c.name == bindparam("repository"))
_DETAILS = select(
    _images.c.id,
    _images.c.digest,
    _images.c.media_type,
    _images.c.artifact_type,
    _images.c.size_bytes,
    _images.c.pushed_at,
    _images.c.pulled_at,
    _images.c.subject,
    _images.c.archived_at,
    _images.c.activated_at,
)
#: By another name than the tags that a statement reads beside it.
_any_tag = tags.alias("any_tag")
_HAS_TAG = exists().where(_any_tag.c.image_id == _images.c.id)
_IS_CHILD = and_(
    _images.c.digest == manifest_children.c.child_digest,
    _images.c.repository_id == manifest_children.c.repository_id,
)


class Failure(StrEnum):
    """Why an image was not found or not deleted, as the API's ImageFailureCode spells it."""

    NOT_FOUND = "ImageNotFound"
    MISMATCH = "ImageTagDoesNotMatchDigest"
    REFERENCED = "ImageReferencedByManifestList"


@dataclass(frozen=True, slots=True)
class ImageId:
    """What the API names an image by: at least one of the two."""

    digest: Digest | None = None
    tag: Tag | None = None


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
            repository_id = _require_of(connection, repository, owner)
            rows = connection.execute(
                _DETAILS.where(_images.c.repository_id == repository_id, _images.c.digest > after, *_conditions(wanted))
                .order_by(_images.c.digest)
                .limit(limit)
            ).all()
            return _details(connection, rows)

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
            repository_id = _require_of(connection, repository, owner)
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
            repository_id = _require_of(connection, repository, owner)
            return _find(connection, repository_id, wanted)

    def layers(
        self, repository: RepositoryName, owner: Owner | None, digests: Sequence[Digest]
    ) -> dict[Digest, LayerState]:
        """What the repository knows of these blobs; those of which it knows nothing are left out."""
        found: dict[Digest, LayerState] = {}
        with self._database.reading() as connection:
            repository_id = _require_of(connection, repository, owner)
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
            repository_id = _require(connection, repository)
            return _states(connection, repository_id)

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
            repository_id = _require_of(connection, repository, owner)
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
            repository_id = _require_of(connection, repository, owner)
            (found,) = _find(connection, repository_id, [wanted])
            if isinstance(found, Failure) or found.archived_at is not None:
                return found
            if any(not parent.archived for parent in _parents(connection, repository_id, [found.digest])):
                return Failure.REFERENCED
            _archive(connection, _dependents(connection, repository_id, found, exclusive=True), now)
            return _refind(connection, repository_id, found)

        return self._database.write(change)

    def restore(
        self, repository: RepositoryName, wanted: ImageId, *, now: float, owner: Owner | None = None
    ) -> ImageDetail | Failure:
        """Take an image out of the archive, with its children and its referrers."""

        def change(connection: Connection) -> ImageDetail | Failure:
            note_change(connection, Topic.ANSWERS)
            repository_id = _require_of(connection, repository, owner)
            (found,) = _find(connection, repository_id, [wanted])
            if isinstance(found, Failure) or found.archived_at is None:
                return found
            for part in in_parts(_dependents(connection, repository_id, found, exclusive=False)):
                connection.execute(
                    update(_images)
                    .where(_images.c.id.in_(part), _images.c.archived_at.is_not(None))
                    .values(archived_at=None, activated_at=now)
                )
            return _refind(connection, repository_id, found)

        return self._database.write(change)

    def carry_out(self, repository: RepositoryName, groups: Sequence[Group], *, now: float) -> list[Group]:
        """Delete and archive what a policy says to; the groups that were carried out.

        One in which an image has changed since it was evaluated is left alone as a whole: an image that is gone, has
        other tags, was archived or restored, or is part of an index that stays.
        """

        def change(connection: Connection) -> list[Group]:
            note_change(connection, Topic.ANSWERS)
            done: list[Group] = []
            repository_id = _require(connection, repository)
            for group in groups:
                if _is_valid(connection, repository_id, group):
                    delete_images(connection, [image.image_id for image in group.expired], now=now)
                    _archive(connection, [image.image_id for image in group.archived], now)
                    done.append(group)
            return done

        return self._database.write(change)


@dataclass(frozen=True, slots=True)
class _Parent:
    """That an index of the repository has a stored image as a child."""

    image_id: int
    digest: str
    archived: bool
    child: str


def _require(connection: Connection, repository: RepositoryName) -> int:
    found: int | None = connection.execute(_FIND, {"repository": repository}).scalar()
    if found is None:
        raise RepositoryUnknown(f"there is no repository {repository}")
    return found


def _require_of(connection: Connection, repository: RepositoryName, owner: Owner | None) -> int:
    """The repository as this owner sees it: none of a row's ids where another one has it."""
    found = _require(connection, repository)
    if owner is None:
        return found
    whose = select(repositories.c.owner).where(repositories.c.id == found)
    return found if connection.execute(whose).scalar() == owner else _NOBODYS


def _conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.tagged is not None:
        yield _HAS_TAG if wanted.tagged else ~_HAS_TAG
    if wanted.archived is not None:
        yield _images.c.archived_at.is_not(None) if wanted.archived else _images.c.archived_at.is_(None)


def _details(connection: Connection, rows: Sequence[Any]) -> list[ImageDetail]:
    names: dict[int, list[Tag]] = defaultdict(list)
    sizes: dict[int, int] = {}
    for part in in_parts([row.id for row in rows]):
        mine = select(tags.c.image_id, tags.c.name).where(tags.c.image_id.in_(part)).order_by(tags.c.name)
        for image_id, name in connection.execute(mine):
            names[image_id].append(Tag(name))
    for part in in_parts([row.id for row in rows if row.media_type in media_types.INDEXES]):
        largest = (
            select(manifest_children.c.image_id, func.max(_images.c.size_bytes))
            .join(_images, _IS_CHILD)
            .where(manifest_children.c.image_id.in_(part))
            .group_by(manifest_children.c.image_id)
        )
        sizes.update((row[0], row[1]) for row in connection.execute(largest))
    return [
        ImageDetail(
            image_id=row.id,
            digest=Digest(row.digest),
            tags=tuple(names[row.id]),
            media_type=row.media_type,
            artifact_type=row.artifact_type,
            size_bytes=sizes.get(row.id, row.size_bytes),
            pushed_at=row.pushed_at,
            pulled_at=row.pulled_at,
            subject=row.subject,
            archived_at=row.archived_at,
            activated_at=row.activated_at,
        )
        for row in rows
    ]


def _find(connection: Connection, repository_id: int, wanted: Sequence[ImageId]) -> list[ImageDetail | Failure]:
    by_tag: dict[str, str] = {}
    for part in in_parts({image_id.tag for image_id in wanted if image_id.tag}):
        named = (
            select(tags.c.name, _images.c.digest)
            .join(_images, _images.c.id == tags.c.image_id)
            .where(tags.c.repository_id == repository_id, tags.c.name.in_(part))
        )
        by_tag.update((row.name, row.digest) for row in connection.execute(named))
    digests = {image_id.digest for image_id in wanted if image_id.digest} | {Digest(d) for d in by_tag.values()}
    found: dict[str, ImageDetail] = {}
    for digests_part in in_parts(digests):
        rows = connection.execute(
            _DETAILS.where(_images.c.repository_id == repository_id, _images.c.digest.in_(digests_part))
        ).all()
        found.update((detail.digest, detail) for detail in _details(connection, rows))

    def answer(image_id: ImageId) -> ImageDetail | Failure:
        named = by_tag.get(image_id.tag) if image_id.tag else image_id.digest
        if named is None or named not in found:
            return Failure.NOT_FOUND
        if image_id.digest and image_id.digest != named:
            return Failure.MISMATCH
        return found[named]

    return [answer(image_id) for image_id in wanted]


def _refind(connection: Connection, repository_id: int, image: ImageDetail) -> ImageDetail:
    (found,) = _find(connection, repository_id, [ImageId(image.digest)])
    assert isinstance(found, ImageDetail)  # it was there in this transaction
    return found


def _states(connection: Connection, repository_id: int) -> list[ImageState]:
    names: dict[int, list[str]] = defaultdict(list)
    for image_id, name in connection.execute(
        select(tags.c.image_id, tags.c.name).where(tags.c.repository_id == repository_id).order_by(tags.c.name)
    ):
        names[image_id].append(name)
    children: dict[int, list[str]] = defaultdict(list)
    for image_id, digest in connection.execute(
        select(manifest_children.c.image_id, manifest_children.c.child_digest)
        .join(_images, _images.c.id == manifest_children.c.image_id)
        .where(_images.c.repository_id == repository_id)
    ):
        children[image_id].append(digest)
    return [
        ImageState(
            image_id=row.id,
            digest=row.digest,
            tags=tuple(names.get(row.id, ())),
            pushed_at=row.pushed_at,
            pulled_at=row.pulled_at,
            archived_at=row.archived_at,
            activated_at=row.activated_at,
            children=tuple(children.get(row.id, ())),
            subject=row.subject,
            media_type=row.media_type,
            artifact_type=row.artifact_type,
        )
        for row in connection.execute(_DETAILS.where(_images.c.repository_id == repository_id))
    ]


def _delete(connection: Connection, repository_id: int, wanted: ImageId, now: float) -> Deletion:
    (found,) = _find(connection, repository_id, [wanted])
    if isinstance(found, Failure):
        return Deletion(wanted, found)
    indexes = tuple(sorted(parent.digest for parent in _parents(connection, repository_id, [found.digest])))
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


def _parents(connection: Connection, repository_id: int, digests: Iterable[str]) -> list[_Parent]:
    """The indexes of the repository that have one of these as a child."""
    found: list[_Parent] = []
    for part in in_parts(digests):
        statement = (
            select(_images.c.id, _images.c.digest, _images.c.archived_at, manifest_children.c.child_digest)
            .join(manifest_children, manifest_children.c.image_id == _images.c.id)
            .where(manifest_children.c.child_digest.in_(part), manifest_children.c.repository_id == repository_id)
        )
        found += [
            _Parent(row.id, row.digest, row.archived_at is not None, row.child_digest)
            for row in connection.execute(statement)
        ]
    return found


def _dependents(connection: Connection, repository_id: int, image: ImageDetail, *, exclusive: bool) -> set[int]:
    """The image, its stored children, its referrers, and theirs.

    `exclusive` leaves out children that have a tag, or an active index that is not among them.
    """
    found = {image.image_id}
    new = {image.image_id: str(image.digest)}
    while new:
        candidates: dict[int, str] = {}
        for ids in in_parts(new):
            children = (
                select(_images.c.id, _images.c.digest)
                .select_from(manifest_children)
                .join(_images, _IS_CHILD)
                .where(manifest_children.c.image_id.in_(ids), *([~_HAS_TAG] if exclusive else []))
            )
            candidates.update((row.id, row.digest) for row in connection.execute(children))
        if exclusive:
            held = {
                parent.child
                for parent in _parents(connection, repository_id, candidates.values())
                if not parent.archived and parent.image_id not in found
            }
            candidates = {image_id: digest for image_id, digest in candidates.items() if digest not in held}
        for digests in in_parts(new.values()):
            referrers = select(_images.c.id, _images.c.digest).where(
                _images.c.repository_id == repository_id, _images.c.subject.in_(digests)
            )
            candidates.update((row.id, row.digest) for row in connection.execute(referrers))
        new = {image_id: digest for image_id, digest in candidates.items() if image_id not in found}
        found |= new.keys()
    return found


def _is_valid(connection: Connection, repository_id: int, group: Group) -> bool:
    images = [*group.expired, *group.archived]
    gone = {image.image_id for image in group.expired}
    moved = {image.image_id for image in images}
    if not _are_unchanged(connection, images):
        return False
    if any(p.image_id not in gone for p in _parents(connection, repository_id, [i.digest for i in group.expired])):
        return False
    holders = _parents(connection, repository_id, [image.digest for image in group.archived])
    return all(parent.archived or parent.image_id in moved for parent in holders)


def _are_unchanged(connection: Connection, images: Sequence[ImageState]) -> bool:
    """Whether these images are all there, with the tags that they had, in the archive or not as they were."""
    there: dict[int, tuple[float | None, float | None]] = {}
    names: dict[int, set[str]] = defaultdict(set)
    for part in in_parts([image.image_id for image in images]):
        mine = select(_images.c.id, _images.c.archived_at, _images.c.activated_at).where(_images.c.id.in_(part))
        there.update((row.id, (row.archived_at, row.activated_at)) for row in connection.execute(mine))
        for image_id, name in connection.execute(select(tags.c.image_id, tags.c.name).where(tags.c.image_id.in_(part))):
            names[image_id].add(name)
    return all(
        there.get(image.image_id) == (image.archived_at, image.activated_at)
        and names[image.image_id] == set(image.tags)
        for image in images
    )
