"""What clients push and delete: the catalog's part. A method is one transaction, but for `collect_blobs`; times are
seconds since the epoch.

A blob that is pushed to a repository may be read there at once, and is loose until a manifest names it. What has been
loose for a day is collected; so are the blobs of deleted images.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    and_,
    bindparam,
    case,
    delete,
    exists,
    or_,
    select,
    update,
)

from pullthrough.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    PushRefused,
    StillReferenced,
    TagImmutable,
)
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import Manifest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.oci.owners import OWN, Owner
from pullthrough.storage.catalog.blob_rows import grant
from pullthrough.storage.catalog.claims import CREATE_ON_PUSH, claim_repository
from pullthrough.storage.catalog.image_rows import delete_images, may_move_tag, save_image, save_tag
from pullthrough.storage.catalog.records import StoredBlob
from pullthrough.storage.catalog.templates import find_template
from pullthrough.storage.sql.database import Database, Topic, note_change, upsert
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import (
    blobs,
    manifest_blobs,
    manifest_children,
    manifests,
    negatives,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)

#: Repositories of which one may lend a blob to an anonymous mount.
_MAX_HOLDERS = 100
_images = repository_manifests
_FIND = select(repositories.c.id, repositories.c.owner).where(repositories.c.name == bindparam("repository"))


@dataclass(frozen=True, slots=True)
class PushedManifest:
    digest: Digest
    media_type: str
    artifact_type: str
    subject: Digest | None


@dataclass(frozen=True, slots=True)
class DeletedImage:
    digest: Digest
    media_type: str
    artifact_type: str
    #: The tags that went, sorted.
    tags: tuple[Tag, ...]


class Pushed:
    """Safe to use from many threads and processes; not across a fork. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def may_create(self, repository: RepositoryName) -> bool:
        """Whether the repository is there, or a creation template lets a push make it."""
        with self._database.reading() as connection:
            there = connection.execute(_FIND, {"repository": repository}).first() is not None
            return there or find_template(connection, repository, CREATE_ON_PUSH) is not None

    # Blobs

    def publish_blob(
        self, repository: RepositoryName, digest: Digest, size_bytes: int, *, boot_id: str, now: float
    ) -> None:
        """The verified file is in its place, and was pushed to this repository, which is made where it is missing."""
        row = {"digest": digest, "size_bytes": size_bytes, "stored_at": now, "verified_boot": boot_id}

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            repository_id = _keep_repository(connection, repository, now)
            upsert(connection, blobs, [row], key=["digest"], update=["size_bytes", "stored_at", "verified_boot"])
            _grant_loose(connection, repository_id, [digest], now)

        self._database.write(change)

    def holders(self, digest: Digest) -> list[RepositoryName]:
        """The repositories that may read the blob; some of them, where they are many."""
        statement = (
            select(repositories.c.name)
            .join(repository_blobs, repository_blobs.c.repository_id == repositories.c.id)
            .where(repository_blobs.c.digest == digest)
            .order_by(repositories.c.name)
            .limit(_MAX_HOLDERS)
        )
        with self._database.reading() as connection:
            return [RepositoryName(name) for name in connection.execute(statement).scalars()]

    def mount_blob(
        self, repository: RepositoryName, digest: Digest, *, source: RepositoryName, owner: Owner | None, now: float
    ) -> bool:
        """Let the repository read what `source` may read. False where that may not, or is another owner's; None takes
        whoever has it."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS)
            found = connection.execute(_FIND, {"repository": source}).first()
            if found is None or owner not in (None, found.owner) or not _granted(connection, found.id, [digest]):
                return False
            repository_id = _keep_repository(connection, repository, now)
            _grant_loose(connection, repository_id, [digest], now)
            return True

        return self._database.write(change)

    def grant_named(self, repository: RepositoryName, digest: Digest) -> bool:
        """Let the repository read a blob that one of its pushed manifests names, which it had when that was pushed.

        Its right is lost with the blob's row, when a file was damaged, and the blob may be back since. False where no
        pushed manifest names it, or only as a layer that need not have been here.
        """
        named = (
            select(_images.c.repository_id)
            .join(manifest_blobs, manifest_blobs.c.image_id == _images.c.id)
            .join(repositories, repositories.c.id == _images.c.repository_id)
            .where(
                repositories.c.name == repository,
                _images.c.is_pushed,
                manifest_blobs.c.blob_digest == digest,
                manifest_blobs.c.media_type.not_in(media_types.NON_DISTRIBUTABLE),
            )
            .limit(1)
        )

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS)
            repository_id = connection.execute(named).scalar()
            there = connection.execute(select(blobs.c.digest).where(blobs.c.digest == digest)).first()
            if repository_id is None or there is None:
                return False
            grant(connection, repository_id, digest)
            return True

        return self._database.write(change)

    def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Take the blob out of the repository; other repositories keep it.

        Raises BlobUnknown where the repository does not have it, StillReferenced where one of its manifests names it.
        """

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS)
            repository_id = connection.execute(_FIND, {"repository": repository}).scalar()
            if repository_id is None or not _granted(connection, repository_id, [digest]):
                raise BlobUnknown(f"{repository} does not have the blob {digest}")
            naming = connection.execute(
                select(_images.c.digest)
                .join(manifest_blobs, manifest_blobs.c.image_id == _images.c.id)
                .where(manifest_blobs.c.blob_digest == digest, manifest_blobs.c.repository_id == repository_id)
                .limit(1)
            ).scalar()
            if naming is not None:
                raise StillReferenced(f"{digest} belongs to the image {repository}@{naming}: delete that first")
            connection.execute(delete(repository_blobs).where(*_is_grant(repository_id, digest)))

        self._database.write(change)

    # Manifests

    def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        body: bytes,
        manifest: Manifest,
        *,
        tag: Tag | None,
        now: float,
    ) -> PushedManifest:
        """Store a pushed manifest and point the tag at it; the repository is made where it is missing. It, and the
        children of an index, are in the archive no more.

        Raises ManifestBlobUnknown where the repository lacks a blob or a manifest that it names (but for the subject,
        and for layers that need not be distributed), TagImmutable where the tag may not be moved.
        """

        def change(connection: Connection) -> PushedManifest:
            note_change(connection, Topic.ANSWERS)
            repository_id = _keep_repository(connection, repository, now)
            _check_content(connection, repository, repository_id, manifest)
            mine = (_images.c.repository_id == repository_id, _images.c.digest == digest)
            before = connection.execute(select(_images.c.id).where(*mine)).scalar()
            if tag is not None:
                _check_tag(connection, repository, repository_id, tag, before)
            upsert(connection, manifests, [{"digest": digest, "body": body}], key=["digest"], update=["body"])
            image_id = save_image(connection, repository_id, digest, manifest, now)
            # Who pushes an archived image again wants it to be pulled.
            for part in in_parts([digest, *(child.digest for child in manifest.children)]):
                connection.execute(
                    update(_images)
                    .where(_images.c.repository_id == repository_id, _images.c.digest.in_(part))
                    .values(
                        is_pushed=True,
                        archived_at=None,
                        activated_at=case((_images.c.archived_at.is_not(None), now), else_=_images.c.activated_at),
                    )
                )
            if tag is not None:
                save_tag(connection, repository_id, tag, image_id, now)
            references = [digest, tag] if tag else [digest]
            connection.execute(
                delete(negatives).where(negatives.c.repository == repository, negatives.c.reference.in_(references))
            )
            subject = manifest.subject.digest if manifest.subject else None
            return PushedManifest(digest, manifest.media_type, manifest.artifact_type, subject)

        return self._database.write(change)

    def delete_manifest(self, repository: RepositoryName, digest: Digest, *, now: float) -> DeletedImage:
        """Delete an image and its tags. Raises ManifestUnknown, or StillReferenced where an index has it as a child."""

        def change(connection: Connection) -> DeletedImage:
            note_change(connection, Topic.ANSWERS)
            row = connection.execute(
                select(_images.c.id, _images.c.repository_id, _images.c.media_type, _images.c.artifact_type)
                .join(repositories, repositories.c.id == _images.c.repository_id)
                .where(repositories.c.name == repository, _images.c.digest == digest)
            ).first()
            if row is None:
                raise ManifestUnknown(f"{repository} does not have the manifest {digest}")
            index = connection.execute(
                select(_images.c.digest)
                .join(manifest_children, manifest_children.c.image_id == _images.c.id)
                .where(
                    manifest_children.c.child_digest == digest,
                    manifest_children.c.repository_id == row.repository_id,
                )
                .limit(1)
            ).scalar()
            if index is not None:
                raise StillReferenced(f"{digest} belongs to the index {repository}@{index}: delete that first")
            names = connection.execute(select(tags.c.name).where(tags.c.image_id == row.id).order_by(tags.c.name))
            deleted = DeletedImage(
                digest, row.media_type, row.artifact_type, tuple(Tag(name) for name in names.scalars())
            )
            delete_images(connection, [row.id], now=now)
            return deleted

        return self._database.write(change)

    def delete_tag(self, repository: RepositoryName, tag: Tag) -> DeletedImage:
        """Delete a tag; its manifest stays, by its digest. Raises ManifestUnknown."""

        def change(connection: Connection) -> DeletedImage:
            note_change(connection, Topic.ANSWERS)
            row = connection.execute(
                select(tags.c.repository_id, _images.c.digest, _images.c.media_type, _images.c.artifact_type)
                .join(repositories, repositories.c.id == tags.c.repository_id)
                .join(_images, _images.c.id == tags.c.image_id)
                .where(repositories.c.name == repository, tags.c.name == tag)
            ).first()
            if row is None:
                raise ManifestUnknown(f"{repository} does not have the tag {tag}")
            connection.execute(delete(tags).where(tags.c.repository_id == row.repository_id, tags.c.name == tag))
            return DeletedImage(Digest(row.digest), row.media_type, row.artifact_type, (tag,))

        return self._database.write(change)

    # Collection

    def collect_blobs(self, *, loose_since: float, in_use: Container[Digest]) -> list[StoredBlob]:
        """Take out what has been loose in a repository since then, and what no repository may read any more.

        Returns the blobs that are gone from the catalog: the caller removes their files after this.
        """
        named_here = exists().where(
            manifest_blobs.c.blob_digest == repository_blobs.c.digest,
            manifest_blobs.c.repository_id == repository_blobs.c.repository_id,
        )
        is_loose = and_(repository_blobs.c.loose_at <= loose_since, ~named_here)
        is_nobodys = and_(
            ~exists().where(repository_blobs.c.digest == blobs.c.digest),
            ~exists().where(manifest_blobs.c.blob_digest == blobs.c.digest),
            blobs.c.stored_at <= loose_since,
            or_(blobs.c.pulled_at.is_(None), blobs.c.pulled_at <= loose_since),
        )
        # Looked for before anything is written, and judged again then: writers wait only for what really goes.
        with self._database.reading() as connection:
            loose = set(connection.execute(select(repository_blobs.c.digest).where(is_loose)).scalars())
        for part in in_parts(loose):
            self._database.write(
                _execute, delete(repository_blobs).where(repository_blobs.c.digest.in_(part), is_loose)
            )
        with self._database.reading() as connection:
            nobodys = list(connection.execute(select(blobs.c.digest).where(is_nobodys)).scalars())
        gone: list[StoredBlob] = []
        for part in in_parts(digest for digest in nobodys if digest not in in_use):
            gone += self._database.write(_remove_blobs, and_(blobs.c.digest.in_(part), is_nobodys))
        return gone


