"""Every setting, by topic: its type, its default, and in its docstring the unit, what none means, and why this default.

The reference page docs/configuration.md is generated from these classes. A field's alias is its key in the file where
the two differ: attributes carry units in their names, keys carry them in their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pullthrough.declaration import (
    KEEP_IMAGES,
    CredentialSource,
    Declaration,
    Encryption,
    GoneUpstream,
    Revalidate,
    Rule,
    ScanFrequency,
    TagMutability,
)
from pullthrough.oci.names import canonical_host
from pullthrough.settings.addresses import (
    Hosts,
    HostTemplate,
    Listen,
    ListenAddress,
    Mirrors,
    ProxyUrl,
    UpstreamHost,
    Urls,
    WebhookUrl,
    parse_listen,
)
from pullthrough.settings.kinds import (
    NEVER_AND_ALWAYS,
    Choice,
    Command,
    Count,
    Duration,
    DurationByTag,
    FilePath,
    Flag,
    Formed,
    FormedList,
    Image,
    Kind,
    Limit,
    Number,
    Patterns,
    RepositoryPrefix,
    Secret,
    Size,
    SizeLimit,
    Tags,
    Text,
    VariableName,
)

_DAY = 86400.0
_YEAR = 365 * _DAY
_FRESHNESS = Duration(0, _YEAR, NEVER_AND_ALWAYS)
MIB = 1024 * 1024
_INLINE_SECRET = Secret("a secret; from the environment, or from the file with `allow_inline_tokens = true`")
_ACCOUNTS = FormedList(r"[0-9]{12}", "a list of account ids, 12 digits each in quotes")
#: https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
_ORGANIZATION = Formed(r"|o-[a-z0-9]{10,32}", "an organisation's id such as `o-a1b2c3d4e5`")
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:[!-.0-~]{1,510}/)*"
_ROLE_NAME = r"[\w+=,.@-]{1,64}"
_ROLE_ARN = Formed(f"|{_ROLE}{_ROLE_NAME}", "a role's ARN such as `arn:aws:iam::123456789012:role/name`")


class AccessLog(StrEnum):
    ALL = "all"
    #: Only what was not answered from what is cached and fresh.
    MISSES = "misses"
    OFF = "off"


class Loop(StrEnum):
    #: uvloop with aiofastnet where both can be imported, else asyncio's own.
    AUTO = "auto"
    ASYNCIO = "asyncio"


class EcrAuth(StrEnum):
    #: The AWS APIs and pushes need an API key.
    KEYS = "keys"
    #: Anybody is let in, as the registry's root.
    NONE = "none"


class Role(StrEnum):
    #: Pulling, filling the cache by it included.
    PULL = "pull"
    #: Everything.
    ADMIN = "admin"


class Model(BaseModel):
    """Frozen; types are not coerced; unknown names are refused."""

    # Not use_attribute_docstrings: it parses this file once for each class, at each start. The page reads them itself.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", populate_by_name=True)


def kinds_of(model: type[Model]) -> dict[str, tuple[str, Kind]]:
    """For each key of a table: the attribute it fills, and its kind."""
    kinds = {}
    for name, info in model.model_fields.items():
        kind = next(entry for entry in info.metadata if isinstance(entry, Kind))
        kinds[info.alias or name] = (name, kind)
    return kinds


class TopSettings(Model):
    """Keys before the first table of the file: the accounts, with the names of the Terraform module's inputs, which
    standard rules are there, and what holds for everything that `plan` and `apply` make."""

    docker_hub_username: Annotated[str, Text()] = ""
    """The account for Docker Hub. It goes to every rule whose upstream is `registry-1.docker.io`, unless the rule has
    its own `username` or says `anonymous = true`. Empty: pulls are anonymous, under Docker Hub's limit per address."""
    docker_hub_access_token: Annotated[bool, _INLINE_SECRET] = False
    """The account's access token. Its place is `PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN`; in the file, which gets copied
    and committed, it is refused unless `allow_inline_tokens = true`."""
    docker_hub_access_token_file: Annotated[Path | None, FilePath(private=True)] = None
    """A file with nothing but the token, read again when it changes and once after a 401."""
    docker_hub_access_token_command: Annotated[tuple[str, ...], Command()] = ()
    """A program whose output is the token. It runs when the token is first needed, every 10 minutes after that, and
    once after a 401; 10 seconds are its limit."""
    github_username: Annotated[str, Text()] = ""
    """The account for `ghcr.io`, as above. Empty: pulls are anonymous."""
    github_access_token: Annotated[bool, _INLINE_SECRET] = False
    """The account's access token, with the right `read:packages`. Its place is `PULLTHROUGH_GITHUB_ACCESS_TOKEN`, as
    above."""
    github_access_token_file: Annotated[Path | None, FilePath(private=True)] = None
    """A file with nothing but the token, as above."""
    github_access_token_command: Annotated[tuple[str, ...], Command()] = ()
    """A program whose output is the token, as above."""
    allow_inline_tokens: Annotated[bool, Flag()] = False
    """Whether this file may hold access tokens themselves: `docker_hub_access_token`, `github_access_token`, and
    `access_token` of a rule. Files get copied and committed; each such token is warned of."""
    name: Annotated[
        str,
        Formed(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", "1 to 32 lower-case letters and digits with `-` between them"),
    ] = "pullthrough"
    """The declaration's name. What `apply` makes is marked with it, and only what bears the mark is ever taken back.
    Two declarations in one account and region need two names."""
    journal: Annotated[Path | None, FilePath()] = None
    """The file in which `apply` and `destroy` write down each step they finish. It holds no secret. None: one for each
    name, account, region and endpoint in `$XDG_STATE_HOME/pullthrough`, else `~/.local/state/pullthrough`."""
    tags: Annotated[Mapping[str, str], Tags(marked=True)] = Field(default_factory=dict)
    """Tags of what AWS lets carry them: secrets, and roles that `apply` makes. Tags of repositories are a template's."""
    standard_rules: Annotated[bool, Flag()] = True
    """Whether the five built-in rules are there: `docker-hub`, `github`, `quay`, `kubernetes`, `ecr-public`. A rule of
    the file with the same prefix replaces the built-in one."""


class ServeSettings(Model):
    """How the engine runs."""

    listen: Annotated[str, Listen()] = "127.0.0.1:5000"
    """Where clients connect. Port 0 lets the system choose one. The default is this machine only, whose pulls need no
    login; on any other address clients log in, unless `anonymous_pull = true`."""
    data: Annotated[Path, FilePath(optional=False)]
    """The folder of everything the engine keeps. Default: `$STATE_DIRECTORY` (systemd sets it), else
    `$XDG_DATA_HOME/pullthrough`, else `~/.local/share/pullthrough`. It should be on a local disk."""
    anonymous_pull: Annotated[bool, Flag()] = False
    """Whether everybody who can reach the address may pull without login, what needs the configured accounts included,
    where the address is not loopback."""
    pull_auth: Annotated[bool, Flag()] = False
    """Whether pulls need a login on loopback too. Clients that log in only when they are asked to at first, such as
    docker and crane, need it to push."""
    max_size: Annotated[SizeLimit, Limit()] = SizeLimit(percent=80.0)
    """The most that stored bodies and the catalog may take, the catalog half of it. Least recently pulled images go first.
    `never`: no limit of its own."""
    min_free: Annotated[SizeLimit, Limit()] = SizeLimit(percent=15.0)
    """What stays free on the file system, whoever fills it. Whichever of the two binds first counts. `never`: no such
    limit. 15% is where a kubelet on the same disk begins to remove images."""
    workers: Annotated[int, Number(1, 256)] = 1
    """Processes that serve, sharing one data folder and each transfer. More than one helps with TLS and with many small
    requests, up to the number of cores."""
    mirrors: Annotated[Mapping[str, str], Mirrors()] = Field(default_factory=dict)
    """Further listeners, each bound to one rule, for clients that send neither a prefix nor `ns`: dockerd's
    `registry-mirrors`. Subject to `anonymous_pull` and `pull_auth` as `listen` is."""
    tls_cert: Annotated[Path | None, FilePath()] = None
    """The certificate chain in PEM form, for all listeners. Read again on SIGHUP. None: plain HTTP."""
    tls_key: Annotated[Path | None, FilePath()] = None
    """The certificate's private key in PEM form, without a pass phrase."""
    access_log: Annotated[AccessLog, Choice(AccessLog)] = AccessLog.ALL
    """Which answers get a log line: all of them, only those that were not answered from fresh content, or none."""
    prefetch: Annotated[bool, Flag()] = True
    """Whether the first layer that a client asks for starts the transfer of the image's other blobs. Reading manifests
    or configs alone never does."""
    prefetch_per_upstream: Annotated[int, Number(1, 64)] = 3
    """Prefetched blobs in transfer at once from one upstream; docker and containerd ask for three layers at once."""
    max_fills: Annotated[int, Number(1, 1024)] = 32
    """Blobs in transfer at once in all, each with a thread of its own; further ones wait their turn. An upstream that has
    none in transfer does not wait: however slow others are, each has one at least."""
    range_ahead_bytes: Annotated[int, Size(MIB, 1024 * 1024 * MIB)] = Field(default=16 * MIB, alias="range_ahead")
    """How far beyond what has arrived a Range may begin and still wait for the running transfer. Farther ones are asked
    of the upstream by themselves: lazy pullers read the end of a blob first."""
    loop: Annotated[Loop, Choice(Loop)] = Loop.AUTO
    """`auto` is uvloop with aiofastnet where both are installed, else asyncio's own loop; `asyncio` always the
    latter."""
    pull_time_flush_seconds: Annotated[float, Duration(0.1, 3600)] = Field(default=10.0, alias="pull_time_flush")
    """How often pull times are written to the catalog. A crash loses at most this much of them, which only eviction
    notices."""
    evict_interval_seconds: Annotated[float, Duration(1, _DAY)] = Field(default=30.0, alias="evict_interval")
    """How often the disk is held against `max_size` and `min_free`."""
    stale_check_timeout_seconds: Annotated[float, Duration(0.1, 60)] = Field(default=2.0, alias="stale_check_timeout")
    """How long a client waits for the check of a tag that is past its freshness and past `stale_while_revalidate`,
    before the cached answer goes out. Well under the deadline at which containerd gives a mirror up."""

    @property
    def host(self) -> str:
        return parse_listen(self.listen).host

    @property
    def port(self) -> int:
        return parse_listen(self.listen).port

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """All listeners, the mirrors' included."""
        return tuple(parse_listen(text) for text in (self.listen, *self.mirrors))

    @property
    def control_socket(self) -> Path:
        return self.data / "control.sock"


class RuleSettings(Model):
    """A rule: names under the prefix, which is the table's key, come from the upstream. The prefix `ROOT` covers every
    name that no other rule covers. Prefixes may overlap: the longest one wins, on whole segments of the name."""

    upstream: Annotated[str, UpstreamHost()] = ""
    """The registry's host, as in image names: `docker.io` and `registry-1.docker.io` are the same. May be left out
    where the prefix is one of the five standard ones."""
    upstream_repository_prefix: Annotated[str, RepositoryPrefix()] = ""
    """Put before the name upstream: with `team`, `<prefix>/app` is fetched as `team/app`. As in ECR, `ROOT` is none."""
    freshness_seconds: Annotated[float, _FRESHNESS] = Field(default=_DAY, alias="freshness")
    """How long after the last check with the upstream a tag is answered without asking again. `never` asks never
    again, `always` each time. 24 h is what ECR does. Digests need no check."""
    freshness_by_tag: Annotated[tuple[tuple[str, float], ...], DurationByTag(_FRESHNESS)] = ()
    """Exceptions to `freshness` by tag; the first that matches decides."""
    stale_while_revalidate_seconds: Annotated[float, Duration(0, _YEAR, {"never": 0.0, "always": float("inf")})] = (
        Field(default=3600.0, alias="stale_while_revalidate")
    )
    """How long past `freshness` the cached tag still goes out at once, to be checked behind the answer. `never`: it is
    checked first; `always`: however old it is, it goes out first."""
    revalidate: Annotated[Revalidate, Choice(Revalidate)] = Revalidate.BEHIND
    """`before` checks every tag past `freshness` before it is answered, as ECR does."""
    gone_upstream: Annotated[GoneUpstream, Choice(GoneUpstream)] = GoneUpstream.KEEP
    """What becomes of a cached tag that the upstream no longer has: served on and marked, or removed."""
    negative_seconds: Annotated[float, Duration(0, _DAY, {"never": 0.0})] = Field(default=60.0, alias="negative")
    """How long "not found" is remembered, so that a node retrying a missing image costs no upstream requests. `never`:
    not at all. Refused credentials are never remembered."""
    allow: Annotated[tuple[str, ...], Patterns()] = ()
    """What the rule serves: patterns of names without the rule's prefix, with `library/` where Docker Hub has it.
    Empty: everything."""
    deny: Annotated[tuple[str, ...], Patterns()] = ()
    """What it does not serve; wins over `allow`."""
    username: Annotated[str, Text()] = ""
    """The account for this rule, with exactly one place of its token below. Empty: the account of
    `docker_hub_username` or `github_username` where the upstream is theirs, else anonymous."""
    access_token_env: Annotated[str, VariableName()] = ""
    """The name of the environment variable that holds the token."""
    access_token_file: Annotated[Path | None, FilePath(private=True)] = None
    """A file with nothing but the token, read again when it changes and once after a 401."""
    access_token_command: Annotated[tuple[str, ...], Command()] = ()
    """A program whose output is the token. It runs when the token is first needed, every 10 minutes after that, and
    once after a 401; 10 seconds are its limit."""
    access_token: Annotated[bool, Secret("a secret; from the file with `allow_inline_tokens = true`")] = False
    """The token itself; refused unless `allow_inline_tokens = true`."""
    anonymous: Annotated[bool, Flag()] = False
    """Whether pulls under this rule are anonymous although there is an account for its upstream. `plan` and `apply` want
    an account for Docker Hub and GitHub unless the rule says this; AWS itself takes no such rule."""
    credential_arn: Annotated[
        str,
        Formed(
            r"|(?=.{1,612}$)arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:"
            r"secret:ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]+-[a-zA-Z0-9]{6}",
            "a secret's whole ARN, the 6 characters at its end included, with a name that begins with "
            "`ecr-pullthroughcache/`",
        ),
    ] = ""
    """A secret that is there already, in Secrets Manager, with this rule's account: instead of `username` and a token.
    `apply` leaves it as it is; an engine looks for it in its own Secrets Manager."""
    secret_name: Annotated[
        str,
        Formed(r"|ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]{1,491}", "a name that begins with `ecr-pullthroughcache/`"),
    ] = ""
    """The name of the secret that `apply` keeps this rule's account in. Empty: `ecr-pullthroughcache/` and the prefix."""
    custom_role_arn: Annotated[str, _ROLE_ARN] = ""
    """The role with which ECR pulls from the ECR of another account. An engine keeps it and pulls without it."""
    verify_image: Annotated[str, Image()] = ""
    """What `verify` pulls the manifest of, without the rule's prefix. Empty: a small public image of the known
    upstreams; of others nothing is pulled."""
    enabled: Annotated[bool, Flag()] = True
    """Whether the rule is there at all. `false` switches it off, also where the prefix is a standard one: nothing is
    served under it, and `addresses` names the upstream itself."""


class TemplateSettings(Model):
    """What repositories are created with that pulls create: `plan` and `apply` make a repository creation template of
    it for each rule."""

    enabled: Annotated[bool, Flag()] = True
    """Whether there is a template. Without one, ECR creates repositories with its defaults, which expire nothing."""
    keep_images: Annotated[int | None, Count(1, 100_000)] = KEEP_IMAGES
    """How many tagged images a repository keeps, the newest ones, by a lifecycle policy. `never`: none is expired. On
    AWS an expired image can not be filled again by its digest, only by a tag; hence a count, and no age."""
    lifecycle_policy_file: Annotated[Path | None, FilePath()] = None
    """A lifecycle policy in JSON, instead of the one that `keep_images` makes; not beside that key."""
    tag_mutability: Annotated[TagMutability, Choice(TagMutability)] = TagMutability.MUTABLE
    """Whether a tag may come to name another image. `immutable` keeps ECR from following a tag that moved upstream."""
    tag_mutability_exclusions: Annotated[
        tuple[str, ...],
        # The limits are ECR's:
        # https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html
        FormedList(
            r"(?!(?:.*\*){3})[0-9a-zA-Z._*-]{1,128}", "a list of up to 5 tags in which up to two `*` are wild", most=5
        ),
    ] = ()
    """Tags for which the opposite of `tag_mutability` holds."""
    resource_tags: Annotated[Mapping[str, str], Tags(marked=False)] = Field(default_factory=dict)
    """Tags that repositories carry. With any, ECR needs a role to create them, which `apply` makes unless `role_arn`
    names one."""
    encryption: Annotated[Encryption, Choice(Encryption)] = Encryption.AES256
    """How repositories are encrypted. `KMS` needs a role likewise. It can not be changed for a repository that is
    there."""
    kms_key: Annotated[
        str, Formed(r"|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+", "a KMS key's whole ARN, no alias")
    ] = ""
    """The KMS key, with `encryption = "KMS"`. Empty: AWS's own key."""
    pull_accounts: Annotated[tuple[str, ...], _ACCOUNTS] = ()
    """Accounts that may pull from the repositories, by their policy; beside those of `[access]`."""
    pull_organization: Annotated[str, _ORGANIZATION] = ""
    """The organisation whose accounts may. Empty: that of `[access]`."""
    repository_policy_file: Annotated[Path | None, FilePath()] = None
    """A repository policy in JSON, instead of the one made of the two above and of `[access]`; not beside the two."""
    role_arn: Annotated[str, _ROLE_ARN] = ""
    """The role with which ECR creates repositories that have tags or KMS. Empty: `apply` makes one where a template
    needs it."""


class AccessSettings(Model):
    """Who may pull: what `plan` and `apply` give to nodes and to other accounts."""

    node_roles: Annotated[
        tuple[str, ...], FormedList(rf"(?:{_ROLE})?{_ROLE_NAME}", "a list of names of IAM roles, or of their ARNs")
    ] = ()
    """The IAM roles of nodes, of the account that `apply` works in. Each gets an inline policy with what a pull through
    the cache needs, for the rules' prefixes."""
    pull_accounts: Annotated[tuple[str, ...], _ACCOUNTS] = ()
    """Other accounts that may pull, and fill the cache by it: a statement of the registry's policy, and one of each
    repository's."""
    pull_organization: Annotated[str, _ORGANIZATION] = ""
    """The organisation whose accounts may."""
    vpc: Annotated[str, Formed(r"|vpc-(?:[0-9a-f]{8}|[0-9a-f]{17})", "a VPC's id such as `vpc-0a1b2c3d`")] = ""
    """The VPC whose endpoints for ECR and S3 `verify` looks for. Empty: it does not look."""


class ScanningSettings(Model):
    """Scanning of cached images, merged into the registry's own scanning configuration."""

    frequency: Annotated[ScanFrequency | None, Choice(ScanFrequency)] = None
    """When images under the rules' prefixes are scanned. `continuous` wants enhanced scanning, which is never switched
    on here. None: nothing is said about them."""


class UpstreamSettings(Model):
    """How to reach an upstream. The table's key is the host; it holds for every rule that names it."""

    endpoint: Annotated[tuple[str, ...], Urls()] = ()
    """Where to connect instead of `https://<host>`: a test registry, an egress mirror. Its path, if any, goes before
    `/v2/`. Of a list, the next is tried where one cannot be reached."""
    token_realms: Annotated[tuple[str, ...], Hosts()] = ()
    """Further hosts that may be asked for tokens, and so be sent the credential. The realms of the known registries are
    built in, and the upstream's own host is always allowed."""
    ca_file: Annotated[Path | None, FilePath()] = None
    """Certificates to trust for this upstream, in PEM form, instead of the system's. None: the system's."""
    client_cert: Annotated[Path | None, FilePath()] = None
    """The certificate chain that this engine shows to the upstream, in PEM form. None: none."""
    client_key: Annotated[Path | None, FilePath()] = None
    """Its private key. Both may name one file."""
    proxy: Annotated[str, ProxyUrl()] = Field(default="", repr=False)
    """The proxy for this upstream. Empty: what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say."""
    connect_timeout_seconds: Annotated[float, Duration(0.1, 600)] = Field(default=5.0, alias="connect_timeout")
    """How long a connection, TLS included, may take."""
    first_byte_timeout_seconds: Annotated[float, Duration(0.1, 3600)] = Field(default=15.0, alias="first_byte_timeout")
    """How long an answer may take to begin; a blob's may take `stall_timeout`, if that is longer."""
    stall_timeout_seconds: Annotated[float, Duration(0.1, 3600)] = Field(default=30.0, alias="stall_timeout")
    """How long a body may pause, or take to begin, before its transfer is resumed. There is no limit on the whole transfer."""
    queue_timeout_seconds: Annotated[float, Duration(0.1, 3600)] = Field(default=30.0, alias="queue_timeout")
    """How long a pull of something not cached waits for the upstream's rate limit, however often it is told to, and a
    question for a free connection, before the answer is 429 with `Retry-After`, or 503 for clients that came by `ns` or a
    mirror and have another host to go on to."""
    connections: Annotated[int, Number(1, 256)] = 8
    """Bodies in transfer at once from this upstream, and questions beside them. Clients that ask for more wait their turn,
    in fair shares: neither one client nor one image takes the last connection while it has others."""
    retries: Annotated[int, Number(0, 10)] = 2
    """How often a request that is safe to repeat is repeated, and a transfer resumed without new bytes in between."""


class EcrSettings(Model):
    """The AWS APIs (ECR, Secrets Manager, STS), who may use them, and who may log in as a registry client."""

    auth: Annotated[EcrAuth, Choice(EcrAuth)] = EcrAuth.KEYS
    """`keys`: the APIs and pushes need an API key; without any in `[ecr.keys.<name>]`, `pullthrough keys show` makes
    and shows the first one. `none`: any signature, any region and no login are taken for the registry's root, for
    throw-away use on loopback."""
    auth_none_everywhere: Annotated[bool, Flag()] = False
    """Whether `auth = "none"` may stand beside an address other than loopback: then everyone who can reach it may
    change and push everything."""
    account: Annotated[str, Formed(r"[0-9]{12}", "12 digits in quotes")] = "000000000000"
    """The account that this registry is in: the registry's id."""
    region: Annotated[str, Formed(r"(?=.{1,32}$)[a-z0-9]+(-[a-z0-9]+)*", "a region such as `us-east-1`")] = "us-east-1"
    """The region that this registry is in. Requests signed for another one are refused."""
    registry_host: Annotated[str, HostTemplate()] = ""
    """The name by which clients reach this registry, for `repositoryUri` and `proxyEndpoint`; for tools that insist on
    one, `{account}.dkr.ecr.{region}.amazonaws.com`. Empty: the listen address."""
    strict: Annotated[bool, Flag()] = False
    """Whether the ECR API refuses what AWS refuses: upstreams other than AWS's nine, Docker Hub without a secret,
    pushes into repositories that were not made before."""
    htpasswd_file: Annotated[Path | None, FilePath()] = None
    """Users that registry clients may log in as, in htpasswd's form, with bcrypt hashes (`htpasswd -B`). Read again
    when it changes. They may pull; repository and registry policies may allow them more."""
    encryption_key: Annotated[bool, Secret()] = False
    """The key that secrets and API keys are encrypted with, in base64. Only `PULLTHROUGH_ECR_ENCRYPTION_KEY` may hold
    it; it goes before `encryption_key_file`."""
    encryption_key_file: Annotated[Path | None, FilePath(private=True)] = None
    """The file with that key; made, with mode 0600, where it is missing and nothing is encrypted yet. None: beside the
    data folder, under its name with `.key` added, so that a copy of the folder does not hold it."""
    webhook_url: Annotated[str, WebhookUrl()] = Field(default="", repr=False)
    """Where each event is posted. Empty: nowhere."""
    webhook_secret_file: Annotated[Path | None, FilePath(private=True)] = None
    """A file with the secret that posted events are signed with, read anew for each. An engine does not start with an
    empty one; where it is emptied later, events wait until it holds a secret. None: they are not signed."""
    keep_events: Annotated[int, Number(100, 1_000_000)] = 10_000
    """How many events are kept for `pullthrough events`; the oldest go first."""
    lifecycle_interval_seconds: Annotated[float, Duration(1, _DAY)] = Field(default=3600.0, alias="lifecycle_interval")
    """How often lifecycle policies are evaluated; AWS does it within 24 h."""


class KeySettings(Model):
    """An API key, for the AWS APIs and, through GetAuthorizationToken, for registry clients. The table's key is the
    name of its user. Further ones are made with `pullthrough keys create`."""

    access_key_id: Annotated[str, Formed(r"[A-Za-z0-9_]{4,128}", "4 to 128 letters, digits and `_`")] = ""
    """The key's public half."""
    secret_access_key_file: Annotated[Path | None, FilePath(private=True)] = None
    """A file with nothing but its secret half, read again when it changes."""
    role: Annotated[Role, Choice(Role)] = Role.PULL
    """What it may do: `pull` is all that a pull needs, `admin` is everything."""
    policy_file: Annotated[Path | None, FilePath()] = None
    """An IAM policy document in JSON, instead of a role. Read again when it changes."""


_DEFAULT_UPSTREAM = UpstreamSettings()


class Settings(Model):
    """All an engine needs to know."""

    serve: ServeSettings
    rules: tuple[Rule, ...]
    """In the order of the file, then the built-in ones."""
    upstreams: Mapping[str, UpstreamSettings] = Field(default_factory=dict)
    """By canonical host."""
    declaration: Declaration = Declaration()
    """What `plan` and `apply` make of the same file."""
    journal: Path | None = None
    """Where `apply` writes down what it did; None for the usual place."""
    accounts: Mapping[str, CredentialSource] = Field(default_factory=dict)
    """The top level's accounts by canonical host, for rules that are made later."""
    ecr: EcrSettings = EcrSettings()
    ecr_keys: Mapping[str, KeySettings] = Field(default_factory=dict)
    """API keys by name."""

    @property
    def encryption_key_path(self) -> Path:
        """Where the encryption key's file is, or would be made."""
        data = self.serve.data
        return self.ecr.encryption_key_file or data.parent / f"{data.name}.key"

    def upstream(self, host: str) -> UpstreamSettings:
        """How to reach this host; the defaults where the file says nothing."""
        return self.upstreams.get(canonical_host(host), _DEFAULT_UPSTREAM)
