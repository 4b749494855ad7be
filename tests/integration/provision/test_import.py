"""Importing from a real engine: what it has is declared, and then there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.declaration import ROOT, Declaration, Encryption, NodeAccess, Rule, ScanFrequency, Template
from pullthrough.provision.deployment import Deployment
from pullthrough.provision.imports.declaration import declaration_text
from pullthrough.settings import load_settings
from tests.integration.ecr import TOKEN, Site, open_site
from tests.integration.provision.deployments import HUB, QUAY, applied, deployed

OF_THE_FILE = Rule("of-the-file", "registry.example.com:5000")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    top = 'standard_rules = false\n[rules.of-the-file]\nupstream = "registry.example.com:5000"\n'
    with open_site(tmp_path, 1, top=top) as opened:
        yield opened


def imported(site: Site, tmp_path: Path, name: str | None = None) -> Declaration:
    """By somebody who declares nothing yet."""
    with deployed(Declaration(), site.engine.url, tmp_path / "other-home") as deployment:
        found = declaration_text(deployment.observe(), name=name)
    folder = tmp_path / "imported"
    folder.mkdir()
    for path, text in {"pullthrough.toml": found.text, **found.files}.items():
        (folder / path).write_text(text)
    assert TOKEN not in found.text
    return load_settings(folder / "pullthrough.toml", {"HOME": str(tmp_path)}, {}).settings.declaration


def check_nothing_to_do(deployment: Deployment) -> None:
    plan = deployment.plan()
    assert (plan.steps, plan.problems) == ((), ())


def test_what_was_applied_is_imported_with_nothing_to_do(site: Site, tmp_path: Path) -> None:
    lifecycle = tmp_path / "lifecycle.json"
    lifecycle.write_text(
        '{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "tagged", "tagPrefixList": ["v"],'
        ' "countType": "imageCountMoreThan", "countNumber": 3}, "action": {"type": "expire"}}]}'
    )
    declaration = Declaration(
        name="team-a",
        rules=(HUB, QUAY, Rule("mine", "registry.gitlab.com", upstream_repository_prefix="group/app"), OF_THE_FILE),
        templates={
            "docker-hub": Template(encryption=Encryption.KMS, tag_mutability_exclusions=("v*",)),
            "quay": Template(lifecycle_policy_file=lifecycle, resource_tags={"team": "a"}),
            "mine": Template(enabled=False),
            "of-the-file": Template(keep_images=5),
        },
        access=NodeAccess(pull_accounts=("210987654321",), pull_organization="o-a1b2c3d4e5"),
        scan_frequency=ScanFrequency.ON_PUSH,
    )
    with deployed(declaration, site.engine.url, tmp_path / "home") as deployment:
        applied(deployment)
    again = imported(site, tmp_path)
    assert again.name == "team-a"
    assert {rule.prefix for rule in again.rules} == {"docker-hub", "quay", "mine", "of-the-file"}
    assert again.access.pull_accounts == ("210987654321",)
    assert again.scan_frequency is ScanFrequency.ON_PUSH
    # Whoever imports has no token and needs none.
    with deployed(again, site.engine.url, tmp_path / "other-home") as deployment:
        check_nothing_to_do(deployment)
        assert deployment.status().is_in_line


def test_what_somebody_made_by_hand_is_imported_with_nothing_to_do(site: Site, tmp_path: Path) -> None:
    ecr = site.client()
    arn = site.secret("by-hand", '{"username": "acme", "accessToken": "by-hand-too"}')
    ecr.create_pull_through_cache_rule(
        ecrRepositoryPrefix="hub", upstreamRegistryUrl="registry-1.docker.io", credentialArn=arn
    )
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=ROOT, upstreamRegistryUrl="https://quay.io")
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="github", upstreamRegistryUrl="ghcr.io")
    ecr.create_repository_creation_template(prefix="hub", appliedFor=["PULL_THROUGH_CACHE"], description="by hand")
    ecr.create_repository_creation_template(prefix="own", appliedFor=["CREATE_ON_PUSH"], lifecyclePolicy="")
    again = imported(site, tmp_path)
    assert {rule.prefix: rule.upstream for rule in again.rules} == {
        "hub": "registry-1.docker.io",
        ROOT: "quay.io",
        "github": "ghcr.io",
        "of-the-file": "registry.example.com:5000",
    }
    with deployed(again, site.engine.url, tmp_path / "other-home") as deployment:
        check_nothing_to_do(deployment)


def test_an_empty_engine_is_imported_as_one(tmp_path: Path) -> None:
    with open_site(tmp_path, 1, top="standard_rules = false") as site:
        again = imported(site, tmp_path)
        assert again.rules == ()
        with deployed(again, site.engine.url, tmp_path / "other-home") as deployment:
            check_nothing_to_do(deployment)