def _execute(connection: Connection, statement: Delete) -> None:
    note_change(connection, Topic.ANSWERS)
    connection.execute(statement)


def _remove_blobs(connection: Connection, wanted: ColumnElement[bool]) -> list[StoredBlob]:
    note_change(connection, Topic.ANSWERS)
    rows = connection.execute(select(blobs.c.digest, blobs.c.size_bytes, blobs.c.stored_at).where(wanted)).all()
    connection.execute(delete(blobs).where(blobs.c.digest.in_([row.digest for row in rows])))
    return [StoredBlob(Digest(row[0]), row[1], row[2]) for row in rows]


def _keep_repository(connection: Connection, repository: RepositoryName, now: float) -> int:
    """The repository, made where it is missing. Who pushes wants it to stay when its last image goes.

    Raises PushRefused where what is in it came from an upstream.
    """
    repository_id = claim_repository(connection, repository, OWN, now, CREATE_ON_PUSH)
    if repository_id is None:
        raise PushRefused(
            f"{repository} holds what a pull-through cache rule that is gone has filled: nothing is pushed to it",
            hint="delete the repository first, or push to another name",
        )
    kept = (repositories.c.id == repository_id) & ~repositories.c.kept
    connection.execute(update(repositories).where(kept).values(kept=True))
    return repository_id


