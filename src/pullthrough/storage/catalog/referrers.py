"""Manifests by their subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import parse_manifest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import manifests, repositories, repository_manifests

#: What one page of referrers costs to read, at most.
MAX_REFERRERS_A_PAGE = 1000
MAX_REFERRER_BYTES = 4 * 1024 * 1024

_images = repository_manifests


@dataclass(frozen=True, slots=True)
class Referrer:
    """`descriptor` as an index has it."""

    descriptor: dict[str, Any]
    is_archived: bool


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    referrers: tuple[Referrer, ...]
    #: The last one's digest where more follow it, else empty.
    last: str


class Referrers:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self,
        repository: RepositoryName,
        subject: Digest,
        *,
        types: Sequence[str] = (),
        archived: bool | None = False,
        after: str = "",
        most: int = MAX_REFERRERS_A_PAGE,
        owner: Owner | None = None,
    ) -> ReferrersPage:
        """The manifests whose subject it is, whether or not it is there, by digest: of these artifact types, or all; those
        that are archived, those that are not, or both; of this owner, or of whoever has the repository.

        A page has `most`, or as many as have MAX_REFERRER_BYTES together, for their annotations are read from them.

        https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers
        """
        statement = (
            select(
                _images.c.digest,
                _images.c.media_type,
                _images.c.artifact_type,
                _images.c.archived_at.is_not(None).label("is_archived"),
                func.length(manifests.c.body).label("size_bytes"),
            )
            .join(repositories, repositories.c.id == _images.c.repository_id)
            .join(manifests, manifests.c.digest == _images.c.digest)
            .where(repositories.c.name == repository, _images.c.subject == subject, _images.c.digest > after)
            .order_by(_images.c.digest)
            .limit(most + 1)
        )
        if types:
            statement = statement.where(_images.c.artifact_type.in_(types))
        if owner is not None:
            statement = statement.where(repositories.c.owner == owner)
        if archived is not None:
            statement = statement.where(
                _images.c.archived_at.is_not(None) if archived else _images.c.archived_at.is_(None)
            )
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
            page: list[Any] = []
            taken_bytes = 0
            for row in rows[:most]:
                taken_bytes += row.size_bytes
                if page and taken_bytes > MAX_REFERRER_BYTES:
                    break
                page.append(row)
            bodies: dict[str, bytes] = {}
            for part in in_parts(row.digest for row in page):
                found = connection.execute(
                    select(manifests.c.digest, manifests.c.body).where(manifests.c.digest.in_(part))
                )
                bodies.update((row.digest, row.body) for row in found)
        referrers = tuple(Referrer(_descriptor(row, bodies[row.digest]), row.is_archived) for row in page)
        return ReferrersPage(referrers, page[-1].digest if len(page) < len(rows) else "")


def _descriptor(row: Any, body: bytes) -> dict[str, Any]:
    descriptor: dict[str, Any] = {"mediaType": row.media_type, "digest": row.digest, "size": len(body)}
    if row.artifact_type:
        descriptor["artifactType"] = row.artifact_type
    annotations = parse_manifest(body, row.media_type).annotations
    if annotations:
        descriptor["annotations"] = annotations
    return descriptor
