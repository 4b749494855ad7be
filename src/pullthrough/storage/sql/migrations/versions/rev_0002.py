"""What the ECR and Secrets Manager APIs set up, and what they tell of images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pullthrough.errors import ManifestInvalid
from pullthrough.oci.manifests import parse_manifest

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_images = sa.table(
    "repository_manifests",
    *(
        sa.column(name)
        for name in (
            "id",
            "digest",
            "media_type",
            "stored_at",
            "pushed_at",
            "size_bytes",
            "artifact_type",
            "config_media_type",
            "subject",
        )
    ),
)
_manifests = sa.table("manifests", sa.column("digest"), sa.column("body"))


def upgrade() -> None:
    _add_repository_columns()
    _add_image_columns()
    op.create_index("repository_manifests_by_subject", "repository_manifests", ["repository_id", "subject"])
    op.add_column("repository_blobs", sa.Column("loose_at", sa.Float))
    _describe_images(op.get_bind())
    op.create_table(
        "cache_rules",
        sa.Column("prefix", sa.String, primary_key=True),
        sa.Column("upstream_registry_url", sa.String, nullable=False),
        sa.Column("upstream_registry", sa.String),
        sa.Column("upstream_repository_prefix", sa.String),
        sa.Column("credential_arn", sa.String),
        sa.Column("custom_role_arn", sa.String),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_table(
        "creation_templates",
        sa.Column("prefix", sa.String, primary_key=True),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_table(
        "registry_documents",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    op.create_table(
        "pull_time_exclusions",
        sa.Column("principal_arn", sa.String, primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "resource_tags",
        sa.Column("resource", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "lifecycle_previews",
        sa.Column("repository_id", sa.Integer, sa.ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("expiring", sa.Integer, nullable=False),
        sa.Column("transitioning", sa.Integer, nullable=False),
    )
    op.create_table(
        "lifecycle_preview_images",
        sa.Column(
            "repository_id",
            sa.Integer,
            sa.ForeignKey("lifecycle_previews.repository_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("tags", sa.String, nullable=False),
        sa.Column("pushed_at", sa.Float, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("arn", sa.String, nullable=False, unique=True),
        sa.Column("description", sa.String),
        sa.Column("kms_key_id", sa.String),
        sa.Column("policy", sa.String),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.Column("accessed_at", sa.Float),
        sa.Column("deleted_at", sa.Float),
        sa.Column("delete_due_at", sa.Float),
    )
    op.create_table(
        "secret_versions",
        _secret(),
        sa.Column("version_id", sa.String, primary_key=True),
        sa.Column("is_binary", sa.Boolean, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("accessed_at", sa.Float),
    )
    op.create_table(
        "secret_stages",
        _secret(),
        sa.Column("stage", sa.String, primary_key=True),
        sa.Column("version_id", sa.String, nullable=False),
    )
    op.create_table(
        "access_keys",
        sa.Column("access_key_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("due_at", sa.Float),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_due", "events", ["due_at"])


def _add_repository_columns() -> None:
    for column in (
        sa.Column("kept", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("tag_mutability", sa.String, nullable=False, server_default="MUTABLE"),
        sa.Column("mutability_filters", sa.String, nullable=False, server_default="[]"),
        sa.Column("encryption", sa.String, nullable=False, server_default='{"encryptionType":"AES256"}'),
        sa.Column("scan_on_push", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("policy", sa.String),
        sa.Column("lifecycle_policy", sa.String),
        sa.Column("lifecycle_evaluated_at", sa.Float),
    ):
        op.add_column("repositories", column)


def _add_image_columns() -> None:
    for column in (
        sa.Column("pushed_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("is_pushed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("size_bytes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("artifact_type", sa.String, nullable=False, server_default=""),
        sa.Column("config_media_type", sa.String, nullable=False, server_default=""),
        sa.Column("subject", sa.String, nullable=False, server_default=""),
        sa.Column("archived_at", sa.Float),
        sa.Column("activated_at", sa.Float),
    ):
        op.add_column("repository_manifests", column)


def _secret() -> sa.Column[str]:
    return sa.Column("secret", sa.String, sa.ForeignKey("secrets.name", ondelete="CASCADE"), primary_key=True)


def _describe_images(connection: sa.Connection) -> None:
    """What the new columns say of the images that are there, from their manifests."""
    connection.execute(_images.update().values(pushed_at=_images.c.stored_at))
    rows = connection.execute(sa.select(_images.c.id, _images.c.digest, _images.c.media_type)).all()
    for image_id, digest, media_type in rows:
        body = connection.execute(sa.select(_manifests.c.body).where(_manifests.c.digest == digest)).scalar()
        if body is None:
            continue
        try:
            manifest = parse_manifest(body, media_type)
        except ManifestInvalid:
            continue  # `check` finds and says it
        connection.execute(
            _images.update()
            .where(_images.c.id == image_id)
            .values(
                size_bytes=sum(blob.size_bytes for blob in manifest.blobs),
                artifact_type=manifest.artifact_type,
                config_media_type=manifest.config.media_type if manifest.config else "",
                subject=manifest.subject.digest if manifest.subject else "",
            )
        )