def _grant_loose(connection: Connection, repository_id: int, digests: Sequence[Digest], now: float) -> None:
    rows = [{"repository_id": repository_id, "digest": digest, "loose_at": now} for digest in digests]
    upsert(connection, repository_blobs, rows, key=["repository_id", "digest"], update=["loose_at"])


def _granted(connection: Connection, repository_id: int, digests: Collection[Digest]) -> set[str]:
    found: set[str] = set()
    for part in in_parts(digests):
        found.update(
            connection.execute(
                select(repository_blobs.c.digest).where(
                    repository_blobs.c.repository_id == repository_id, repository_blobs.c.digest.in_(part)
                )
            ).scalars()
        )
    return found


def _is_grant(repository_id: int, digest: Digest) -> tuple[Any, Any]:
    return (repository_blobs.c.repository_id == repository_id, repository_blobs.c.digest == digest)


def _check_content(connection: Connection, repository: RepositoryName, repository_id: int, manifest: Manifest) -> None:
    wanted = [blob.digest for blob in manifest.blobs if blob.media_type not in media_types.NON_DISTRIBUTABLE]
    there = _granted(connection, repository_id, wanted)
    missing = tuple(digest for digest in wanted if digest not in there)
    if missing:
        raise ManifestBlobUnknown(
            f"{repository} does not have {_some(missing)}, which the manifest names: push the blobs first",
            blobs=missing,
        )
    children = {child.digest for child in manifest.children}
    for part in in_parts(list(children)):
        children -= {
            Digest(digest)
            for digest in connection.execute(
                select(_images.c.digest).where(_images.c.repository_id == repository_id, _images.c.digest.in_(part))
            ).scalars()
        }
    if children:
        absent = tuple(sorted(children))
        raise ManifestBlobUnknown(
            f"{repository} does not have {_some(absent)}, which the index names: push its manifests first",
            manifests=absent,
        )


def _some(digests: Sequence[str]) -> str:
    return ", ".join(digests[:3]) + (f" and {len(digests) - 3} more" if len(digests) > 3 else "")


def _check_tag(
    connection: Connection, repository: RepositoryName, repository_id: int, tag: Tag, image_id: int | None
) -> None:
    named = connection.execute(
        select(tags.c.image_id).where(tags.c.repository_id == repository_id, tags.c.name == tag)
    ).scalar()
    if named is not None and named != image_id and not may_move_tag(connection, repository_id, tag):
        raise TagImmutable(
            f"The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because "
            "the repository is immutable."
        )
