"""What eviction asks of the catalog, what it takes out of it, and when things were used last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Exists, Update, and_, bindparam, delete, exists, func, or_, select, update

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.catalog.blob_rows import last_used
from pullthrough.storage.catalog.image_rows import delete_images, remove_empty, repositories_of
from pullthrough.storage.catalog.records import ImageUse, NamedBlob, StoredBlob
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import (
    blobs,
    listings,
    manifest_blobs,
    manifest_children,
    manifests,
    pins,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)

#: Pull times written in one transaction, so that a flush never keeps a fill from being published.
_PULLS_PER_TRANSACTION = 1_000
#: A blob that was pushed, or whose last image was deleted, is kept for so long without being named. A push takes less.
LOOSE_SECONDS = 86_400.0

_images = repository_manifests
_is_named = exists().where(manifest_blobs.c.blob_digest == blobs.c.digest)
_TOUCH_IMAGE = (
    update(_images)
    .where(
        _images.c.repository_id
        == select(repositories.c.id).where(repositories.c.name == bindparam("b_repository")).scalar_subquery(),
        _images.c.digest == bindparam("b_digest"),
        or_(_images.c.pulled_at.is_(None), _images.c.pulled_at < bindparam("b_at")),
    )
    .values(pulled_at=bindparam("b_at"))
)
_TOUCH_BLOB = (
    update(blobs)
    .where(
        blobs.c.digest == bindparam("b_digest"),
        or_(blobs.c.pulled_at.is_(None), blobs.c.pulled_at < bindparam("b_at")),
    )
    .values(pulled_at=bindparam("b_at"))
)


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove_images` took out. The blobs' files are still there."""

    images: tuple[ImageUse, ...]
    #: Blobs that no image names any more, each with the id of the last of the removed images that did.
    blobs: tuple[tuple[int, StoredBlob], ...]


