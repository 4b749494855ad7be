"""Status of a real engine: rules of its file, drift, and repositories that were made before their template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.declaration import Declaration, Rule, Template
from pullthrough.provision.model.observed import ImageCount
from pullthrough.provision.model.plan import Options
from pullthrough.provision.model.resources import ResourceKind
from pullthrough.provision.observation.repositories import count_images, read_repositories
from tests.integration.ecr import TOKEN, Site, open_site
from tests.integration.provision.deployments import HUB, QUAY, applied, deployed

DECLARATION = Declaration(rules=(HUB, QUAY))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    top = 'standard_rules = false\n[rules.of-the-file]\nupstream = "registry.example.com"\n'
    with open_site(tmp_path, 1, top=top) as opened:
        yield opened


def test_after_an_apply_everything_is_in_line(site: Site, tmp_path: Path) -> None:
    with deployed(DECLARATION, site.engine.url, tmp_path) as deployment:
        before = deployment.status()
        assert [(rule.prefix, rule.is_there) for rule in before.rules] == [
            ("docker-hub", False),
            ("quay", False),
            ("of-the-file", True),
        ]
        assert not before.is_in_line
        applied(deployment)
        after = deployment.status()
    assert after.is_in_line
    hub, quay, of_the_file = after.rules
    assert hub.credential is not None
    assert (hub.credential.secret, hub.credential.is_there) == ("ecr-pullthroughcache/docker-hub", True)
    assert hub.credential.age_seconds is not None
    assert hub.credential.age_seconds < 600
    assert hub.created_at is not None
    assert quay.credential is None
    assert (of_the_file.is_of_engine_file, of_the_file.is_declared, of_the_file.created_at) == (True, False, None)
    assert [(left.key.name, left.what) for left in after.left_alone] == [("of-the-file", "registry.example.com")]
    assert [(template.prefix, template.marked_by) for template in after.templates] == [
        ("docker-hub", "pullthrough"),
        ("quay", "pullthrough"),
    ]
    assert TOKEN not in json.dumps(after.as_json())


def test_what_somebody_changed_is_drift(site: Site, tmp_path: Path) -> None:
    with deployed(DECLARATION, site.engine.url, tmp_path) as deployment:
        applied(deployment)
        site.client().delete_repository_creation_template(prefix="quay")
        site.client().create_pull_through_cache_rule(ecrRepositoryPrefix="theirs", upstreamRegistryUrl="quay.io")
        status = deployment.status()
    assert [(step.key.kind, step.key.name) for step in status.drift] == [(ResourceKind.TEMPLATE, "quay")]
    assert "theirs" in {left.key.name for left in status.left_alone}


def test_repositories_made_before_their_template_are_named_and_brought_up(site: Site, tmp_path: Path) -> None:
    bare = Declaration(rules=(QUAY,), templates={"quay": Template(enabled=False)})
    with deployed(bare, site.engine.url, tmp_path) as deployment:
        applied(deployment)
        image = site.add("team/app")
        site.cache("quay/team/app", image)
        assert [rule.repositories for rule in deployment.status().rules if rule.prefix == "quay"] == [1]
        assert deployment.status().differing_repositories == ()
        assert count_images(deployment.aws, "quay/team/app") == ImageCount(
            1, sum(blob.size_bytes for blob in image.blobs)
        )

    template = Template(keep_images=7, pull_accounts=("210987654321",), resource_tags={"team": "a"})
    with deployed(Declaration(rules=(QUAY,), templates={"quay": template}), site.engine.url, tmp_path) as deployment:
        applied(deployment)
        status = deployment.status()
        (step,) = status.differing_repositories
        assert [name for name, _, _ in step.changes] == ["lifecyclePolicy", "repositoryPolicy", "resourceTags"]
        assert status.is_in_line
        plan = applied(deployment, Options(existing=True))
        assert [entry.key for entry in plan.steps] == [step.key]
        assert deployment.status().differing_repositories == ()
        assert deployment.plan(Options(existing=True)).is_empty
        (repository,) = read_repositories(deployment.aws, ["quay"])
        assert repository.attributes["resourceTags"] == {"team": "a"}
        # What is made from now on is so from the start.
        site.cache("quay/team/other", site.add("team/other"))
        assert deployment.status().differing_repositories == ()


def test_what_a_template_no_longer_says_is_taken_away_but_for_tags(site: Site, tmp_path: Path) -> None:
    full = Template(keep_images=7, pull_accounts=("210987654321",), resource_tags={"team": "a"})
    with deployed(Declaration(rules=(QUAY,), templates={"quay": full}), site.engine.url, tmp_path) as deployment:
        applied(deployment)
        site.cache("quay/team/app", site.add("team/app"))
    plain = Template(keep_images=None, tag_mutability_exclusions=("v*",))
    with deployed(Declaration(rules=(QUAY,), templates={"quay": plain}), site.engine.url, tmp_path) as deployment:
        applied(deployment, Options(existing=True))
        applied(deployment, Options(existing=True))
        (repository,) = read_repositories(deployment.aws, ["quay"])
    assert repository.attributes == {
        "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": ["v*"],
        "encryptionType": "AES256",
        "kmsKey": "",
        "lifecyclePolicy": None,
        "repositoryPolicy": None,
        "resourceTags": {"team": "a"},
    }


def test_repositories_of_others_are_never_read(site: Site, tmp_path: Path) -> None:
    site.client().create_repository(repositoryName="own/app")
    site.client().create_repository(repositoryName="quays/app")
    with deployed(Declaration(rules=(QUAY, Rule("github", "ghcr.io", anonymous=True))), site.engine.url, tmp_path) as d:
        assert d.status().repositories == 0
