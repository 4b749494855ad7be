"""Taking images out of the catalog: what goes with them, whoever deletes them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, delete, exists, select, tuple_, update

from pullthrough.storage.schema import (
    listings,
    manifest_blobs,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
)
from pullthrough.storage.sql.parts import in_parts

_images = repository_manifests


def delete_images(connection: Connection, image_ids: Collection[int], *, now: float | None) -> None:
    """Delete images of whatever repository, with their tags, and the manifests that no repository has any more.

    Their blobs are loose from `now` on; None leaves that to the caller. To be called within `Database.writing`; whether
    the images may go is the caller's question.
    """
    for part in in_parts(image_ids):
        rows = connection.execute(
            select(_images.c.digest, repositories.c.name)
            .join(repositories, repositories.c.id == _images.c.repository_id)
            .where(_images.c.id.in_(part))
        ).all()
        if now is not None:
            named = select(manifest_blobs.c.repository_id, manifest_blobs.c.blob_digest).where(
                manifest_blobs.c.image_id.in_(part)
            )
            # By their key: asked with EXISTS, SQLite would read every repository's blobs.
            is_named = tuple_(repository_blobs.c.repository_id, repository_blobs.c.digest).in_(named)
            connection.execute(update(repository_blobs).where(is_named).values(loose_at=now))
        for digest, name in rows:
            connection.execute(
                delete(listings).where(listings.c.repository == name, listings.c.kind == f"referrers:{digest}")
            )
        connection.execute(delete(_images).where(_images.c.id.in_(part)))
        kept = exists().where(_images.c.digest == manifests.c.digest)
        connection.execute(delete(manifests).where(manifests.c.digest.in_({row.digest for row in rows}), ~kept))
