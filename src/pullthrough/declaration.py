"""What the user asked for: rules (which names come from which upstream, how fresh) and where their credentials are.

Knows nothing of files or the environment; `settings` builds these. Of secrets it holds the places, or where the file has a
token itself an `InlineToken`: no repr gives one away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from pullthrough.oci.names import DOCKER_HUB

#: The prefix of the rule that covers every name no other rule covers, as in ECR.
ROOT = "ROOT"
GITHUB = "ghcr.io"

DAY_SECONDS = 86400.0
HOUR_SECONDS = 3600.0


class Revalidate(StrEnum):
    """When a tag past its freshness is checked with the upstream."""

    #: After the cached answer went out, while it is within `stale_while_revalidate`.
    BEHIND = "behind"
    #: Before the answer, as ECR does it.
    BEFORE = "before"


class GoneUpstream(StrEnum):
    """What becomes of a cached tag for which the upstream answers 404."""

    KEEP = "keep"
    REMOVE = "remove"


class Origin(StrEnum):
    """Where a rule was written."""

    BUILT_IN = "built_in"
    FILE = "file"
    #: Made through the ECR API.
    API = "api"


@dataclass(frozen=True, slots=True)
class InlineToken:
    """A token that is held here itself. Neither repr nor str gives it away."""

    token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.token)


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """A user name, and the one place its access token is read from.

    Exactly one of the places is set. Files and commands are read again when they change and once after a 401; that is
    the upstream client's work.
    """

    username: str
    #: Name of an environment variable; empty if the token is elsewhere.
    access_token_env: str = ""
    access_token_file: Path | None = None
    #: Program and arguments, run without a shell; its standard output, stripped, is the token. Empty if elsewhere.
    access_token_command: tuple[str, ...] = ()
    #: The token itself, where the file may hold it (`allow_inline_tokens`) or a program gave it. Empty if elsewhere.
    access_token: InlineToken = InlineToken()

    def __post_init__(self) -> None:
        places = (self.access_token_env, self.access_token_file, self.access_token_command, self.access_token)
        if not self.username or sum(bool(place) for place in places) != 1:
            raise ValueError("a credential is a username and exactly one place of its token")

    @property
    def account(self) -> str:
        return self.username

    def __repr__(self) -> str:
        # A command's arguments and a mistyped name or path may hold the secret itself.
        place = "_env" if self.access_token_env else "_file" if self.access_token_file else ""
        place = "_command" if self.access_token_command else place
        return f"CredentialSource(username={self.username!r}, access_token{place}=...)"


@dataclass(frozen=True, slots=True)
class SecretCredential:
    """A credential whose user name and token are in Secrets Manager (AWS's, or the engine's own), under this ARN."""

    arn: str
    #: The user name in it, as far as it is known; what it opens is then kept as this account's.
    account: str = ""


#: Where an upstream's user name and token come from.
Credential = CredentialSource | SecretCredential


@dataclass(frozen=True, slots=True)
class Rule:
    """Names under `prefix` come from `upstream`."""

    #: A repository name's leading segments such as `docker-hub`, or ROOT.
    prefix: str
    #: The upstream's host in the form of `canonical_host`.
    upstream: str
    #: Put before the name upstream; empty for none.
    upstream_repository_prefix: str = ""
    #: Seconds since the last validation in which a tag is answered without asking; inf never asks, 0 always does.
    freshness_seconds: float = DAY_SECONDS
    #: Patterns of tags with a freshness of their own, in the file's order; the first that matches decides.
    freshness_by_tag: tuple[tuple[str, float], ...] = ()
    #: Seconds past freshness in which the cached tag still goes out at once and is checked behind the answer.
    stale_while_revalidate_seconds: float = HOUR_SECONDS
    revalidate: Revalidate = Revalidate.BEHIND
    gone_upstream: GoneUpstream = GoneUpstream.KEEP
    #: Seconds for which a 404 is remembered; 0 for never.
    negative_seconds: float = 60.0
    #: Patterns of names without the rule's prefix; empty serves all. `*` matches `/` too.
    allow: tuple[str, ...] = ()
    #: Patterns of names that it does not serve; wins over `allow`.
    deny: tuple[str, ...] = ()
    credential: Credential | None = None
    origin: Origin = Origin.FILE
    #: Whether it says that it wants no credential, although its upstream may.
    anonymous: bool = False
    #: The name of the secret that holds its credential in Secrets Manager; empty for the usual one.
    secret_name: str = ""
    #: The role that ECR assumes for an upstream that is an ECR of another account; empty for none.
    custom_role_arn: str = ""
    #: What `verify` pulls, without the rule's prefix; empty for the upstream's usual one.
    verify_image: str = ""

    def freshness_of(self, tag: str) -> float:
        for pattern, seconds in self.freshness_by_tag:
            if fnmatchcase(tag, pattern):
                return seconds
        return self.freshness_seconds

    def serves(self, name: str) -> bool:
        """Whether `allow` and `deny` let this name (without the rule's prefix, `library/` already added) through."""
        if any(fnmatchcase(name, pattern) for pattern in self.deny):
            return False
        return not self.allow or any(fnmatchcase(name, pattern) for pattern in self.allow)

    def upstream_name(self, name: str) -> str:
        """What to ask the upstream for, given the name without the rule's prefix."""
        return f"{self.upstream_repository_prefix}/{name}" if self.upstream_repository_prefix else name


#: The upstreams of the Terraform module aws_ecr_pull_through_cache, under its prefixes.
STANDARD_UPSTREAMS: Mapping[str, str] = {
    "docker-hub": DOCKER_HUB,
    "github": GITHUB,
    "quay": "quay.io",
    "kubernetes": "registry.k8s.io",
    "ecr-public": "public.ecr.aws",
}
STANDARD_RULES: tuple[Rule, ...] = tuple(
    Rule(prefix=prefix, upstream=upstream, origin=Origin.BUILT_IN) for prefix, upstream in STANDARD_UPSTREAMS.items()
)


class TagMutability(StrEnum):
    """Whether a tag may come to name another image: the API's `imageTagMutability`, without its exclusions."""

    MUTABLE = "mutable"
    IMMUTABLE = "immutable"


class Encryption(StrEnum):
    """How repositories are encrypted: the API's `encryptionType`."""

    AES256 = "AES256"
    KMS = "KMS"


class ScanFrequency(StrEnum):
    """When images are scanned: the API's `scanFrequency`."""

    ON_PUSH = "on_push"
    #: Wants enhanced scanning, which is the registry's own choice and costs money.
    CONTINUOUS = "continuous"


#: How many tagged images a repository of the cache keeps, unless the declaration says otherwise.
KEEP_IMAGES = 200


@dataclass(frozen=True, slots=True)
class Template:
    """What repositories are created with that pulls create: a repository creation template of one prefix."""

    enabled: bool = True
    #: The newest tagged images that stay; None keeps all.
    keep_images: int | None = KEEP_IMAGES
    #: A lifecycle policy of the user's own, instead of the one made of `keep_images`.
    lifecycle_policy_file: Path | None = None
    tag_mutability: TagMutability = TagMutability.MUTABLE
    #: Patterns of tags for which the opposite of `tag_mutability` holds; `*` is wild.
    tag_mutability_exclusions: tuple[str, ...] = ()
    #: Tags that repositories carry.
    resource_tags: Mapping[str, str] = field(default_factory=dict)
    encryption: Encryption = Encryption.AES256
    #: The KMS key's full ARN; empty for AWS's own key.
    kms_key: str = ""
    #: Accounts that may pull from the repositories.
    pull_accounts: tuple[str, ...] = ()
    #: The organisation whose accounts may; empty for none.
    pull_organization: str = ""
    #: A repository policy of the user's own, instead of the one made of the two above.
    repository_policy_file: Path | None = None
    #: The role that ECR assumes to create such repositories; empty to make one where the template needs it.
    role_arn: str = ""

    @property
    def needs_role(self) -> bool:
        """Whether ECR can not create such repositories as itself: it fails silently then, and pulls answer 404.

        https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html
        """
        return bool(self.resource_tags) or self.encryption is not Encryption.AES256


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """Who may pull."""

    #: Names of the IAM roles of nodes.
    node_roles: tuple[str, ...] = ()
    #: Other accounts that may pull, and fill the cache by it.
    pull_accounts: tuple[str, ...] = ()
    #: The organisation whose accounts may; empty for none.
    pull_organization: str = ""
    #: The VPC whose endpoints `verify` looks at; empty for none.
    vpc: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything that the module makes, in AWS's account or in an engine."""

    #: What marks as ours what it made.
    name: str = "pullthrough"
    #: Those that are to be there, the standard ones included.
    rules: tuple[Rule, ...] = ()
    #: Those that are switched off: they have an address still, which is their upstream's own.
    disabled: tuple[Rule, ...] = ()
    #: By the prefix of a rule.
    templates: Mapping[str, Template] = field(default_factory=dict)
    access: NodeAccess = field(default_factory=NodeAccess)
    #: When images under the rules' prefixes are scanned; None leaves that to the registry.
    scan_frequency: ScanFrequency | None = None
    #: Tags of secrets and roles.
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The user names given for Docker Hub and GitHub, by canonical host; there whether or not a token was found.
    usernames: Mapping[str, str] = field(default_factory=dict)

    def rule(self, prefix: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.prefix == prefix), None)
