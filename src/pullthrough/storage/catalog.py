"""The catalog: which repository has which manifests, tags and blobs, and what the upstreams last said.

A method is one transaction. Names and digests come in parsed; times are seconds since the epoch. What eviction and
`check` ask is in `inventory`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    String,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from pullthrough.errors import ImageArchived
from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import Descriptor, Manifest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.oci.owners import OWN, Owner, Source, is_anonymous, source_of
from pullthrough.storage.database import Database, Topic, note_change, upsert
from pullthrough.storage.interfaces import Changes
from pullthrough.storage.inventory import Inventory
from pullthrough.storage.records import BlobKind, BlobRecord, ListingRecord, ManifestRecord, TagRecord, Totals
from pullthrough.storage.repositories import NotKept, RepositoryOwned, claim_repository, is_immutable, may_move_tag
from pullthrough.storage.schema import (
    absent_names,
    blob_sources,
    blobs,
    listings,
    manifest_blobs,
    manifest_children,
    manifests,
    negatives,
    pins,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)
from pullthrough.units import format_bytes

#: Clients choose what is asked for, so that what is remembered of it has an end; the oldest goes first.
MAX_NEGATIVES = 100_000
MAX_ABSENT_NAMES = 100_000
MAX_LISTINGS = 10_000
#: Pull times written in one transaction, so that a flush never keeps a fill from being published.
_PULLS_PER_TRANSACTION = 1_000
#: The scenario of creation templates that pulls ask.
_PULL_THROUGH = "PULL_THROUGH_CACHE"

_images = repository_manifests
#: With `owner` NULL whoever has it: of names under no rule, which nobody else can claim.
_IS_REPOSITORY = and_(
    repositories.c.name == bindparam("repository"),
    or_(bindparam("owner", type_=String).is_(None), repositories.c.owner == bindparam("owner")),
)

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
    .where(_IS_REPOSITORY, tags.c.name == bindparam("tag"))
)
_FIND_MANIFEST = (
    select(_images.c.media_type, manifests.c.body, repositories.c.owner, _images.c.archived_at)
    .select_from(repositories)
    .join(_images, _images.c.repository_id == repositories.c.id)
    .join(manifests, manifests.c.digest == _images.c.digest)
    .where(_IS_REPOSITORY, _images.c.digest == bindparam("digest"))
)
_FIND_REPOSITORY = select(repositories.c.id, repositories.c.owner).where(_IS_REPOSITORY)
_FIND_STORED_BLOB = select(
    blobs.c.size_bytes,
    blobs.c.verified_boot,
    exists()
    .where(
        repository_blobs.c.repository_id == bindparam("repository_id"),
        repository_blobs.c.digest == blobs.c.digest,
    )
    .label("granted"),
    exists()
    .where(
        blob_sources.c.digest == blobs.c.digest,
        or_(blob_sources.c.is_anonymous, blob_sources.c.source == bindparam("source")),
    )
    .label("is_shared"),
).where(blobs.c.digest == bindparam("digest"))
_FIND_NAMING = (
    select(manifest_blobs.c.kind, manifest_blobs.c.size_bytes)
    .where(
        manifest_blobs.c.blob_digest == bindparam("digest"),
        manifest_blobs.c.repository_id == bindparam("repository_id"),
    )
    .limit(1)
)
_FIND_LATEST_LAYER_USE = (
    select(manifest_blobs.c.image_id)
    .join(_images, _images.c.id == manifest_blobs.c.image_id)
    .where(
        manifest_blobs.c.blob_digest == bindparam("digest"),
        manifest_blobs.c.repository_id == bindparam("repository_id"),
        manifest_blobs.c.kind == "layer",
    )
    .order_by(_images.c.stored_at.desc(), _images.c.id.desc())
    .limit(1)
)
_IS_LISTING = and_(
    listings.c.repository == bindparam("repository"),
    listings.c.owner == bindparam("owner"),
    listings.c.kind == bindparam("kind"),
)
_FIND_LISTING = select(listings.c.body, listings.c.validated_at).where(_IS_LISTING)
_FIND_LISTING_TIME = select(listings.c.validated_at).where(_IS_LISTING)
_FIND_NEGATIVE = select(negatives.c.until).where(
    negatives.c.repository == bindparam("repository"),
    negatives.c.owner == bindparam("owner"),
    negatives.c.reference == bindparam("reference"),
    negatives.c.until > bindparam("now"),
)
_FIND_ABSENT_NAME = select(absent_names.c.seen_at).where(
    absent_names.c.source == bindparam("source"), absent_names.c.name == bindparam("name")
)
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


class Catalog:
    """The catalog of one data folder. Safe to use from many threads and processes; not across a fork.

    Content is asked for and stored by a repository's name and its owner: what another one has under the name is not there.
    Where a question takes None for the owner, it is for a name under no rule, and whoever has it will do.

    What changes an answer bumps the generation after its commit; pull times and pins do not, nor what no worker
    keeps in memory: listings, and what is not there.
    Every method may raise StorageError or one of its kinds.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        #: What all of it may take; more manifests and lists from upstreams are not kept then.
        self.max_content_bytes: int | None = None
        #: The other nouns that are kept in the same file use it too.
        self.database = database
        self._clock = clock
        #: What eviction and `check` ask and do.
        self.inventory = Inventory(database)

    @classmethod
    def open(
        cls,
        path: Path,
        generation: Changes | None = None,
        clock: Callable[[], float] = time.time,
        configuration: Changes | None = None,
    ) -> Catalog:
        """Open the catalog; make it, or bring its schema up to date, where need be.

        Raises FolderNewer, CatalogBroken, FolderNotWritable or DiskFull.
        """
        return cls(Database.open(path, generation, configuration), clock)

    def close(self) -> None:
        self.database.close()

    # Manifests and tags

    def find_tag(self, repository: RepositoryName, owner: Owner | None, tag: Tag) -> TagRecord | None:
        """Raises ImageArchived where the tag names an archived image."""
        with self.database.reading() as connection:
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
        with self.database.reading() as connection:
            names = {"repository": repository, "owner": owner, "digest": digest}
            row = connection.execute(_FIND_MANIFEST, names).first()
        if row is None:
            return None
        _refuse_archived(row.archived_at, repository, digest)
        return ManifestRecord(digest, row.media_type, row.body, row.owner == OWN)

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
            if self.max_content_bytes is not None and not _has_manifest(connection, digest):
                self._refuse_if_full(connection, len(body))
            repository_id = claim_repository(connection, repository, owner, now, _PULL_THROUGH, takes_over=True)
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

        moved, archived_at = self.database.write(change)
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

        self.database.write(change)

    def _update_tag(
        self, repository: RepositoryName, owner: Owner, tag: Tag, values: dict[str, Any], forced_at: float | None
    ) -> None:
        if forced_at is not None:
            values["forced_at"] = forced_at

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(update(tags).where(_is_tag(repository, owner, tag)).values(values))

        self.database.write(change)

    # Blobs

    def find_blob(self, repository: RepositoryName, owner: Owner | None, digest: Digest) -> BlobRecord:
        """What is known of the blob from this repository's side; never None."""
        with self.database.reading() as connection:
            found = connection.execute(_FIND_REPOSITORY, {"repository": repository, "owner": owner}).first()
            repository_id = found.id if found else None
            names = {
                "digest": digest,
                "repository_id": repository_id,
                "source": source_of(owner) if owner is not None else None,
            }
            stored = connection.execute(_FIND_STORED_BLOB, names).first()
            naming = connection.execute(_FIND_NAMING, names).first()
        kind: BlobKind = "" if naming is None else "config" if naming.kind == "config" else "layer"
        granted = stored is not None and bool(stored.granted)
        size = stored.size_bytes if stored and granted else naming.size_bytes if naming else None
        return BlobRecord(
            digest=digest,
            size_bytes=size,
            published=stored is not None,
            verified_boot=stored.verified_boot if stored else "",
            granted=granted,
            named=naming is not None,
            repository_known=repository_id is not None,
            kind=kind,
            is_shared=bool(stored and stored.is_shared),
            is_own=bool(found and found.owner == OWN),
        )

    def prepare(self) -> None:
        """Ask once what a cold blob asks, of one that is nowhere.

        To compile these statements takes longer than to run them, and the first client would wait for it.
        """
        nowhere = RepositoryName("nowhere")
        digest = Digest("sha256:" + "0" * 64)
        self.find_blob(nowhere, OWN, digest)
        self.find_negative(nowhere, OWN, digest)

    def siblings(self, repository: RepositoryName, owner: Owner, digest: Digest) -> tuple[Descriptor, ...]:
        """What a pull of this layer will ask for next: the other blobs of its image that are not ready to be read.

        The image is the most recently stored one of the repository in which `digest` is a layer; its config comes
        first, then its layers in their order. Empty where there is none.
        """
        with self.database.reading() as connection:
            repository_id = connection.execute(_FIND_REPOSITORY, {"repository": repository, "owner": owner}).scalar()
            if repository_id is None:
                return ()
            image_id = connection.execute(
                _FIND_LATEST_LAYER_USE, {"digest": digest, "repository_id": repository_id}
            ).scalar()
            if image_id is None:
                return ()
            ready = exists().where(
                repository_blobs.c.repository_id == repository_id,
                repository_blobs.c.digest == manifest_blobs.c.blob_digest,
            )
            rows = connection.execute(
                select(manifest_blobs.c.blob_digest, manifest_blobs.c.size_bytes, manifest_blobs.c.media_type)
                .where(manifest_blobs.c.image_id == image_id, manifest_blobs.c.blob_digest != digest, ~ready)
                .order_by(manifest_blobs.c.position)
            ).all()
        return tuple(Descriptor(Digest(row.blob_digest), row.size_bytes, row.media_type) for row in rows)

    def publish_blob(
        self,
        repository: RepositoryName,
        owner: Owner,
        digest: Digest,
        size_bytes: int,
        *,
        boot_id: str,
        now: float,
        makes_repository: bool = True,
        asked_as_nobody: bool = True,
    ) -> None:
        """The verified file is in its place, and all of it came from this owner's upstream for this repository.

        `asked_as_nobody` is false where the upstream knew who asked though it was with no account.
        `makes_repository` is for a fill that found none when it began: one that was deleted since then stays so. One that
        has another owner by now may not read it.
        """
        row = {"digest": digest, "size_bytes": size_bytes, "stored_at": now, "verified_boot": boot_id}

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            upsert(connection, blobs, [row], key=["digest"], update=["size_bytes", "stored_at", "verified_boot"])
            _note_source(connection, digest, source_of(owner), asked_as_nobody=asked_as_nobody)
            if makes_repository:
                repository_id = claim_repository(connection, repository, owner, now, _PULL_THROUGH)
            else:
                repository_id = _repository_id(connection, repository, owner)
            if repository_id is not None:
                grant(connection, repository_id, digest)

        self.database.write(change)

    def grant_blob(self, repository: RepositoryName, owner: Owner, digest: Digest) -> bool:
        """Let the repository read a published blob. False where the blob, or the repository, has gone meanwhile."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS)
            if connection.execute(select(blobs.c.digest).where(blobs.c.digest == digest)).first() is None:
                return False
            repository_id = _repository_id(connection, repository, owner)
            if repository_id is None:
                return False
            grant(connection, repository_id, digest)
            return True

        return self.database.write(change)

    def verify_blob(self, digest: Digest, boot_id: str) -> None:
        """The file was read and found right in this boot."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(update(blobs).where(blobs.c.digest == digest).values(verified_boot=boot_id))

        self.database.write(change)

    def forget_blob(self, digest: Digest) -> None:
        """The bytes are not here, or not right: nobody may read them until they are filled again."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(delete(blobs).where(blobs.c.digest == digest))

        self.database.write(change)

    # Listings, and what is not there

    def find_listing(self, repository: RepositoryName, owner: Owner, kind: str) -> ListingRecord | None:
        """`kind` is `tags` or `referrers:<digest>`."""
        with self.database.reading() as connection:
            row = connection.execute(_FIND_LISTING, {"repository": repository, "owner": owner, "kind": kind}).first()
        return None if row is None else ListingRecord(row.body, row.validated_at)

    def find_listing_time(self, repository: RepositoryName, owner: Owner, kind: str) -> float | None:
        """When the list was last read from the upstream; None where there is none."""
        names = {"repository": repository, "owner": owner, "kind": kind}
        with self.database.reading() as connection:
            validated_at: float | None = connection.execute(_FIND_LISTING_TIME, names).scalar()
        return validated_at

    def save_listing(self, repository: RepositoryName, owner: Owner, kind: str, body: bytes, *, now: float) -> None:
        """Raises NotKept where the catalog is full."""
        key = {"repository": repository, "owner": owner, "kind": kind}
        with self.database.reading() as connection:
            self._refuse_if_full(connection, len(body))
        self._remember(listings, key, {"validated_at": now, "body": body}, MAX_LISTINGS)

    def find_negative(self, repository: RepositoryName, owner: Owner, reference: str) -> float | None:
        """Until when the upstream's 404 for this tag or digest holds; None where there is none that still does."""
        with self.database.reading() as connection:
            until: float | None = connection.execute(
                _FIND_NEGATIVE,
                {"repository": repository, "owner": owner, "reference": reference, "now": self._clock()},
            ).scalar()
        return until

    def save_negative(self, repository: RepositoryName, owner: Owner, reference: str, until: float) -> None:
        key = {"repository": repository, "owner": owner, "reference": reference}
        self._remember(negatives, key, {"until": until}, MAX_NEGATIVES)

    def find_absent_name(self, source: Source, name: str) -> float | None:
        """When the upstream last told this account that it has no repository of this name; None if it did not."""
        with self.database.reading() as connection:
            seen_at: float | None = connection.execute(_FIND_ABSENT_NAME, {"source": source, "name": name}).scalar()
        return seen_at

    def save_absent_name(self, source: Source, name: str, now: float) -> None:
        self._remember(absent_names, {"source": source, "name": name}, {"seen_at": now}, MAX_ABSENT_NAMES)

    def _remember(self, table: Table, key: dict[str, str], values: dict[str, Any], most: int) -> None:
        def change(connection: Connection) -> None:
            connection.execute(delete(table).where(*(table.c[column] == value for column, value in key.items())))
            if table is negatives:
                connection.execute(delete(negatives).where(negatives.c.until <= self._clock()))
            written = connection.execute(insert(table).values(**key, **values)).inserted_primary_key
            assert written is not None  # a single row was inserted
            connection.execute(delete(table).where(table.c.id <= written[0] - most))

        self.database.write(change)

    # Use

    def record_pulls(self, manifests: Mapping[tuple[str, str], float], blobs: Mapping[str, float]) -> None:
        """When manifests, by repository and digest, and blobs were last pulled. An earlier time changes nothing."""
        work = [(_TOUCH_IMAGE, {"b_repository": r, "b_digest": d, "b_at": at}) for (r, d), at in manifests.items()]
        work += [(_TOUCH_BLOB, {"b_digest": digest, "b_at": at}) for digest, at in blobs.items()]
        for start in range(0, len(work), _PULLS_PER_TRANSACTION):
            self.database.write(_touch, work[start : start + _PULLS_PER_TRANSACTION])

    # Repositories, pins, totals

    def tags(
        self, repository: RepositoryName, owner: Owner | None, *, after: str = "", most: int | None = None
    ) -> list[Tag]:
        """The tags that were pulled or pushed, sorted, the first `most` above `after`; not those of archived images, which
        cannot be pulled."""
        query = (
            select(tags.c.name)
            .join(repositories, repositories.c.id == tags.c.repository_id)
            .join(_images, _images.c.id == tags.c.image_id)
            .where(_IS_REPOSITORY, _images.c.archived_at.is_(None), tags.c.name > after)
            .order_by(tags.c.name)
            .limit(most)
        )
        with self.database.reading() as connection:
            names = connection.execute(query, {"repository": repository, "owner": owner})
            return [Tag(name) for name in names.scalars()]

    def has_repository(self, repository: RepositoryName, owner: Owner | None) -> bool:
        """Whether anything of this owner's was ever stored under this name and is not all evicted."""
        with self.database.reading() as connection:
            return connection.execute(_FIND_REPOSITORY, {"repository": repository, "owner": owner}).first() is not None

    def find_owner(self, repository: RepositoryName) -> str | None:
        """Whose the repository is: empty for nobody's yet; None where there is none."""
        statement = select(func.coalesce(repositories.c.owner, "")).where(repositories.c.name == repository)
        with self.database.reading() as connection:
            owner: str | None = connection.execute(statement).scalar()
        return owner

    def repositories(self, last: str, limit: int) -> list[RepositoryName]:
        """Up to `limit` names after `last` (empty for the first page), in byte order."""
        statement = (
            select(repositories.c.name).where(repositories.c.name > last).order_by(repositories.c.name).limit(limit)
        )
        with self.database.reading() as connection:
            return [RepositoryName(name) for name in connection.execute(statement).scalars()]

    def pin(self, repository: RepositoryName, reference: str, now: float) -> None:
        """Keep this tag or digest from being evicted; it need not be stored yet."""
        row = {"repository": repository, "reference": reference, "created_at": now}

        def change(connection: Connection) -> None:
            upsert(connection, pins, [row], key=["repository", "reference"], update=[])

        self.database.write(change)

    def unpin(self, repository: RepositoryName, reference: str) -> bool:
        """False where it was not pinned."""

        def change(connection: Connection) -> bool:
            removed = connection.execute(
                delete(pins).where(pins.c.repository == repository, pins.c.reference == reference)
            )
            return removed.rowcount > 0

        return self.database.write(change)

    def pins(self) -> list[tuple[RepositoryName, str]]:
        statement = select(pins.c.repository, pins.c.reference).order_by(pins.c.repository, pins.c.reference)
        with self.database.reading() as connection:
            return [(RepositoryName(row.repository), row.reference) for row in connection.execute(statement)]

    def stored_bytes(self) -> int:
        """What is stored, in the catalog and beside it."""
        return self.blob_bytes() + self.content_bytes()

    def blob_bytes(self) -> int:
        """What all published blobs take; each once, however many repositories share it."""
        with self.database.reading() as connection:
            return _blob_bytes(connection)

    def content_bytes(self) -> int:
        """What the catalog itself takes: manifests, lists, and what is noted of all."""
        with self.database.reading() as connection:
            return self.database.content_bytes(connection)

    def _refuse_if_full(self, connection: Connection, more_bytes: int) -> None:
        if (
            self.max_content_bytes is not None
            and self.database.content_bytes(connection) + more_bytes > self.max_content_bytes
        ):
            raise NotKept(
                f"there is no room: manifests and lists may take {format_bytes(self.max_content_bytes)}, a part of max_size"
            )

    def totals(self) -> Totals:
        counted = (repositories, manifests, tags, blobs)
        with self.database.reading() as connection:
            count = [int(connection.execute(select(func.count()).select_from(table)).scalar_one()) for table in counted]
            stored = _blob_bytes(connection) + self.database.content_bytes(connection)
        return Totals(count[0], count[1], count[2], count[3], stored)


