"""The module from Python: `from pullthrough import PullThroughCache`.

cache = PullThroughCache(
    docker_hub_username="acme", docker_hub_access_token=token,
    github_username="acme", github_access_token=other_token,
)
deployment = cache.connect(region="eu-central-1")
plan = deployment.plan()
deployment.apply(plan)
assert deployment.verify().ok
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pullthrough.declaration import (
    GITHUB,
    STANDARD_RULES,
    CredentialSource,
    Declaration,
    InlineToken,
    NodeAccess,
    Rule,
    ScanFrequency,
    Template,
)
from pullthrough.errors import InputMissing
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.aws import connect
from pullthrough.provision.deployment import Deployment


class PullThroughCache:
    """What a cache is to be: the inputs of the Terraform module aws_ecr_pull_through_cache, and further ones."""

    def __init__(
        self,
        *,
        docker_hub_username: str = "",
        docker_hub_access_token: str = "",
        github_username: str = "",
        github_access_token: str = "",
        rules: Iterable[Rule] | None = None,
        template: Template = Template(),  # noqa: B008 # frozen
        templates: Mapping[str, Template] | None = None,
        access: NodeAccess = NodeAccess(),  # noqa: B008 # frozen
        scan_frequency: ScanFrequency | None = None,
        tags: Mapping[str, str] | None = None,
        name: str = "pullthrough",
        journal: Path | None = None,
    ) -> None:
        """`rules` None means the five standard ones. `templates`, by prefix, win over `template`.

        The tokens go into Secrets Manager and nowhere else; no repr, plan or error holds one. Raises InputMissing for a user
        name without a token, or a token without a user name.
        """
        accounts = {
            host: _account(key, username, token)
            for host, key, username, token in (
                (DOCKER_HUB, "docker_hub", docker_hub_username, docker_hub_access_token),
                (GITHUB, "github", github_username, github_access_token),
            )
            if username or token
        }
        declared = [
            replace(rule, credential=accounts[rule.upstream])
            if rule.credential is None and not rule.anonymous and rule.upstream in accounts
            else rule
            for rule in (STANDARD_RULES if rules is None else rules)
        ]
        self.declaration = Declaration(
            name=name,
            rules=tuple(declared),
            templates={rule.prefix: (templates or {}).get(rule.prefix, template) for rule in declared},
            access=access,
            scan_frequency=scan_frequency,
            tags=dict(tags or {}),
            usernames={host: account.username for host, account in accounts.items()},
        )
        self._journal = journal

    @classmethod
    def from_file(cls, path: Path | str, environ: Mapping[str, str] | None = None) -> PullThroughCache:
        """What a `pullthrough.toml` declares; tokens come from the places that it names.

        Raises ConfigurationError.
        """
        from pullthrough.settings import load_settings

        loaded = load_settings(Path(path), os.environ if environ is None else environ, {}, require_tokens=False)
        cache = cls(journal=loaded.settings.journal)
        cache.declaration = loaded.settings.declaration
        return cache

    def connect(
        self,
        *,
        profile: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Deployment:
        """This declaration at an AWS account, by AWS's usual chain of credentials, or at an engine.

        Asks STS who we are. Raises TargetUnusable, ConfigurationError.
        """
        environ = os.environ if environ is None else environ
        connection = connect(environ, profile=profile, region=region, endpoint_url=endpoint_url)
        return Deployment(self.declaration, connection, environ, journal=self._journal)

    def __repr__(self) -> str:
        return f"PullThroughCache(name={self.declaration.name!r}, rules={[rule.prefix for rule in self.declaration.rules]})"


def _account(key: str, username: str, token: str) -> CredentialSource:
    if not username or not token:
        missing, given = ("username", "access_token") if token else ("access_token", "username")
        raise InputMissing(f"{key}_{given} is given without {key}_{missing}")
    return CredentialSource(username, access_token=InlineToken(token))
