"""Which blobs are published, and which repository may read them.

A row is written after its file is in its place, and removed before the file is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, exists, func, or_, select, update

from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import Descriptor
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import OWN, Owner, Source, is_anonymous, source_of
from pullthrough.storage.catalog.claims import FIND_REPOSITORY, PULL_THROUGH, claim_repository, find_repository_id
from pullthrough.storage.catalog.records import BlobKind, BlobRecord, StoredBlob
from pullthrough.storage.sql.database import Database, Topic, note_change, upsert
from pullthrough.storage.sql.parts import PART, in_parts
from pullthrough.storage.sql.schema import blob_sources, blobs, manifest_blobs, repository_blobs, repository_manifests

_images = repository_manifests
last_used = func.coalesce(blobs.c.pulled_at, blobs.c.stored_at)
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


class BlobRows:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError.

    `owner` is as in ManifestRows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_blob(self, repository: RepositoryName, owner: Owner | None, digest: Digest) -> BlobRecord:
        """What is known of the blob from this repository's side; never None."""
        with self._database.reading() as connection:
            found = connection.execute(FIND_REPOSITORY, {"repository": repository, "owner": owner}).first()
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

    def siblings(self, repository: RepositoryName, owner: Owner, digest: Digest) -> tuple[Descriptor, ...]:
        """What a pull of this layer will ask for next: the other blobs of its image that are not ready to be read.

        The image is the most recently stored one of the repository in which `digest` is a layer; its config comes
        first, then its layers in their order. Empty where there is none.
        """
        with self._database.reading() as connection:
            repository_id = connection.execute(FIND_REPOSITORY, {"repository": repository, "owner": owner}).scalar()
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
                repository_id = claim_repository(connection, repository, owner, now, PULL_THROUGH)
            else:
                repository_id = find_repository_id(connection, repository, owner)
            if repository_id is not None:
                grant(connection, repository_id, digest)

        self._database.write(change)

    def grant_blob(self, repository: RepositoryName, owner: Owner, digest: Digest) -> bool:
        """Let the repository read a published blob. False where the blob, or the repository, has gone meanwhile."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS)
            if connection.execute(select(blobs.c.digest).where(blobs.c.digest == digest)).first() is None:
                return False
            repository_id = find_repository_id(connection, repository, owner)
            if repository_id is None:
                return False
            grant(connection, repository_id, digest)
            return True

        return self._database.write(change)

    def verify_blob(self, digest: Digest, boot_id: str) -> None:
        """The file was read and found right in this boot."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(update(blobs).where(blobs.c.digest == digest).values(verified_boot=boot_id))

        self._database.write(change)

    def forget_blob(self, digest: Digest) -> None:
        """The bytes are not here, or not right: nobody may read them until they are filled again."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            connection.execute(delete(blobs).where(blobs.c.digest == digest))

        self._database.write(change)

    def stored_blobs(self) -> Iterator[StoredBlob]:
        """Every published blob, by digest; read in pages."""
        statement = select(blobs.c.digest, blobs.c.size_bytes, last_used)
        for row in self._database.read_pages(statement, blobs.c.digest, PART):
            yield StoredBlob(Digest(row[0]), row[1], row[2])

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


def _adopt(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    note_change(connection, Topic.ANSWERS)
    upsert(connection, blobs, rows, key=["digest"], update=[])


def _note_source(connection: Connection, digest: Digest, source: Source, *, asked_as_nobody: bool) -> None:
    row = {"digest": digest, "source": source, "is_anonymous": asked_as_nobody and is_anonymous(source)}
    upsert(connection, blob_sources, [row], key=["digest", "source"], update=[])


def grant(connection: Connection, repository_id: int, digest: Digest) -> None:
    row = {"repository_id": repository_id, "digest": digest}
    upsert(connection, repository_blobs, [row], key=["repository_id", "digest"], update=[])
