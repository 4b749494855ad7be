"""The keys before the first table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pullthrough.settings.fields import setting, table
from pullthrough.settings.values.aws import Tags
from pullthrough.settings.values.quantities import (
    Flag,
)
from pullthrough.settings.values.texts import (
    Command,
    FilePath,
    Formed,
    SecretText,
    Text,
)

_INLINE_SECRET = SecretText(
    "a secret; from the environment, or from the file with `allow_inline_tokens = true`", is_inline=True
)


@table
class TopSettings:
    """Keys before the first table of the file: the accounts, with the names of the Terraform module's inputs, which
    standard rules are there, and what holds for everything that `plan` and `apply` make."""

    docker_hub_username: str = setting(Text(), default="")
    """The account for Docker Hub. It goes to every rule whose upstream is `registry-1.docker.io`, unless the rule has
    its own `username` or says `anonymous = true`. Empty: pulls are anonymous, under Docker Hub's limit per address."""
    docker_hub_access_token: bool = setting(_INLINE_SECRET, default=False)
    """The account's access token. Its place is `PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN`; in the file, which gets copied
    and committed, it is refused unless `allow_inline_tokens = true`."""
    docker_hub_access_token_file: Path | None = setting(FilePath(private=True), default=None)
    """A file with nothing but the token, read again when it changes and once after a 401."""
    docker_hub_access_token_command: tuple[str, ...] = setting(Command(), default=())
    """A program whose output is the token. It runs when the token is first needed, every 10 minutes after that, and
    once after a 401; 10 seconds are its limit."""
    github_username: str = setting(Text(), default="")
    """The account for `ghcr.io`, as above. Empty: pulls are anonymous."""
    github_access_token: bool = setting(_INLINE_SECRET, default=False)
    """The account's access token, with the right `read:packages`. Its place is `PULLTHROUGH_GITHUB_ACCESS_TOKEN`, as
    above."""
    github_access_token_file: Path | None = setting(FilePath(private=True), default=None)
    """A file with nothing but the token, as above."""
    github_access_token_command: tuple[str, ...] = setting(Command(), default=())
    """A program whose output is the token, as above."""
    allow_inline_tokens: bool = setting(Flag(), default=False)
    """Whether this file may hold access tokens themselves: `docker_hub_access_token`, `github_access_token`, and
    `access_token` of a rule. Files get copied and committed; each such token is warned of."""
    name: str = setting(
        Formed(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", "1 to 32 lower-case letters and digits with `-` between them"),
        default="pullthrough",
    )
    """The declaration's name. What `apply` makes is marked with it, and only what bears the mark is ever taken back.
    Two declarations in one account and region need two names."""
    journal: Path | None = setting(FilePath(), default=None)
    """The file in which `apply` and `destroy` write down each step they finish. It holds no secret. None: one for each
    name, account, region and endpoint in `$XDG_STATE_HOME/pullthrough`, else `~/.local/state/pullthrough`."""
    tags: Mapping[str, str] = setting(Tags(marked=True), default_factory=dict)
    """Tags of what AWS lets carry them: secrets, and roles that `apply` makes. Tags of repositories are a template's."""
    standard_rules: bool = setting(Flag(), default=True)
    """Whether the five built-in rules are there: `docker-hub`, `github`, `quay`, `kubernetes`, `ecr-public`. A rule of
    the file with the same prefix replaces the built-in one."""
