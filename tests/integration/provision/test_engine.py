"""What `apply` makes on an engine is what the Terraform module makes on AWS, field for field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import STANDARD_RULES, CredentialSource, Declaration, InlineToken, Rule
from pullthrough.demo.images import make_image
from pullthrough.provision.deployment import Deployment
from pullthrough.provision.model.plan import Options
from pullthrough.provision.model.resources import ResourceKind
from tests.aws import ACCOUNT_ID, REGION
from tests.deployments import GITHUB, HUB
from tests.integration.ecr import TOKEN, USER, Site, open_site
from tests.integration.provision.conftest import Recording
from tests.integration.provision.deployments import applied, deployed
from tests.integration.pushing import Pusher

GITHUB_TOKEN = "ghp_another-one"
ACCOUNTS = {
    HUB: CredentialSource(USER, access_token=InlineToken(TOKEN)),
    GITHUB: CredentialSource("octo", access_token=InlineToken(GITHUB_TOKEN)),
}
DECLARATION = Declaration(rules=tuple(replace(rule, credential=ACCOUNTS.get(rule.upstream)) for rule in STANDARD_RULES))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path, 1) as opened:
        yield opened


@pytest.fixture
def deployment(site: Site, tmp_path: Path) -> Iterator[Deployment]:
    with deployed(DECLARATION, site.engine.url, tmp_path / "home") as made:
        yield made


def record(deployment: Deployment) -> Recording:
    """Keeps what the deployment calls from now on."""
    send = deployment.aws.send
    recording = Recording(dict.fromkeys(("ecr", "secretsmanager", "sts"), send))
    deployment.aws.send = recording
    return recording


def test_the_result_is_the_terraform_modules(site: Site, deployment: Deployment) -> None:
    applied(deployment)
    ecr, secrets = site.client(), site.client("secretsmanager")
    arns = {
        name: secrets.describe_secret(SecretId=f"ecr-pullthroughcache/{name}")["ARN"]
        for name in ("docker-hub", "github")
    }
    rules = ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]
    for rule in rules:
        assert rule.pop("createdAt")
        assert rule.pop("updatedAt")
    expected: list[dict[str, Any]] = [
        {
            "ecrRepositoryPrefix": prefix,
            "upstreamRegistryUrl": url,
            "upstreamRegistry": kind,
            "registryId": ACCOUNT_ID,
            **({"credentialArn": arns[prefix]} if prefix in arns else {}),
        }
        for prefix, url, kind in (
            ("docker-hub", "registry-1.docker.io", "docker-hub"),
            ("ecr-public", "public.ecr.aws", "ecr-public"),
            ("github", "ghcr.io", "github-container-registry"),
            ("kubernetes", "registry.k8s.io", "k8s"),
            ("quay", "quay.io", "quay"),
        )
    ]
    assert sorted(rules, key=lambda rule: str(rule["ecrRepositoryPrefix"])) == expected
    values = {name: json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"]) for name, arn in arns.items()}
    assert values == {
        "docker-hub": {"username": USER, "accessToken": TOKEN},
        "github": {"username": "octo", "accessToken": GITHUB_TOKEN},
    }
    assert len(secrets.list_secrets()["SecretList"]) == 2
    for name, arn in arns.items():
        assert re.fullmatch(
            rf"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:ecr-pullthroughcache/{name}-[A-Za-z0-9]{{6}}", arn
        )


def test_each_prefix_has_a_template_by_count_of_tagged_images(site: Site, deployment: Deployment) -> None:
    applied(deployment)
    templates = site.client().describe_repository_creation_templates()["repositoryCreationTemplates"]
    assert {template["prefix"] for template in templates} == {rule.prefix for rule in STANDARD_RULES}
    for template in templates:
        (rule,) = json.loads(template["lifecyclePolicy"])["rules"]
        assert (rule["selection"]["countType"], rule["selection"]["countNumber"]) == ("imageCountMoreThan", 200)
        assert template["imageTagMutability"] == "MUTABLE"
        assert "resourceTags" not in template
        assert "customRoleArn" not in template


def test_pulls_go_through_with_the_account_that_was_declared(site: Site, deployment: Deployment) -> None:
    applied(deployment)
    site.add("team/app")
    site.closed.add("library/app", site.add("library/app"), "latest")
    assert site.pull("quay/team/app").status == 200
    assert site.pull("docker-hub/library/app").status == 200


def test_applying_twice_reads_only(deployment: Deployment) -> None:
    applied(deployment)
    recording = record(deployment)
    assert applied(deployment).is_empty
    assert recording.writes == []
    assert len(recording.calls) == 8


def test_another_run_of_another_process_finds_nothing_to_do(site: Site, deployment: Deployment, tmp_path: Path) -> None:
    applied(deployment)
    with deployed(DECLARATION, site.engine.url, tmp_path / "home") as again:
        assert again.plan().is_empty
        assert again.plan().fingerprint_key == deployment.plan().fingerprint_key


def test_destroy_brings_the_engine_back_to_what_it_was(site: Site, deployment: Deployment) -> None:
    applied(deployment)
    deployment.apply(deployment.plan_destroy(Options()))
    ecr = site.client()
    assert ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"] == []
    assert ecr.describe_repository_creation_templates()["repositoryCreationTemplates"] == []
    assert site.client("secretsmanager").list_secrets()["SecretList"] == []
    site.add("team/app")
    assert site.pull("quay/team/app").status == 200, "the built-in rules are back"
    applied(deployment)
    assert len(ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]) == 5


def test_rules_of_the_engines_own_file_count_or_are_problems(tmp_path: Path) -> None:
    rules = '[rules.quay]\nupstream = "quay.io"\n[rules.kubernetes]\nupstream = "registry.example.org"\n'
    with (
        open_site(tmp_path, 1, more=rules) as site,
        deployed(DECLARATION, site.engine.url, tmp_path / "home") as deployment,
    ):
        plan = deployment.plan()
        assert {str(entry.key): entry.reason for entry in plan.left_alone} == {
            "rule:quay": "is in the engine's own file, as declared"
        }
        (problem,) = plan.problems
        assert "change [rules.kubernetes] upstream there" in problem
        assert "registry.example.org, not registry.k8s.io" in problem


def test_what_was_pushed_under_a_rule_that_came_later_is_told_of_and_never_taken_away(
    site: Site, tmp_path: Path
) -> None:
    mine, empty, image = Pusher(site.engine, "mine/app"), "mine/empty", make_image("pushed")
    mine.push(image, "1")
    site.client().create_repository(repositoryName=empty)
    site.add("team/app")
    with deployed(Declaration(rules=(Rule("mine", "quay.io"),)), site.engine.url, tmp_path / "mine") as deployment:
        (note,) = deployment.plan().notes
        assert (
            "the rule mine will cover repositories that are there already: mine/app, mine/empty; those that were pushed, "
            in note
        )
        applied(deployment)
        assert site.pull("mine/team/app").status == 200
        assert site.pull("mine/app", "1").outcome == "own"
        tags = {
            name: site.client().list_tags_for_resource(resourceArn=site.arn(name))["tags"]
            for name in ("mine/app", empty)
        }
        assert tags == {"mine/app": [{"Key": "aws:pullthrough:owner", "Value": "own"}], empty: []}
        plan = deployment.plan_destroy(Options(delete_repositories=True))
        assert [step.key.name for step in plan.steps if step.key.kind is ResourceKind.REPOSITORY] == [
            "mine/empty",
            "mine/team/app",
        ]
        assert "mine/app: pushed before there was the rule, and left as that is" in plan.notes
        deployment.apply(plan)
    assert site.pull("mine/app", "1").outcome == "own"
    assert [entry["repositoryName"] for entry in site.client().describe_repositories()["repositories"]] == ["mine/app"]
