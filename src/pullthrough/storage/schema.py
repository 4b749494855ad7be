"""The catalog's tables. `migrations/` makes them; a test holds the two together.

Bodies come last in their rows, so that SQLite reads the columns before them without the body's pages.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

#: Every revision a catalog may be at, oldest first; the last is this version's.
REVISIONS = ("0001",)

metadata = MetaData()

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("digest", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

#: An image: a manifest in a repository. The media type is the repository's own, for bodies that do not name theirs.
repository_manifests = Table(
    "repository_manifests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository_id", ForeignKey("repositories.id"), nullable=False),
    Column("digest", ForeignKey("manifests.digest"), nullable=False),
    Column("media_type", String, nullable=False),
    Column("stored_at", Float, nullable=False),
    Column("pulled_at", Float),
    UniqueConstraint("repository_id", "digest"),
    Index("repository_manifests_by_digest", "digest"),
    # Eviction keeps ids over several transactions: one that is gone must never come to mean another image.
    sqlite_autoincrement=True,
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", ForeignKey("repositories.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("image_id", ForeignKey("repository_manifests.id", ondelete="CASCADE"), nullable=False),
    Column("validated_at", Float, nullable=False),
    Column("forced_at", Float, nullable=False),
    Column("gone_at", Float),
    Index("tags_by_image", "image_id"),
)

#: `repository_id` repeats the image's, so that "does this repository name this blob" is one look into one index.
manifest_blobs = Table(
    "manifest_blobs",
    metadata,
    Column("image_id", ForeignKey("repository_manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("blob_digest", String, primary_key=True),
    Column("repository_id", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("media_type", String, nullable=False),
    Index("manifest_blobs_by_blob", "blob_digest", "repository_id"),
)

manifest_children = Table(
    "manifest_children",
    metadata,
    Column("image_id", ForeignKey("repository_manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("child_digest", String, primary_key=True),
    Column("repository_id", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("platform", String, nullable=False),
    Index("manifest_children_by_child", "child_digest", "repository_id"),
)

#: Published blobs only.
blobs = Table(
    "blobs",
    metadata,
    Column("digest", String, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("stored_at", Float, nullable=False),
    Column("pulled_at", Float),
    Column("verified_boot", String, nullable=False),
)

#: Which repository may read which published blob.
repository_blobs = Table(
    "repository_blobs",
    metadata,
    Column("repository_id", ForeignKey("repositories.id"), primary_key=True),
    Column("digest", ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    Index("repository_blobs_by_digest", "digest"),
)

# What follows is kept by name: asking for a thing must not make its repository exist. `id` grows with each write, so
# that the oldest rows are found without counting.

listings = Table(
    "listings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("validated_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("repository", "kind"),
)

negatives = Table(
    "negatives",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("until", Float, nullable=False),
    UniqueConstraint("repository", "reference"),
    Index("negatives_by_end", "until"),
)

absent_names = Table(
    "absent_names",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("upstream", String, nullable=False),
    Column("name", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    UniqueConstraint("upstream", "name"),
)

pins = Table(
    "pins",
    metadata,
    Column("repository", String, primary_key=True),
    Column("reference", String, primary_key=True),
    Column("created_at", Float, nullable=False),
)
