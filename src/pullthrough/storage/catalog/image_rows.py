"""Images and tags put into a repository and taken out of it, within somebody's transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from sqlalchemy import Connection, delete, exists, insert, select, tuple_, update

from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import Manifest
from pullthrough.oci.names import Tag
from pullthrough.storage.sql.database import upsert
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import (
    listings,
    manifest_blobs,
    manifest_children,
    manifests,
    repositories,
    repository_blobs,
    repository_manifests,
    tags,
)

#: As the API spells them: {"filterType": "WILDCARD", "filter": "latest*"}.
MutabilityFilters = Sequence[Mapping[str, str]]

_images = repository_manifests


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


def delete_images(connection: Connection, image_ids: Collection[int], *, now: float | None) -> None:
    """Delete images of whatever repository, with their tags, and the manifests that no repository has any more.

    Their blobs are loose from `now` on; None leaves that to the caller. To be called within `Database.write`; whether
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


def is_immutable(mutability: str, filters: MutabilityFilters, tag: str) -> bool:
    """Whether a tag, once set, may not come to name another image.

    The filters exempt tags: from being immutable, or, for MUTABLE_WITH_EXCLUSION, from being mutable.
    """
    exempt = any(_matches(tag, entry["filter"]) for entry in filters)
    match mutability:
        case "IMMUTABLE":
            return True
        case "IMMUTABLE_WITH_EXCLUSION":
            return not exempt
        case "MUTABLE_WITH_EXCLUSION":
            return exempt
    return False


def may_move_tag(connection: Connection, repository_id: int, tag: str) -> bool:
    """Whether this repository lets the tag, if it is set, come to name another image."""
    row = connection.execute(
        select(repositories.c.tag_mutability, repositories.c.mutability_filters).where(
            repositories.c.id == repository_id
        )
    ).one()
    return row.tag_mutability == "MUTABLE" or not is_immutable(
        row.tag_mutability, json.loads(row.mutability_filters), tag
    )


def _matches(tag: str, pattern: str) -> bool:
    # `*` is the only wildcard of the API's grammar, which has neither `?` nor `[`.
    return fnmatchcase(tag, pattern)


def repositories_of(connection: Connection, image_ids: Collection[int]) -> list[int]:
    return [
        row[0]
        for part in in_parts(image_ids)
        for row in connection.execute(select(_images.c.repository_id).distinct().where(_images.c.id.in_(part)))
    ]


def remove_empty(connection: Connection, repository_ids: Iterable[int]) -> None:
    for part in in_parts(set(repository_ids)):
        connection.execute(
            delete(repositories).where(
                repositories.c.id.in_(part),
                ~repositories.c.kept,
                ~exists().where(_images.c.repository_id == repositories.c.id),
                ~exists().where(repository_blobs.c.repository_id == repositories.c.id),
            )
        )
