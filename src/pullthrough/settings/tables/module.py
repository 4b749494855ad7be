"""What `plan` and `apply` make beside the rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pullthrough.declaration import KEEP_IMAGES, Encryption, ScanFrequency, TagMutability
from pullthrough.settings.fields import setting, table
from pullthrough.settings.values.aws import ACCOUNTS, ORGANIZATION, ROLE_ARN, ROLES, Tags
from pullthrough.settings.values.quantities import (
    Count,
    Flag,
    Number,
)
from pullthrough.settings.values.texts import (
    Choice,
    FilePath,
    Formed,
    FormedList,
)


@table
class TemplateSettings:
    """What repositories are created with that pulls create: `plan` and `apply` make a repository creation template of
    it for each rule."""

    enabled: bool = setting(Flag(), default=True)
    """Whether there is a template. Without one, ECR creates repositories with its defaults, which expire nothing."""
    keep_images: int | None = setting(Count(Number(1, 100_000)), default=KEEP_IMAGES)
    """How many tagged images a repository keeps, the newest ones, by a lifecycle policy. `never`: none is expired. On
    AWS an expired image can not be filled again by its digest, only by a tag; hence a count, and no age."""
    lifecycle_policy_file: Path | None = setting(FilePath(), default=None)
    """A lifecycle policy in JSON, instead of the one that `keep_images` makes; not beside that key."""
    tag_mutability: TagMutability = setting(Choice(TagMutability), default=TagMutability.MUTABLE)
    """Whether a tag may come to name another image. `immutable` keeps ECR from following a tag that moved upstream."""
    tag_mutability_exclusions: tuple[str, ...] = setting(
        # The limits are ECR's:
        # https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html
        FormedList(
            r"(?!(?:.*\*){3})[0-9a-zA-Z._*-]{1,128}", "a list of up to 5 tags in which up to two `*` are wild", most=5
        ),
        default=(),
    )
    """Tags for which the opposite of `tag_mutability` holds."""
    resource_tags: Mapping[str, str] = setting(Tags(marked=False), default_factory=dict)
    """Tags that repositories carry. With any, ECR needs a role to create them, which `apply` makes unless `role_arn`
    names one."""
    encryption: Encryption = setting(Choice(Encryption), default=Encryption.AES256)
    """How repositories are encrypted. `KMS` needs a role, as tags do. It can not be changed for a repository that is
    there."""
    kms_key: str = setting(
        Formed(r"|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+", "a KMS key's whole ARN, no alias"),
        default="",
    )
    """The KMS key, with `encryption = "KMS"`. Empty: AWS's own key."""
    pull_accounts: tuple[str, ...] = setting(ACCOUNTS, default=())
    """Accounts that may pull from the repositories, by their policy; beside those of `[access]`."""
    pull_organization: str = setting(ORGANIZATION, default="")
    """The organisation whose accounts may. Empty: that of `[access]`."""
    repository_policy_file: Path | None = setting(FilePath(), default=None)
    """A repository policy in JSON, instead of the one made of the two above and of `[access]`; not beside the two."""
    role_arn: str = setting(ROLE_ARN, default="")
    """The role with which ECR creates repositories that have tags or KMS. Empty: `apply` makes one where a template
    needs it."""


@table
class AccessSettings:
    """Who may pull: what `plan` and `apply` give to nodes and to other accounts."""

    node_roles: tuple[str, ...] = setting(ROLES, default=())
    """The IAM roles of nodes, of the account that `apply` works in. Each gets an inline policy with what a pull through
    the cache needs, for the rules' prefixes."""
    pull_accounts: tuple[str, ...] = setting(ACCOUNTS, default=())
    """Other accounts that may pull, and fill the cache by it: a statement of the registry's policy, and one of each
    repository's."""
    pull_organization: str = setting(ORGANIZATION, default="")
    """The organisation whose accounts may."""
    vpc: str = setting(Formed(r"|vpc-(?:[0-9a-f]{8}|[0-9a-f]{17})", "a VPC's id such as `vpc-0a1b2c3d`"), default="")
    """The VPC whose endpoints for ECR and S3 `verify` looks for. Empty: it does not look."""


@table
class ScanningSettings:
    """Scanning of cached images, merged into the registry's own scanning configuration."""

    frequency: ScanFrequency | None = setting(Choice(ScanFrequency), default=None)
    """When images under the rules' prefixes are scanned. `continuous` wants enhanced scanning, which is never switched
    on here. None: nothing is said about them."""
