"""What the user asked for: rules (which names come from which upstream, how fresh) and where their credentials are.

Knows nothing of files or the environment; `settings` builds these. Holds no secret, only the places of secrets, so that
a repr in a log gives nothing away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
class CredentialSource:
    """A user name, and the one place its access token is read from.

    Exactly one of the three places is set. Files and commands are read again when they change and once after a 401;
    that is the upstream client's work.
    """

    username: str
    #: Name of an environment variable; empty if the token is elsewhere.
    access_token_env: str = ""
    access_token_file: Path | None = None
    #: Program and arguments, run without a shell; its standard output, stripped, is the token. Empty if elsewhere.
    access_token_command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        places = (self.access_token_env, self.access_token_file, self.access_token_command)
        if not self.username or sum(bool(place) for place in places) != 1:
            raise ValueError("a credential is a username and exactly one place of its token")

    def __repr__(self) -> str:
        # A command's arguments and a mistyped name or path may hold the secret itself.
        place = "env" if self.access_token_env else "file" if self.access_token_file else "command"
        return f"CredentialSource(username={self.username!r}, access_token_{place}=...)"


@dataclass(frozen=True, slots=True)
class SecretCredential:
    """A credential whose user name and token are in the engine's own Secrets Manager, under this ARN."""

    arn: str


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
    #: Patterns likewise; wins over `allow`.
    deny: tuple[str, ...] = ()
    credential: Credential | None = None
    origin: Origin = Origin.FILE

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
