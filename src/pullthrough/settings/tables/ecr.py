"""The AWS APIs, and who may use them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pullthrough.declaration import DAY_SECONDS
from pullthrough.settings.fields import setting, table
from pullthrough.settings.values.network import (
    HostTemplate,
    WebhookUrl,
)
from pullthrough.settings.values.quantities import (
    Duration,
    Flag,
    Number,
)
from pullthrough.settings.values.texts import (
    Choice,
    FilePath,
    Formed,
    SecretText,
)


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


@table
class EcrSettings:
    """The AWS APIs (ECR, Secrets Manager, STS), who may use them, and who may log in as a registry client."""

    auth: EcrAuth = setting(Choice(EcrAuth), default=EcrAuth.KEYS)
    """`keys`: the APIs and pushes need an API key; without any in `[ecr.keys.<name>]`, `pullthrough keys show` makes
    and shows the first one. `none`: any signature, any region and no login are taken for the registry's root, for
    throw-away use on loopback."""
    auth_none_everywhere: bool = setting(Flag(), default=False)
    """Whether `auth = "none"` may stand beside an address other than loopback: then everyone who can reach it may
    change and push everything."""
    account: str = setting(Formed(r"[0-9]{12}", "12 digits in quotes"), default="000000000000")
    """The account that this registry is in: the registry's id."""
    region: str = setting(
        Formed(r"(?=.{1,32}$)[a-z0-9]+(-[a-z0-9]+)*", "a region such as `us-east-1`"), default="us-east-1"
    )
    """The region that this registry is in. Requests signed for another one are refused."""
    registry_host: str = setting(HostTemplate(), default="")
    """The name by which clients reach this registry, for `repositoryUri` and `proxyEndpoint`; for tools that insist on
    one, `{account}.dkr.ecr.{region}.amazonaws.com`. Empty: the listen address."""
    strict: bool = setting(Flag(), default=False)
    """Whether the ECR API refuses what AWS refuses: upstreams other than AWS's nine, Docker Hub without a secret,
    pushes into repositories that were not made before."""
    htpasswd_file: Path | None = setting(FilePath(), default=None)
    """Users that registry clients may log in as, in htpasswd's form, with bcrypt hashes (`htpasswd -B`). Read again
    when it changes. They may pull; repository and registry policies may allow them more."""
    encryption_key: bool = setting(SecretText("a secret; from the environment only"), default=False)
    """The key that secrets and API keys are encrypted with, in base64. Only `PULLTHROUGH_ECR_ENCRYPTION_KEY` may hold
    it; it goes before `encryption_key_file`."""
    encryption_key_file: Path | None = setting(FilePath(private=True), default=None)
    """The file with that key; made, with mode 0600, where it is missing and nothing is encrypted yet. None: beside the
    data folder, under its name with `.key` added, so that a copy of the folder does not hold it."""
    webhook_url: str = setting(WebhookUrl(), default="")
    """Where each event is posted. Empty: nowhere."""
    webhook_secret_file: Path | None = setting(FilePath(private=True), default=None)
    """A file with the secret that posted events are signed with, read anew for each. An engine does not start with an
    empty one; where it is emptied later, events wait until it holds a secret. None: they are not signed."""
    keep_events: int = setting(Number(100, 1_000_000), default=10_000)
    """How many events are kept for `pullthrough events`; the oldest go first."""
    lifecycle_interval_seconds: float = setting(Duration(1, DAY_SECONDS), default=3600.0, key="lifecycle_interval")
    """How often lifecycle policies are evaluated; AWS does it within 24 h."""


@table
class KeySettings:
    """An API key, for the AWS APIs and, through GetAuthorizationToken, for registry clients. The table's key is the
    name of its user. Further ones are made with `pullthrough keys create`."""

    access_key_id: str = setting(Formed(r"[A-Za-z0-9_]{4,128}", "4 to 128 letters, digits and `_`"), default="")
    """The key's public half."""
    secret_access_key_file: Path | None = setting(FilePath(private=True), default=None)
    """A file with nothing but its secret half, read again when it changes."""
    role: Role = setting(Choice(Role), default=Role.PULL)
    """What it may do: `pull` is all that a pull needs, `admin` is everything."""
    policy_file: Path | None = setting(FilePath(), default=None)
    """An IAM policy document in JSON, instead of a role. Read again when it changes."""
