"""Declarations for the Pulumi component and the CDK construct, and what `pullthrough apply` would make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pullthrough.declaration import GITHUB, STANDARD_RULES, Declaration, Rule
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.model.accounts import Account, wants_account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.resources import Attributes, Key
from tests.unit.provision.export.support import CASES as EXPORTED
from tests.unit.provision.export.support import HOST, TARGET

#: Never written anywhere in clear.
DOCKER_HUB_TOKEN, GITHUB_TOKEN, MORE_TOKEN = "dckr_pat_one", "ghp_two", "glpat_three"
INPUTS: Mapping[str, Any] = {
    "docker_hub_username": "acme",
    "docker_hub_access_token": DOCKER_HUB_TOKEN,
    "github_username": "octocat",
    "github_access_token": GITHUB_TOKEN,
}
#: Its key is its own: nothing is compared with what was stored.
FINGERPRINTS = Fingerprints(Path("/nowhere"))
#: By upstream, as the four inputs say.
_INPUTS = {DOCKER_HUB: ("acme", DOCKER_HUB_TOKEN), GITHUB: ("octocat", GITHUB_TOKEN)}


@dataclass(frozen=True)
class Case:
    declaration: Declaration
    #: The accounts that are passed by prefix: user name and token.
    accounts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _with_accounts(declaration: Declaration) -> Case:
    """Accounts for those rules that the four inputs are not for."""
    wanting = [rule for rule in declaration.rules if wants_account(rule, TARGET) and rule.upstream not in _INPUTS]
    return Case(declaration, {rule.prefix: (f"user-{rule.prefix}", f"{MORE_TOKEN}-{rule.prefix}") for rule in wanting})


#: By what is special about it: what is exported, too, and what only these two can be told.
CASES: Mapping[str, Case] = {name: _with_accounts(declaration) for name, declaration in EXPORTED.items()} | {
    "an account for one rule": Case(Declaration(rules=STANDARD_RULES), {"docker-hub": ("other", MORE_TOKEN)}),
    "two rules with one secret": Case(
        Declaration(
            rules=(
                Rule("hub", DOCKER_HUB, secret_name="ecr-pullthroughcache/one"),
                Rule("mirror", DOCKER_HUB, secret_name="ecr-pullthroughcache/one"),
            )
        )
    ),
}
#: A registry that is written in image names, by the names of the properties: with the usual rules.
ADDRESSES = {
    "ecr_public": f"{HOST}/ecr-public",
    "kubernetes": f"{HOST}/kubernetes",
    "quay": f"{HOST}/quay",
    "docker_hub": f"{HOST}/docker-hub",
    "github": f"{HOST}/github",
}
#: Some of those of other cases.
OTHER_ADDRESSES = [
    ("renamed and switched off", {"docker_hub": f"{HOST}/hub", "github": "ghcr.io", "quay": f"{HOST}/quay"}),
    ("root", {"docker_hub": HOST, "quay": f"{HOST}/quay"}),
    ("ecr to ecr", {"docker_hub": "docker.io", "kubernetes": "registry.k8s.io", "own__one": f"{HOST}/own/one"}),
    ("accounts of their own", {"lab": f"{HOST}/lab", "azure": f"{HOST}/azure"}),
]


def applied(case: Case) -> dict[Key, Attributes]:
    """What `pullthrough apply` makes, with tokens as fingerprints."""
    accounts = {
        rule.prefix: Account(*(case.accounts.get(rule.prefix) or _INPUTS[rule.upstream]))
        for rule in case.declaration.rules
        if wants_account(rule, TARGET)
    }
    desired = build_desired(case.declaration, accounts, FINGERPRINTS, TARGET)
    return {resource.key: resource.attributes for resource in desired.resources}
