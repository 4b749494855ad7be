"""Which names come from which upstream, and how an upstream is reached."""

from __future__ import annotations

from pathlib import Path

from pullthrough.declaration import DAY_SECONDS, HOUR_SECONDS, GoneUpstream, Revalidate
from pullthrough.settings.fields import setting, table
from pullthrough.settings.values.aws import ROLE_ARN
from pullthrough.settings.values.network import (
    Hosts,
    ProxyUrl,
    UpstreamHost,
    Urls,
)
from pullthrough.settings.values.quantities import (
    NEVER_AND_ALWAYS,
    Duration,
    Flag,
    Number,
)
from pullthrough.settings.values.repositories import DurationByTag, ImageName, Patterns, RepositoryPrefix
from pullthrough.settings.values.texts import (
    Choice,
    Command,
    FilePath,
    Formed,
    SecretText,
    Text,
    VariableName,
)

_YEAR = 365 * DAY_SECONDS
_FRESHNESS = Duration(0, _YEAR, NEVER_AND_ALWAYS)


@table
class RuleSettings:
    """A rule: names under the prefix, which is the table's key, come from the upstream. The prefix `ROOT` covers every
    name that no other rule covers. Prefixes may overlap: the longest one wins, on whole segments of the name."""

    upstream: str = setting(UpstreamHost(), default="")
    """The registry's host, as in image names: `docker.io` and `registry-1.docker.io` are the same. May be left out
    where the prefix is one of the five standard ones."""
    upstream_repository_prefix: str = setting(RepositoryPrefix(), default="")
    """Put before the name upstream: with `team`, `<prefix>/app` is fetched as `team/app`. As in ECR, `ROOT` is none."""
    freshness_seconds: float = setting(_FRESHNESS, default=DAY_SECONDS, key="freshness")
    """How long after the last check with the upstream a tag is answered without asking again. `never` asks never
    again, `always` each time. 24 h is what ECR does. Digests need no check."""
    freshness_by_tag: tuple[tuple[str, float], ...] = setting(DurationByTag(_FRESHNESS), default=())
    """Exceptions to `freshness` by tag; the first that matches decides."""
    stale_while_revalidate_seconds: float = setting(
        Duration(0, _YEAR, {"never": 0.0, "always": float("inf")}), default=HOUR_SECONDS, key="stale_while_revalidate"
    )
    """How long past `freshness` the cached tag still goes out at once, to be checked behind the answer. `never`: it is
    checked first; `always`: however old it is, it goes out first."""
    revalidate: Revalidate = setting(Choice(Revalidate), default=Revalidate.BEHIND)
    """`before` checks every tag past `freshness` before it is answered, as ECR does."""
    gone_upstream: GoneUpstream = setting(Choice(GoneUpstream), default=GoneUpstream.KEEP)
    """What becomes of a cached tag that the upstream no longer has: served on and marked, or removed."""
    negative_seconds: float = setting(Duration(0, DAY_SECONDS, {"never": 0.0}), default=60.0, key="negative")
    """How long "not found" is remembered, so that a node retrying a missing image costs no upstream requests. `never`:
    not at all. Refused credentials are never remembered."""
    allow: tuple[str, ...] = setting(Patterns(), default=())
    """What the rule serves: patterns of names without the rule's prefix, with `library/` where Docker Hub has it.
    Empty: everything."""
    deny: tuple[str, ...] = setting(Patterns(), default=())
    """What it does not serve; wins over `allow`."""
    username: str = setting(Text(), default="")
    """The account for this rule, with exactly one place of its token below. Empty: the account of
    `docker_hub_username` or `github_username` where the upstream is theirs, else anonymous."""
    access_token_env: str = setting(VariableName(), default="")
    """The name of the environment variable that holds the token."""
    access_token_file: Path | None = setting(FilePath(private=True), default=None)
    """A file with nothing but the token, read again when it changes and once after a 401."""
    access_token_command: tuple[str, ...] = setting(Command(), default=())
    """A program whose output is the token. It runs when the token is first needed, every 10 minutes after that, and
    once after a 401; 10 seconds are its limit."""
    access_token: bool = setting(
        SecretText("a secret; from the file with `allow_inline_tokens = true`", is_inline=True), default=False
    )
    """The token itself; refused unless `allow_inline_tokens = true`."""
    anonymous: bool = setting(Flag(), default=False)
    """Whether pulls under this rule are anonymous although there is an account for its upstream. `plan` and `apply` want
    an account for Docker Hub and GitHub unless the rule says this; AWS itself takes no such rule."""
    credential_arn: str = setting(
        Formed(
            r"|(?=.{1,612}$)arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:"
            r"secret:ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]+-[a-zA-Z0-9]{6}",
            "a secret's whole ARN, the 6 characters at its end included, with a name that begins with "
            "`ecr-pullthroughcache/`",
        ),
        default="",
    )
    """A secret that is there already, in Secrets Manager, with this rule's account: instead of `username` and a token.
    `apply` leaves it as it is; an engine looks for it in its own Secrets Manager."""
    secret_name: str = setting(
        Formed(r"|ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]{1,491}", "a name that begins with `ecr-pullthroughcache/`"),
        default="",
    )
    """The name of the secret that `apply` keeps this rule's account in. Empty: `ecr-pullthroughcache/` and the prefix."""
    custom_role_arn: str = setting(ROLE_ARN, default="")
    """The role with which ECR pulls from the ECR of another account. An engine keeps it and pulls without it."""
    verify_image: str = setting(ImageName(), default="")
    """What `verify` pulls the manifest of, without the rule's prefix. Empty: a small public image of the known
    upstreams; of others nothing is pulled."""
    enabled: bool = setting(Flag(), default=True)
    """Whether the rule is there at all. `false` switches it off, also where the prefix is a standard one: nothing is
    served under it, and `addresses` names the upstream itself."""


