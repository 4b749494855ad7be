"""The accounts that rules log in with: which rules want one, and the secret that keeps it. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pullthrough.declaration import GITHUB, Declaration, Rule, SecretCredential
from pullthrough.oci.ecr_upstreams import WANT_SECRET, kind_of
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.model.target import DeploymentTarget

#: Every secret of a pull-through cache rule is called so:
#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html
SECRET_PREFIX = "ecr-pullthroughcache/"


#: For the two accounts of the Terraform module: the beginning of its inputs' names.
INPUTS: Mapping[str, str] = {DOCKER_HUB: "docker_hub", GITHUB: "github"}


#: Where a token comes from, and what it must be allowed to do.
WHERE_TOKENS_ARE: Mapping[str, str] = {
    "docker-hub": (
        "make a personal access token at https://app.docker.com/settings/personal-access-tokens with the access "
        "'Public Repo Read-only' ('Read-only' for private images too)"
    ),
    "github-container-registry": (
        "make a personal access token (classic) with the scope read:packages at "
        "https://github.com/settings/tokens/new?scopes=read:packages"
    ),
    "gitlab-container-registry": (
        "make a deploy token, or a personal access token, with the scope read_registry: "
        "https://docs.gitlab.com/user/project/deploy_tokens/"
    ),
    "azure-container-registry": (
        "make a token with the scope map _repositories_pull: "
        "https://learn.microsoft.com/azure/container-registry/container-registry-token-based-repository-permissions"
    ),
    "chainguard": "make a pull token with `chainctl auth pull-token`",
}


@dataclass(frozen=True, slots=True)
class Account:
    """A user name and token as they are now."""

    username: str
    token: str = field(repr=False)


def secret_name_of(rule: Rule) -> str:
    return rule.secret_name or f"{SECRET_PREFIX}{rule.prefix}"


def wants_account(rule: Rule, target: DeploymentTarget) -> bool:
    """Whether this rule needs a user name and token, or has them, to be kept in a secret of ours.

    Docker Hub and GitHub want one everywhere, as the Terraform module does, unless the rule says `anonymous = true`;
    AWS wants one for its other kinds too.
    """
    if rule.anonymous or isinstance(rule.credential, SecretCredential):
        return False
    if rule.credential is not None or rule.upstream in INPUTS:
        return True
    return not target.is_engine and kind_of(rule.upstream) in WANT_SECRET


def placeholder_accounts(declaration: Declaration, target: DeploymentTarget) -> dict[str, Account]:
    """Accounts without tokens, for exports, `destroy` and `verify`, which only need to know that there is one."""
    return {
        rule.prefix: Account(declaration.usernames.get(rule.upstream, ""), "")
        for rule in declaration.rules
        if wants_account(rule, target)
    }
