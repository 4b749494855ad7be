"""Images of a repository, found and described within somebody's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, select

from pullthrough.errors import RepositoryUnknown
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.records import Failure, ImageDetail, ImageId, ImageState
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import manifest_children, repositories, repository_manifests, tags

#: SQLite counts ids from 1.
_NOBODYS = 0

_images = repository_manifests
_FIND = select(repositories.c.id).where(repositories.c.name == bindparam("repository"))
DETAILS = select(
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
HAS_TAG = exists().where(_any_tag.c.image_id == _images.c.id)
IS_CHILD = and_(
    _images.c.digest == manifest_children.c.child_digest,
    _images.c.repository_id == manifest_children.c.repository_id,
)


@dataclass(frozen=True, slots=True)
class ParentIndex:
    """That an index of the repository has a stored image as a child."""

    image_id: int
    digest: str
    archived: bool
    child: str


def require_repository(connection: Connection, repository: RepositoryName) -> int:
    found: int | None = connection.execute(_FIND, {"repository": repository}).scalar()
    if found is None:
        raise RepositoryUnknown(f"there is no repository {repository}")
    return found


def require_repository_of(connection: Connection, repository: RepositoryName, owner: Owner | None) -> int:
    """The repository as this owner sees it: none of a row's ids where another one has it."""
    found = require_repository(connection, repository)
    if owner is None:
        return found
    whose = select(repositories.c.owner).where(repositories.c.id == found)
    return found if connection.execute(whose).scalar() == owner else _NOBODYS


def describe_images(connection: Connection, rows: Sequence[Any]) -> list[ImageDetail]:
    names: dict[int, list[Tag]] = defaultdict(list)
    sizes: dict[int, int] = {}
    for part in in_parts([row.id for row in rows]):
        mine = select(tags.c.image_id, tags.c.name).where(tags.c.image_id.in_(part)).order_by(tags.c.name)
        for image_id, name in connection.execute(mine):
            names[image_id].append(Tag(name))
    for part in in_parts([row.id for row in rows if row.media_type in media_types.INDEXES]):
        largest = (
            select(manifest_children.c.image_id, func.max(_images.c.size_bytes))
            .join(_images, IS_CHILD)
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


def find_images(connection: Connection, repository_id: int, wanted: Sequence[ImageId]) -> list[ImageDetail | Failure]:
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
            DETAILS.where(_images.c.repository_id == repository_id, _images.c.digest.in_(digests_part))
        ).all()
        found.update((detail.digest, detail) for detail in describe_images(connection, rows))

    def answer(image_id: ImageId) -> ImageDetail | Failure:
        named = by_tag.get(image_id.tag) if image_id.tag else image_id.digest
        if named is None or named not in found:
            return Failure.NOT_FOUND
        if image_id.digest and image_id.digest != named:
            return Failure.MISMATCH
        return found[named]

    return [answer(image_id) for image_id in wanted]


def find_again(connection: Connection, repository_id: int, image: ImageDetail) -> ImageDetail:
    (found,) = find_images(connection, repository_id, [ImageId(image.digest)])
    assert isinstance(found, ImageDetail)  # it was there in this transaction
    return found


def image_states(connection: Connection, repository_id: int) -> list[ImageState]:
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
        for row in connection.execute(DETAILS.where(_images.c.repository_id == repository_id))
    ]


def find_parents(connection: Connection, repository_id: int, digests: Iterable[str]) -> list[ParentIndex]:
    """The indexes of the repository that have one of these as a child."""
    found: list[ParentIndex] = []
    for part in in_parts(digests):
        statement = (
            select(_images.c.id, _images.c.digest, _images.c.archived_at, manifest_children.c.child_digest)
            .join(manifest_children, manifest_children.c.image_id == _images.c.id)
            .where(manifest_children.c.child_digest.in_(part), manifest_children.c.repository_id == repository_id)
        )
        found += [
            ParentIndex(row.id, row.digest, row.archived_at is not None, row.child_digest)
            for row in connection.execute(statement)
        ]
    return found


def find_dependents(connection: Connection, repository_id: int, image: ImageDetail, *, exclusive: bool) -> set[int]:
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
                .join(_images, IS_CHILD)
                .where(manifest_children.c.image_id.in_(ids), *([~HAS_TAG] if exclusive else []))
            )
            candidates.update((row.id, row.digest) for row in connection.execute(children))
        if exclusive:
            held = {
                parent.child
                for parent in find_parents(connection, repository_id, candidates.values())
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


def are_unchanged(connection: Connection, images: Sequence[ImageState]) -> bool:
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
