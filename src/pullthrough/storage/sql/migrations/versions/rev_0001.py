"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repositories",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "manifests",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "repository_manifests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), nullable=False),
        sa.Column("digest", sa.String, sa.ForeignKey("manifests.digest"), nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("stored_at", sa.Float, nullable=False),
        sa.Column("pulled_at", sa.Float),
        sa.UniqueConstraint("repository_id", "digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("repository_manifests_by_digest", "repository_manifests", ["digest"])
    op.create_table(
        "tags",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        _image(nullable=False),
        sa.Column("validated_at", sa.Float, nullable=False),
        sa.Column("forced_at", sa.Float, nullable=False),
        sa.Column("gone_at", sa.Float),
    )
    op.create_index("tags_by_image", "tags", ["image_id"])
    op.create_table(
        "manifest_blobs",
        _image(primary_key=True),
        sa.Column("blob_digest", sa.String, primary_key=True),
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
    )
    op.create_index("manifest_blobs_by_blob", "manifest_blobs", ["blob_digest", "repository_id"])
    op.create_table(
        "manifest_children",
        _image(primary_key=True),
        sa.Column("child_digest", sa.String, primary_key=True),
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("platform", sa.String, nullable=False),
    )
    op.create_index("manifest_children_by_child", "manifest_children", ["child_digest", "repository_id"])
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("stored_at", sa.Float, nullable=False),
        sa.Column("pulled_at", sa.Float),
        sa.Column("verified_boot", sa.String, nullable=False),
    )
    op.create_table(
        "repository_blobs",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id"), primary_key=True),
        sa.Column("digest", sa.String, sa.ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("repository_blobs_by_digest", "repository_blobs", ["digest"])
    op.create_table(
        "listings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("repository", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("validated_at", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("repository", "kind"),
    )
    op.create_table(
        "negatives",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("repository", sa.String, nullable=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.UniqueConstraint("repository", "reference"),
    )
    op.create_index("negatives_by_end", "negatives", ["until"])
    op.create_table(
        "absent_names",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("upstream", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.UniqueConstraint("upstream", "name"),
    )
    op.create_table(
        "pins",
        sa.Column("repository", sa.String, primary_key=True),
        sa.Column("reference", sa.String, primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )


def _image(*, primary_key: bool = False, nullable: bool = True) -> sa.Column[int]:
    key = sa.ForeignKey("repository_manifests.id", ondelete="CASCADE")
    return sa.Column("image_id", sa.Integer, key, primary_key=primary_key, nullable=nullable and not primary_key)
