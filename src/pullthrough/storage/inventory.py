"""What eviction and `check` ask of the catalog, and what they take out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Exists, and_, delete, exists, func, select

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.database import Database, Topic, note_change, upsert
from pullthrough.storage.deletion import delete_images
from pullthrough.storage.records import ImageUse, NamedBlob, StoredBlob
from pullthrough.storage.schema import (
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
from pullthrough.storage.sql.parts import PART, in_parts

_BODIES_PER_READ = 50
#: A blob that was pushed, or whose last image was deleted, is kept for so long without being named. A push takes less.
LOOSE_SECONDS = 86_400.0

_images = repository_manifests
_last_used = func.coalesce(blobs.c.pulled_at, blobs.c.stored_at)
_is_named = exists().where(manifest_blobs.c.blob_digest == blobs.c.digest)


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove_images` took out. The blobs' files are still there."""

    images: tuple[ImageUse, ...]
    #: Blobs that no image names any more, each with the id of the last of the removed images that did.
    blobs: tuple[tuple[int, StoredBlob], ...]


class Inventory:
    """Safe to use from many threads and processes, beside a running engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Eviction

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
        statement = select(blobs.c.digest, blobs.c.size_bytes, _last_used).where(~_is_named, ~_is_loose(unused_since))
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
            affected = _repositories_of(connection, ids)
            delete_images(connection, ids, now=None)  # their blobs go here as well
            order = {image_id: position for position, image_id in enumerate(ids)}
            owners = {blob.digest: blob.image_id for blob in sorted(named, key=lambda blob: order[blob.image_id])}
            freed = _remove_blobs(connection, owners, unused_since)
            _remove_empty(connection, affected)
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
            _remove_empty(connection, affected)
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

    # Check

    def find_damage(self) -> list[str]:
        """What the database itself finds wrong with its file; empty if nothing."""
        return self._database.find_damage()

    def stored_blobs(self) -> Iterator[StoredBlob]:
        """Every published blob, by digest; read in parts, so that none is kept waiting by a slow reader."""
        last = ""
        while True:
            statement = (
                select(blobs.c.digest, blobs.c.size_bytes, _last_used)
                .where(blobs.c.digest > last)
                .order_by(blobs.c.digest)
                .limit(PART)
            )
            with self._database.reading() as connection:
                rows = connection.execute(statement).all()
            if not rows:
                return
            yield from (StoredBlob(Digest(row[0]), row[1], row[2]) for row in rows)
            last = rows[-1][0]

    def manifest_bodies(self) -> Iterator[tuple[Digest, bytes]]:
        """Every stored manifest once, by digest; read in parts."""
        last = ""
        while True:
            statement = (
                select(manifests.c.digest, manifests.c.body)
                .where(manifests.c.digest > last)
                .order_by(manifests.c.digest)
                .limit(_BODIES_PER_READ)
            )
            with self._database.reading() as connection:
                rows = connection.execute(statement).all()
            if not rows:
                return
            yield from ((Digest(row[0]), row[1]) for row in rows)
            last = rows[-1][0]

    def unknown_blobs(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that the catalog does not have as published."""
        unknown: list[Digest] = []
        for part in in_parts(digests):
            with self._database.reading() as connection:
                known = set(connection.execute(select(blobs.c.digest).where(blobs.c.digest.in_(part))).scalars())
            unknown += [digest for digest in part if digest not in known]
        return unknown

    def adopt_blobs(self, found: Iterable[tuple[Digest, int, float]], *, verified_boot: str) -> None:
        """Take up files that have no row: digest, size in bytes, last use. No repository may read them by that.

        A repository whose manifest names one is granted it once its own upstream has confirmed that it has it; no
        bytes are transferred again.
        """
        rows = [
            {"digest": digest, "size_bytes": size, "stored_at": used_at, "verified_boot": verified_boot}
            for digest, size, used_at in found
        ]
        for part in in_parts(rows):
            self._database.write(_adopt, part)

    def forget_manifest(self, digest: Digest, *, now: float) -> None:
        """Take the manifest out of every repository, with the tags that name it; it is fetched again when asked for.

        Its blobs are loose from now on: who pushes it again need not push them.
        """

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            mine = list(connection.execute(select(_images.c.id).where(_images.c.digest == digest)).scalars())
            affected = _repositories_of(connection, mine)
            delete_images(connection, mine, now=now)
            connection.execute(delete(manifests).where(manifests.c.digest == digest))
            _remove_empty(connection, affected)

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


def _adopt(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    note_change(connection, Topic.ANSWERS)
    upsert(connection, blobs, rows, key=["digest"], update=[])


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
            select(manifest_blobs.c.image_id, manifest_blobs.c.blob_digest, blobs.c.size_bytes, _last_used, count)
            .outerjoin(blobs, blobs.c.digest == manifest_blobs.c.blob_digest)
            .where(manifest_blobs.c.image_id.in_(part))
            .order_by(manifest_blobs.c.image_id, manifest_blobs.c.position)
        )
        found += [NamedBlob(row[0], Digest(row[1]), row[2], row[3], row[4]) for row in connection.execute(statement)]
    return found


def _remove_blobs(connection: Connection, digests: Iterable[Digest], unused_since: float) -> list[StoredBlob]:
    freed: list[StoredBlob] = []
    for part in in_parts(digests):
        statement = select(blobs.c.digest, blobs.c.size_bytes, _last_used).where(
            blobs.c.digest.in_(part), ~_is_named, _last_used <= unused_since, ~_is_loose(unused_since)
        )
        rows = connection.execute(statement).all()
        freed += [StoredBlob(Digest(row[0]), row[1], row[2]) for row in rows]
        connection.execute(delete(blobs).where(blobs.c.digest.in_([row[0] for row in rows])))
    return freed


def _repositories_of(connection: Connection, image_ids: Collection[int]) -> list[int]:
    return [
        row[0]
        for part in in_parts(image_ids)
        for row in connection.execute(select(_images.c.repository_id).distinct().where(_images.c.id.in_(part)))
    ]


def _remove_empty(connection: Connection, repository_ids: Iterable[int]) -> None:
    for part in in_parts(set(repository_ids)):
        connection.execute(
            delete(repositories).where(
                repositories.c.id.in_(part),
                ~repositories.c.kept,
                ~exists().where(_images.c.repository_id == repositories.c.id),
                ~exists().where(repository_blobs.c.repository_id == repositories.c.id),
            )
        )