class Inventory:
    """Safe to use from many threads and processes; not across a fork. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record_pulls(self, manifests: Mapping[tuple[str, str], float], blobs: Mapping[str, float]) -> None:
        """When manifests, by repository and digest, and blobs were last pulled. An earlier time changes nothing."""
        work = [(_TOUCH_IMAGE, {"b_repository": r, "b_digest": d, "b_at": at}) for (r, d), at in manifests.items()]
        work += [(_TOUCH_BLOB, {"b_digest": digest, "b_at": at}) for digest, at in blobs.items()]
        for start in range(0, len(work), _PULLS_PER_TRANSACTION):
            self._database.write(_touch, work[start : start + _PULLS_PER_TRANSACTION])

    def images(self) -> list[ImageUse]:
        """Every manifest of every repository, but for those that were pushed: they have no upstream to come from again."""
        others = _images.alias()
        statement = (
            select(
                _images.c.id,
                repositories.c.name,
                _images.c.digest,
                _images.c.stored_at,
                _images.c.pulled_at,
                func.length(manifests.c.body),
                select(func.count()).where(others.c.digest == _images.c.digest).scalar_subquery(),
            )
            .join(repositories, repositories.c.id == _images.c.repository_id)
            .join(manifests, manifests.c.digest == _images.c.digest)
            .where(~_images.c.is_pushed)
        )
        with self._database.reading() as connection:
            return [
                ImageUse(row[0], RepositoryName(row[1]), Digest(row[2]), row[3], row[4], row[5], row[6])
                for row in connection.execute(statement)
            ]

    def families(self) -> list[tuple[int, int]]:
        """Index and child, by their image ids, where both are stored in the same repository."""
        statement = select(manifest_children.c.image_id, _images.c.id).join(
            _images,
            and_(
                _images.c.digest == manifest_children.c.child_digest,
                _images.c.repository_id == manifest_children.c.repository_id,
            ),
        )
        with self._database.reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(statement)]

    def pinned_images(self) -> frozenset[int]:
        """Images that a pin protects: those it names by tag or digest, the indexes they are in, and their children."""
        with self._database.reading() as connection:
            return frozenset(_pinned(connection))

    def tags_of(self, image_ids: Collection[int]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        with self._database.reading() as connection:
            for part in in_parts(image_ids):
                statement = select(tags.c.image_id, tags.c.name).where(tags.c.image_id.in_(part)).order_by(tags.c.name)
                for image_id, name in connection.execute(statement):
                    found.setdefault(image_id, []).append(name)
        return found

    def named_blobs(self, image_ids: Collection[int]) -> list[NamedBlob]:
        """The blobs that these images name, published or not."""
        with self._database.reading() as connection:
            return _named_blobs(connection, image_ids)

    def unnamed_blobs(self, unused_since: float) -> list[StoredBlob]:
        """Published blobs that no stored manifest names, and none is likely to: nobody has just pushed them."""
        statement = select(blobs.c.digest, blobs.c.size_bytes, last_used).where(~_is_named, ~_is_loose(unused_since))
        with self._database.reading() as connection:
            return [StoredBlob(Digest(row[0]), row[1], row[2]) for row in connection.execute(statement)]

    def remove_images(self, images: Sequence[ImageUse], *, in_use: Container[Digest], unused_since: float) -> Removed:
        """Take images out, with their tags, and the blobs that no other image names.

        An image stays where it was pulled, stored or pushed since it was read as given here, where one of its indexes
        was pulled after `unused_since`, where a blob it names is in use, or where it is pinned. A blob stays where it is
        in use, was last pulled after `unused_since`, or was pushed within the day before. The caller removes the files of
        the blobs returned, after this.
        """

        def change(connection: Connection) -> Removed:
            note_change(connection, Topic.ANSWERS)
            gone = _unchanged(connection, images, in_use, unused_since)
            ids = [image.image_id for image in gone]
            named = _named_blobs(connection, ids)
            affected = repositories_of(connection, ids)
            delete_images(connection, ids, now=None)  # their blobs go here as well
            order = {image_id: position for position, image_id in enumerate(ids)}
            owners = {blob.digest: blob.image_id for blob in sorted(named, key=lambda blob: order[blob.image_id])}
            freed = _remove_blobs(connection, owners, unused_since)
            remove_empty(connection, affected)
            return Removed(tuple(gone), tuple((owners[blob.digest], blob) for blob in freed))

        return self._database.write(change)

    def remove_unnamed_blobs(
        self, digests: Iterable[Digest], *, in_use: Container[Digest], unused_since: float
    ) -> list[StoredBlob]:
        """Forget those of the blobs that still no manifest names; the caller removes their files after this."""
        wanted = [digest for digest in digests if digest not in in_use]

        def change(connection: Connection) -> list[StoredBlob]:
            note_change(connection, Topic.ANSWERS)
            affected = [
                row[0]
                for part in in_parts(wanted)
                for row in connection.execute(
                    select(repository_blobs.c.repository_id).distinct().where(repository_blobs.c.digest.in_(part))
                )
            ]
            freed = _remove_blobs(connection, wanted, unused_since)
            remove_empty(connection, affected)
            return freed

        return self._database.write(change)

    def remove_listings(self, wanted_bytes: int, validated_before: float) -> int:
        """Forget lists of upstreams, those first that were read from there the longest ago, until so many bytes are gone.
        Returns how many."""
        statement = (
            select(listings.c.id, func.length(listings.c.body))
            .where(listings.c.validated_at < validated_before)
            .order_by(listings.c.validated_at)
        )

        def change(connection: Connection) -> int:
            freed = 0
            gone = []
            for row in connection.execute(statement):
                if freed >= wanted_bytes:
                    break
                gone.append(row[0])
                freed += row[1]
            for part in in_parts(gone):
                connection.execute(delete(listings).where(listings.c.id.in_(part)))
            return freed

        return self._database.write(change)


def _touch(connection: Connection, work: Sequence[tuple[Update, Mapping[str, object]]]) -> None:
    for statement in (_TOUCH_IMAGE, _TOUCH_BLOB):
        rows = [row for wanted, row in work if wanted is statement]
        if rows:
            connection.execute(statement, rows)


def _is_loose(unused_since: float) -> Exists:
    return exists().where(
        repository_blobs.c.digest == blobs.c.digest, repository_blobs.c.loose_at > unused_since - LOOSE_SECONDS
    )


def _unchanged(
    connection: Connection, images: Sequence[ImageUse], in_use: Container[Digest], unused_since: float
) -> list[ImageUse]:
    ids = [image.image_id for image in images]
    now: dict[int, tuple[float, float | None]] = {}
    busy = _pinned(connection)
    busy.update(blob.image_id for blob in _named_blobs(connection, ids) if blob.digest in in_use)
    for part in in_parts(ids):
        statement = select(_images.c.id, _images.c.stored_at, _images.c.pulled_at).where(
            _images.c.id.in_(part), ~_images.c.is_pushed
        )
        now.update((row[0], (row[1], row[2])) for row in connection.execute(statement))
        index, child = _images.alias(), _images.alias()
        pulled = (
            select(child.c.id)
            .join(
                manifest_children,
                and_(
                    manifest_children.c.child_digest == child.c.digest,
                    manifest_children.c.repository_id == child.c.repository_id,
                ),
            )
            .join(index, index.c.id == manifest_children.c.image_id)
            .where(child.c.id.in_(part), child.c.pulled_at.is_not(None), index.c.pulled_at > unused_since)
        )
        busy.update(connection.execute(pulled).scalars())
    return [
        image
        for image in images
        if now.get(image.image_id) == (image.stored_at, image.pulled_at) and image.image_id not in busy
    ]


def _pinned(connection: Connection) -> set[int]:
    # By repository, of which few have pins: left to itself, SQLite may read all tags for this.
    wanted_in: dict[int, list[str]] = defaultdict(list)
    of_pins = select(repositories.c.id, pins.c.reference).join(pins, pins.c.repository == repositories.c.name)
    for repository_id, reference in connection.execute(of_pins):
        wanted_in[repository_id].append(reference)
    named: set[int] = set()
    for repository_id, wanted_there in wanted_in.items():
        for references in in_parts(wanted_there):
            by_digest = select(_images.c.id).where(
                _images.c.repository_id == repository_id, _images.c.digest.in_(references)
            )
            by_tag = select(tags.c.image_id).where(tags.c.repository_id == repository_id, tags.c.name.in_(references))
            named.update(connection.execute(by_digest).scalars())
            named.update(connection.execute(by_tag).scalars())
    # Up to the indexes, then down to the children; each as often as they nest.
    directions = (
        (manifest_children.c.image_id, _images.c.id),
        (_images.c.id, manifest_children.c.image_id),
    )
    pinned = set(named)
    for wanted, given in directions:
        level = named
        while level:
            found: set[int] = set()
            for part in in_parts(level):
                statement = (
                    select(wanted)
                    .select_from(manifest_children)
                    .join(
                        _images,
                        and_(
                            _images.c.digest == manifest_children.c.child_digest,
                            _images.c.repository_id == manifest_children.c.repository_id,
                        ),
                    )
                    .where(given.in_(part))
                )
                found.update(connection.execute(statement).scalars())
            level = found - pinned
            pinned |= found
    return pinned


def _named_blobs(connection: Connection, image_ids: Collection[int]) -> list[NamedBlob]:
    others = manifest_blobs.alias()
    count = select(func.count()).where(others.c.blob_digest == manifest_blobs.c.blob_digest).scalar_subquery()
    found: list[NamedBlob] = []
    for part in in_parts(image_ids):
        statement = (
            select(manifest_blobs.c.image_id, manifest_blobs.c.blob_digest, blobs.c.size_bytes, last_used, count)
            .outerjoin(blobs, blobs.c.digest == manifest_blobs.c.blob_digest)
            .where(manifest_blobs.c.image_id.in_(part))
            .order_by(manifest_blobs.c.image_id, manifest_blobs.c.position)
        )
        found += [NamedBlob(row[0], Digest(row[1]), row[2], row[3], row[4]) for row in connection.execute(statement)]
    return found


def _remove_blobs(connection: Connection, digests: Iterable[Digest], unused_since: float) -> list[StoredBlob]:
    freed: list[StoredBlob] = []
    for part in in_parts(digests):
        statement = select(blobs.c.digest, blobs.c.size_bytes, last_used).where(
            blobs.c.digest.in_(part), ~_is_named, last_used <= unused_since, ~_is_loose(unused_since)
        )
        rows = connection.execute(statement).all()
        freed += [StoredBlob(Digest(row[0]), row[1], row[2]) for row in rows]
        connection.execute(delete(blobs).where(blobs.c.digest.in_([row[0] for row in rows])))
    return freed