@table
class UpstreamSettings:
    """How to reach an upstream. The table's key is the host; it holds for every rule that names it."""

    endpoint: tuple[str, ...] = setting(Urls(), default=())
    """Where to connect instead of `https://<host>`: a test registry, an egress mirror. Its path, if any, goes before
    `/v2/`. Of a list, the next is tried where one cannot be reached."""
    token_realms: tuple[str, ...] = setting(Hosts(), default=())
    """Further hosts that may be asked for tokens, and so be sent the credential. The realms of the known registries are
    built in, and the upstream's own host is always allowed."""
    ca_file: Path | None = setting(FilePath(), default=None)
    """Certificates to trust for this upstream, in PEM form, instead of the system's. None: the system's."""
    client_cert: Path | None = setting(FilePath(), default=None)
    """The certificate chain that this engine shows to the upstream, in PEM form. None: none."""
    client_key: Path | None = setting(FilePath(), default=None)
    """Its private key. Both may name one file."""
    proxy: str = setting(ProxyUrl(), default="")
    """The proxy for this upstream. Empty: what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say."""
    connect_timeout_seconds: float = setting(Duration(0.1, 600), default=5.0, key="connect_timeout")
    """How long a connection, TLS included, may take."""
    first_byte_timeout_seconds: float = setting(Duration(0.1, 3600), default=15.0, key="first_byte_timeout")
    """How long an answer may take to begin; a blob's may take `stall_timeout`, if that is longer."""
    stall_timeout_seconds: float = setting(Duration(0.1, 3600), default=30.0, key="stall_timeout")
    """How long a body may pause, or take to begin, before its transfer is resumed. There is no limit on the whole transfer."""
    queue_timeout_seconds: float = setting(Duration(0.1, 3600), default=30.0, key="queue_timeout")
    """How long a pull of something not cached waits for the upstream's rate limit, however often it is told to, and a
    question for a free connection, before the answer is 429 with `Retry-After`, or 503 for clients that came by `ns` or a
    mirror and have another host to go on to."""
    connections: int = setting(Number(1, 256), default=8)
    """Bodies in transfer at once from this upstream, and questions beside them. Clients that ask for more wait their turn,
    in fair shares: neither one client nor one image takes the last connection while it has others."""
    retries: int = setting(Number(0, 10), default=2)
    """How often a request that is safe to repeat is repeated, and a transfer resumed without new bytes in between."""