def _touch(connection: Connection, work: Sequence[tuple[Update, Mapping[str, object]]]) -> None:
    for statement in (_TOUCH_IMAGE, _TOUCH_BLOB):
        rows = [row for wanted, row in work if wanted is statement]
        if rows:
            connection.execute(statement, rows)


def _has_manifest(connection: Connection, digest: Digest) -> bool:
    return connection.execute(select(manifests.c.digest).where(manifests.c.digest == digest)).first() is not None


def _blob_bytes(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(blobs.c.size_bytes), 0))).scalar_one())


def _repository_id(connection: Connection, repository: RepositoryName, owner: Owner) -> int | None:
    found: int | None = connection.execute(_FIND_REPOSITORY, {"repository": repository, "owner": owner}).scalar()
    return found


def _note_source(connection: Connection, digest: Digest, source: Source, *, asked_as_nobody: bool) -> None:
    row = {"digest": digest, "source": source, "is_anonymous": asked_as_nobody and is_anonymous(source)}
    upsert(connection, blob_sources, [row], key=["digest", "source"], update=[])


def _refuse_archived(archived_at: float | None, repository: str, digest: str) -> None:
    if archived_at is not None:
        raise ImageArchived(f"{repository}@{digest} is archived: it can be pulled again when it has been restored")


