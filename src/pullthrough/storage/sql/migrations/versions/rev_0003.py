"""Whose content each repository holds, and where each blob's bytes came from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("repositories", sa.Column("owner", sa.String))
    op.create_table(
        "blob_sources",
        sa.Column("digest", sa.String, sa.ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("is_anonymous", sa.Boolean, nullable=False),
    )
    op.create_table(
        "credential_accounts",
        sa.Column("arn", sa.String, primary_key=True),
        sa.Column("username", sa.String, nullable=False),
    )
    _find_owners()
    _keep_listings()
    # What was not there is asked for again.
    op.drop_table("negatives")
    op.create_table(
        "negatives",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("repository", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.UniqueConstraint("repository", "owner", "reference"),
    )
    op.create_index("negatives_by_end", "negatives", ["until"])
    op.drop_table("absent_names")
    op.create_table(
        "absent_names",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.UniqueConstraint("source", "name"),
    )


def _find_owners() -> None:
    """Where anything was pushed, it is the registry's own. Of the rest the next start learns by its rules whose it is.

    A repository without images has nothing that needs an owner; what it could read it asks for again.
    """
    op.execute(
        "UPDATE repositories SET owner = 'own' WHERE EXISTS (SELECT 1 FROM repository_manifests "
        "WHERE repository_id = repositories.id AND is_pushed)"
    )
    op.execute(
        "UPDATE repositories SET owner = '?' WHERE owner IS NULL AND EXISTS (SELECT 1 FROM repository_manifests "
        "WHERE repository_id = repositories.id)"
    )
    op.execute("DELETE FROM repository_blobs WHERE repository_id IN (SELECT id FROM repositories WHERE owner IS NULL)")


def _keep_listings() -> None:
    """Those of tags; those of referrers were kept in another form."""
    op.rename_table("listings", "old_listings")
    op.create_table(
        "listings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("repository", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("validated_at", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("repository", "owner", "kind"),
    )
    op.execute(
        "INSERT INTO listings (id, repository, owner, kind, validated_at, body) "
        "SELECT id, repository, '?', kind, validated_at, body FROM old_listings WHERE kind = 'tags'"
    )
    op.drop_table("old_listings")
