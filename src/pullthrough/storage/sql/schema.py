"""The catalog's tables. `migrations/` makes them; a test holds the two together.

Bodies come last in their rows, so that SQLite reads the columns before them without the body's pages.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
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
    false,
)

#: Every revision a catalog may be at, oldest first; the last is this version's.
REVISIONS = ("0001", "0002", "0003")

metadata = MetaData()

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    #: Made, or given settings, by somebody: it stays when its last image goes.
    Column("kept", Boolean, nullable=False, server_default=false()),
    #: As ECR spells it: MUTABLE, IMMUTABLE, and each with _WITH_EXCLUSION.
    Column("tag_mutability", String, nullable=False, server_default="MUTABLE"),
    #: JSON: a list of {"filterType": "WILDCARD", "filter": "..."}.
    Column("mutability_filters", String, nullable=False, server_default="[]"),
    #: JSON: encryptionType, and kmsKey where it was given. Recorded only.
    Column("encryption", String, nullable=False, server_default='{"encryptionType":"AES256"}'),
    Column("scan_on_push", Boolean, nullable=False, server_default=false()),
    #: The repository policy and the lifecycle policy, as they were given.
    Column("policy", String),
    Column("lifecycle_policy", String),
    Column("lifecycle_evaluated_at", Float),
    #: Whose its content is (oci/owners.py); NULL until it has any.
    Column("owner", String),
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
    #: When it was last stored; `pushed_at` keeps the first time.
    Column("stored_at", Float, nullable=False),
    Column("pulled_at", Float),
    Column("pushed_at", Float, nullable=False, server_default="0"),
    #: Pushed by a client: there is no upstream to fill it from again, so eviction leaves it alone.
    Column("is_pushed", Boolean, nullable=False, server_default=false()),
    #: What the config and the layers take, as the manifest claims.
    Column("size_bytes", Integer, nullable=False, server_default="0"),
    #: Empty where the manifest names none.
    Column("artifact_type", String, nullable=False, server_default=""),
    Column("config_media_type", String, nullable=False, server_default=""),
    Column("subject", String, nullable=False, server_default=""),
    #: Since when it has been archived, which pulls answer with 404; None while it is not.
    Column("archived_at", Float),
    #: When it was last taken out of the archive.
    Column("activated_at", Float),
    UniqueConstraint("repository_id", "digest"),
    Index("repository_manifests_by_digest", "digest"),
    Index("repository_manifests_by_subject", "repository_id", "subject"),
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

#: Where a published blob's bytes came from, each time all of them did: an account's, or anybody's.
blob_sources = Table(
    "blob_sources",
    metadata,
    Column("digest", ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    Column("source", String, primary_key=True),
    Column("is_anonymous", Boolean, nullable=False),
)

#: Which repository may read which published blob.
repository_blobs = Table(
    "repository_blobs",
    metadata,
    Column("repository_id", ForeignKey("repositories.id"), primary_key=True),
    Column("digest", ForeignKey("blobs.digest", ondelete="CASCADE"), primary_key=True),
    #: When a client pushed or mounted it here, or the last image that named it was deleted: from then on it is kept for a
    #: while without being named. NULL where a fill brought it, which only eviction removes.
    Column("loose_at", Float),
    Index("repository_blobs_by_digest", "digest"),
)

# What follows is kept by name: asking for a thing must not make its repository exist. `id` grows with each write, so
# that the oldest rows are found without counting.

listings = Table(
    "listings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("validated_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("repository", "owner", "kind"),
)

negatives = Table(
    "negatives",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("until", Float, nullable=False),
    UniqueConstraint("repository", "owner", "reference"),
    Index("negatives_by_end", "until"),
)

absent_names = Table(
    "absent_names",
    metadata,
    Column("id", Integer, primary_key=True),
    #: The upstream, and the account that it was asked with.
    Column("source", String, nullable=False),
    Column("name", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    UniqueConstraint("source", "name"),
)

pins = Table(
    "pins",
    metadata,
    Column("repository", String, primary_key=True),
    Column("reference", String, primary_key=True),
    Column("created_at", Float, nullable=False),
)

# What is set up through the ECR and Secrets Manager APIs. Documents are kept as the APIs speak them; what was not given
# is NULL, so that it is not given back either.

cache_rules = Table(
    "cache_rules",
    metadata,
    Column("prefix", String, primary_key=True),
    Column("upstream_registry_url", String, nullable=False),
    Column("upstream_registry", String),
    Column("upstream_repository_prefix", String),
    Column("credential_arn", String),
    Column("custom_role_arn", String),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

#: `body` is the JSON of the API's RepositoryCreationTemplate, without prefix and times.
creation_templates = Table(
    "creation_templates",
    metadata,
    Column("prefix", String, primary_key=True),
    Column("body", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

#: One of each for the registry: its policy, scanning, replication and signing configurations, account settings.
registry_documents = Table(
    "registry_documents",
    metadata,
    Column("name", String, primary_key=True),
    Column("body", String, nullable=False),
    Column("updated_at", Float, nullable=False),
)

pull_time_exclusions = Table(
    "pull_time_exclusions",
    metadata,
    Column("principal_arn", String, primary_key=True),
    Column("created_at", Float, nullable=False),
)

#: AWS's tags (key and value). `resource` is `repository/<name>` or `secret/<name>`.
resource_tags = Table(
    "resource_tags",
    metadata,
    Column("resource", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

#: The last preview of each repository's lifecycle policy; `status` is the API's LifecyclePolicyPreviewStatus.
lifecycle_previews = Table(
    "lifecycle_previews",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("policy", String, nullable=False),
    Column("status", String, nullable=False),
    Column("expiring", Integer, nullable=False),
    Column("transitioning", Integer, nullable=False),
)

#: What the policy of a preview would do to each image; those that it would leave alone are not here.
lifecycle_preview_images = Table(
    "lifecycle_preview_images",
    metadata,
    Column("repository_id", ForeignKey("lifecycle_previews.repository_id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String, primary_key=True),
    #: JSON: a list of names.
    Column("tags", String, nullable=False),
    Column("pushed_at", Float, nullable=False),
    #: EXPIRE or TRANSITION, by the rule of this priority.
    Column("action", String, nullable=False),
    Column("priority", Integer, nullable=False),
    #: Whether the image is in the archive now.
    Column("archived", Boolean, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String, primary_key=True),
    Column("arn", String, nullable=False, unique=True),
    Column("description", String),
    Column("kms_key_id", String),
    Column("policy", String),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("accessed_at", Float),
    #: When its deletion was asked for, and when it is due.
    Column("deleted_at", Float),
    Column("delete_due_at", Float),
)

secret_versions = Table(
    "secret_versions",
    metadata,
    Column("secret", ForeignKey("secrets.name", ondelete="CASCADE"), primary_key=True),
    Column("version_id", String, primary_key=True),
    Column("is_binary", Boolean, nullable=False),
    #: The value, encrypted.
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("accessed_at", Float),
)

secret_stages = Table(
    "secret_stages",
    metadata,
    Column("secret", ForeignKey("secrets.name", ondelete="CASCADE"), primary_key=True),
    Column("stage", String, primary_key=True),
    Column("version_id", String, nullable=False),
)

#: The user name that a secret held when it was last read, so that its rule's content is known while it cannot be.
credential_accounts = Table(
    "credential_accounts",
    metadata,
    Column("arn", String, primary_key=True),
    Column("username", String, nullable=False),
)

#: API keys that were made here; those of the settings are in the settings.
access_keys = Table(
    "access_keys",
    metadata,
    Column("access_key_id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    #: The secret half, encrypted.
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
)

#: `body` is the event as EventBridge would deliver it. `due_at` is when the webhook is tried next; None once it is done.
events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("body", String, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float),
    Index("events_by_due", "due_at"),
    sqlite_autoincrement=True,
)