def save_image(connection: Connection, repository_id: int, digest: Digest, manifest: Manifest, now: float) -> int:
    """The image's id. What a manifest names follows from its digest, and is written with the first link only."""
    mine = select(_images.c.id).where(_images.c.repository_id == repository_id, _images.c.digest == digest)
    found: int | None = connection.execute(mine).scalar()
    values = {"media_type": manifest.media_type, "stored_at": now}
    if found is not None:
        connection.execute(update(_images).where(_images.c.id == found).values(values))
        return found
    connection.execute(
        insert(_images).values(
            repository_id=repository_id,
            digest=digest,
            pushed_at=now,
            size_bytes=sum(blob.size_bytes for blob in manifest.blobs),
            artifact_type=manifest.artifact_type,
            config_media_type=manifest.config.media_type if manifest.config else "",
            subject=manifest.subject.digest if manifest.subject else "",
            **values,
        )
    )
    image_id = int(connection.execute(mine).scalar_one())
    named = [
        {
            "image_id": image_id,
            "blob_digest": blob.digest,
            "repository_id": repository_id,
            "kind": "config" if manifest.config and blob.digest == manifest.config.digest else "layer",
            "position": position,
            "size_bytes": blob.size_bytes,
            "media_type": blob.media_type,
        }
        for position, blob in enumerate(manifest.blobs)
    ]
    if named:
        connection.execute(insert(manifest_blobs), named)
    # An index may list one digest for several platforms.
    children = {child.digest: (position, child.platform) for position, child in enumerate(manifest.children)}
    if children:
        connection.execute(
            insert(manifest_children),
            [
                {
                    "image_id": image_id,
                    "child_digest": child,
                    "repository_id": repository_id,
                    "position": position,
                    "platform": platform,
                }
                for child, (position, platform) in children.items()
            ],
        )
    return image_id


def save_tag(connection: Connection, repository_id: int, tag: Tag, image_id: int, now: float) -> bool:
    mine = (tags.c.repository_id == repository_id, tags.c.name == tag)
    before = connection.execute(select(tags.c.image_id).where(*mine)).scalar()
    if before is not None and before != image_id and not may_move_tag(connection, repository_id, tag):
        image_id = before
    row = {
        "repository_id": repository_id,
        "name": tag,
        "image_id": image_id,
        "validated_at": now,
        "forced_at": 0.0,
        "gone_at": None,
    }
    upsert(connection, tags, [row], key=["repository_id", "name"], update=["image_id", "validated_at", "gone_at"])
    return before != image_id


def grant(connection: Connection, repository_id: int, digest: Digest) -> None:
    row = {"repository_id": repository_id, "digest": digest}
    upsert(connection, repository_blobs, [row], key=["repository_id", "digest"], update=[])


def _is_tag(repository: str, owner: Owner, tag: str) -> Any:
    mine = (repositories.c.name == repository) & (repositories.c.owner == owner)
    of = select(repositories.c.id).where(mine).scalar_subquery()
    return (tags.c.repository_id == of) & (tags.c.name == tag)
