"""Repository creation templates through the API, and repositories that pulls make by them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws import ACCOUNT_ID, answer, fails_with, unique
from tests.integration.ecr import Site, open_site

NOT_FOUND = "TemplateNotFoundException"
INVALID = "InvalidParameterException"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "all", "Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage"]},
        ],
    }
)
LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 200},
                "action": {"type": "expire"},
            }
        ]
    }
)
FULL: dict[str, Any] = {
    "description": "for the team",
    "encryptionConfiguration": {
        "encryptionType": "KMS",
        "kmsKey": f"arn:aws:kms:us-east-1:{ACCOUNT_ID}:key/11111111-2222-3333-4444-555555555555",
    },
    "resourceTags": [{"Key": "cost centre", "Value": "42"}, {"Key": "team", "Value": ""}],
    "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
    "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest*"}],
    "repositoryPolicy": POLICY,
    "lifecyclePolicy": LIFECYCLE,
    "appliedFor": ["PULL_THROUGH_CACHE", "CREATE_ON_PUSH"],
    "customRoleArn": f"arn:aws:iam::{ACCOUNT_ID}:role/templates",
}
PULLS = {"appliedFor": ["PULL_THROUGH_CACHE"]}


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The built-in rule `quay` leads to the upstream that is open to all."""
    with open_site(tmp_path_factory.mktemp("templates"), request.param) as opened:
        yield opened


@pytest.fixture
def team(ecr: Any) -> Iterator[str]:
    """The prefix `quay/<name>` for a template, which goes after the test; images `<name>/...` are pulled under it."""
    prefix = f"quay/{unique('t')}"
    yield prefix
    for template in describe(ecr):
        if template["prefix"].startswith(prefix) or template["prefix"] in ("quay", "ROOT"):
            ecr.delete_repository_creation_template(prefix=template["prefix"])


def create(ecr: Any, prefix: str, **more: Any) -> dict[str, Any]:
    made = ecr.create_repository_creation_template(prefix=prefix, **(more or PULLS))
    assert made["registryId"] == ACCOUNT_ID
    template: dict[str, Any] = made["repositoryCreationTemplate"]
    return template


def describe(ecr: Any, *prefixes: str) -> list[dict[str, Any]]:
    """As all pages tell."""
    more = {"prefixes": list(prefixes)} if prefixes else {}
    pages = ecr.get_paginator("describe_repository_creation_templates").paginate(**more)
    return [template for page in pages for template in page["repositoryCreationTemplates"]]


def pulled(site: Site, ecr: Any, team: str, name: str = "app") -> dict[str, Any]:
    """The repository that a pull has made."""
    site.add(f"{team.removeprefix('quay/')}/{name}", f"{team}/{name}")
    repository = f"{team}/{name}"
    assert site.pull(repository).status == 200
    found: dict[str, Any] = ecr.describe_repositories(repositoryNames=[repository])["repositories"][0]
    return found


# The API


def test_a_template_comes_back_as_it_was_given(ecr: Any, team: str) -> None:
    created = create(ecr, team, **FULL)
    assert isinstance(created["createdAt"], datetime)
    assert created == FULL | {
        "prefix": team,
        "createdAt": created["createdAt"],
        "updatedAt": created["createdAt"],
    }
    assert describe(ecr, team) == [created]
    assert answer(ecr.delete_repository_creation_template(prefix=team)) == {
        "registryId": ACCOUNT_ID,
        "repositoryCreationTemplate": created,
    }
    assert describe(ecr, team) == []


def test_a_template_has_defaults_where_nothing_is_given_and_nothing_else(ecr: Any, team: str) -> None:
    create(ecr, team)
    (template,) = describe(ecr, team)
    assert template == {
        "prefix": team,
        "appliedFor": ["PULL_THROUGH_CACHE"],
        "encryptionConfiguration": {"encryptionType": "AES256"},
        "imageTagMutability": "MUTABLE",
        "createdAt": template["createdAt"],
        "updatedAt": template["updatedAt"],
    }


def test_an_empty_text_is_none(ecr: Any, team: str) -> None:
    created = create(ecr, team, **PULLS, description="", repositoryPolicy="", lifecyclePolicy="", customRoleArn="")
    assert created.keys() & {"description", "repositoryPolicy", "lifecyclePolicy", "customRoleArn"} == set()


def test_a_second_template_of_a_prefix_is_refused(ecr: Any, team: str) -> None:
    create(ecr, team)
    with fails_with(
        "TemplateAlreadyExistsException",
        "The repository creation template already exists. Specify a unique prefix and try again.",
    ):
        create(ecr, f"{team}/")


def test_a_slash_at_the_end_of_a_prefix_is_echoed_and_means_nothing(ecr: Any, team: str) -> None:
    assert create(ecr, f"{team}/")["prefix"] == f"{team}/"
    assert [template["prefix"] for template in describe(ecr, f"{team}/")] == [f"{team}/"]
    assert [template["prefix"] for template in describe(ecr, team)] == [team]
    assert [template["prefix"] for template in describe(ecr)] == [team]


def test_unknown_prefixes_are_left_out(ecr: Any, team: str) -> None:
    create(ecr, team)
    assert [template["prefix"] for template in describe(ecr, f"{team}/x", team, "ROOT")] == [team]
    assert answer(ecr.describe_repository_creation_templates(prefixes=["nothing"])) == {
        "registryId": ACCOUNT_ID,
        "repositoryCreationTemplates": [],
    }


def test_templates_are_listed_by_prefix_in_pages(ecr: Any, team: str) -> None:
    names = [f"{team}/{name}" for name in "abcde"]
    for name in reversed(names):
        create(ecr, name)
    first = ecr.describe_repository_creation_templates(maxResults=2)
    second = ecr.describe_repository_creation_templates(maxResults=2, nextToken=first["nextToken"])
    third = ecr.describe_repository_creation_templates(maxResults=2, nextToken=second["nextToken"])
    seen = [template["prefix"] for page in (first, second, third) for template in page["repositoryCreationTemplates"]]
    assert seen == names
    assert "nextToken" not in third
    with fails_with(INVALID, "nextToken"):
        ecr.describe_repository_creation_templates(nextToken="made-up")


def test_what_is_not_there_is_not_found(ecr: Any, team: str) -> None:
    sentence = (
        "The specified repository creation template can't be found. Verify the registry ID and prefix and try again."
    )
    with fails_with(NOT_FOUND, sentence):
        ecr.delete_repository_creation_template(prefix=team)
    with fails_with(NOT_FOUND, sentence):
        ecr.update_repository_creation_template(prefix=team, description="x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"appliedFor": []},
        {"appliedFor": ["PULL_THROUGH_CACHE", "PULL_THROUGH_CACHE"]},
        {"appliedFor": ["PULLS"]},
        {**PULLS, "imageTagMutability": "SOMETIMES"},
        {**PULLS, "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"},
        {**PULLS, "imageTagMutabilityExclusionFilters": FULL["imageTagMutabilityExclusionFilters"]},
        {
            **PULLS,
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "*a*b*"}],
        },
        {**PULLS, "repositoryPolicy": "{}"},
        {**PULLS, "repositoryPolicy": '{"Statement": [{"Effect": "Allow", "Action": "s3:Get", "Principal": "*"}]}'},
        {**PULLS, "lifecyclePolicy": '{"rules": [{}]}'},
        {**PULLS, "encryptionConfiguration": FULL["encryptionConfiguration"] | {"encryptionType": "AES256"}},
        {**PULLS, "resourceTags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]},
        {**PULLS, "resourceTags": [{"Key": "aws:a", "Value": "1"}]},
        {**PULLS, "resourceTags": [{"Key": "a" * 129, "Value": "1"}]},
        {**PULLS, "resourceTags": [{"Key": f"k{number}", "Value": ""} for number in range(51)]},
    ],
)
def test_what_could_not_be_applied_is_refused(site: Site, ecr: Any, team: str, wrong: dict[str, Any]) -> None:
    with fails_with(INVALID):
        create(ecr, team, **wrong)
    assert describe(ecr, team) == []


# Updates


def update(ecr: Any, prefix: str, **changes: Any) -> dict[str, Any]:
    updated: dict[str, Any] = ecr.update_repository_creation_template(prefix=prefix, **changes)[
        "repositoryCreationTemplate"
    ]
    assert describe(ecr, prefix) == [updated]
    return updated


def test_an_update_replaces_what_is_given_and_leaves_the_rest(ecr: Any, team: str) -> None:
    created = create(ecr, team, **FULL)
    updated = update(ecr, team, description="other", appliedFor=["REPLICATION"])
    assert updated["updatedAt"] > created["updatedAt"]
    assert updated == created | {
        "description": "other",
        "appliedFor": ["REPLICATION"],
        "updatedAt": updated["updatedAt"],
    }


@pytest.mark.parametrize(
    ("member", "empty"),
    [
        ("description", ""),
        ("repositoryPolicy", ""),
        ("lifecyclePolicy", ""),
        ("customRoleArn", ""),
        ("resourceTags", []),
    ],
)
def test_an_empty_member_takes_away_what_was_there(ecr: Any, team: str, member: str, empty: object) -> None:
    create(ecr, team, **FULL)
    updated = update(ecr, team, **{member: empty})
    assert FULL.keys() - updated.keys() == {member}


def test_filters_go_with_the_mutability_they_were_for(ecr: Any, team: str) -> None:
    create(ecr, team, **FULL)
    with fails_with(INVALID, "imageTagMutabilityExclusionFilters"):
        ecr.update_repository_creation_template(
            prefix=team,
            imageTagMutability="MUTABLE",
            imageTagMutabilityExclusionFilters=FULL["imageTagMutabilityExclusionFilters"],
        )
    updated = update(ecr, team, imageTagMutability="MUTABLE_WITH_EXCLUSION")
    assert updated["imageTagMutabilityExclusionFilters"] == FULL["imageTagMutabilityExclusionFilters"]
    assert "imageTagMutabilityExclusionFilters" not in update(ecr, team, imageTagMutability="IMMUTABLE")
    with fails_with(INVALID, "imageTagMutabilityExclusionFilters"):
        ecr.update_repository_creation_template(prefix=team, imageTagMutability="IMMUTABLE_WITH_EXCLUSION")
    assert describe(ecr, team)[0]["imageTagMutability"] == "IMMUTABLE"


# Pulls


def test_a_pull_makes_the_repository_as_the_template_says(site: Site, ecr: Any, team: str) -> None:
    create(ecr, team, **FULL)
    repository = pulled(site, ecr, team)
    assert {name: repository.get(name) for name in ("encryptionConfiguration", "imageTagMutability")} == {
        "encryptionConfiguration": FULL["encryptionConfiguration"],
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
    }
    assert repository["imageTagMutabilityExclusionFilters"] == FULL["imageTagMutabilityExclusionFilters"]
    name = repository["repositoryName"]
    assert json.loads(ecr.get_repository_policy(repositoryName=name)["policyText"]) == json.loads(POLICY)
    assert json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]) == json.loads(LIFECYCLE)
    assert ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"] == FULL["resourceTags"]


def test_without_a_template_a_pull_makes_it_with_the_defaults(site: Site, ecr: Any, team: str) -> None:
    repository = pulled(site, ecr, team)
    assert repository["imageTagMutability"] == "MUTABLE"
    assert repository["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert repository["imageScanningConfiguration"] == {"scanOnPush": False}
    with fails_with("RepositoryPolicyNotFoundException"):
        ecr.get_repository_policy(repositoryName=repository["repositoryName"])
    with fails_with("LifecyclePolicyNotFoundException"):
        ecr.get_lifecycle_policy(repositoryName=repository["repositoryName"])
    assert ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"] == []


def test_a_template_is_applied_when_a_repository_is_made_and_never_after(site: Site, ecr: Any, team: str) -> None:
    assert pulled(site, ecr, team, "before")["imageTagMutability"] == "MUTABLE"
    create(ecr, team, **PULLS, imageTagMutability="IMMUTABLE")
    assert pulled(site, ecr, team, "before")["imageTagMutability"] == "MUTABLE"
    assert pulled(site, ecr, team, "after")["imageTagMutability"] == "IMMUTABLE"
    ecr.delete_repository_creation_template(prefix=team)
    assert pulled(site, ecr, team, "after")["imageTagMutability"] == "IMMUTABLE"


def test_the_longest_prefix_that_has_the_scenario_is_applied_and_root_last(site: Site, ecr: Any, team: str) -> None:
    def tagged(prefix: str, *scenarios: str) -> None:
        create(ecr, prefix, appliedFor=list(scenarios), resourceTags=[{"Key": "from", "Value": prefix}])

    def applied(name: str) -> str:
        repository = pulled(site, ecr, team, name)
        (tag,) = ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
        return str(tag["Value"])

    tagged("ROOT", "PULL_THROUGH_CACHE")
    assert applied("a") == "ROOT"
    tagged("quay", "PULL_THROUGH_CACHE", "REPLICATION")
    assert applied("b") == "quay"
    tagged(f"{team}/deep", "PULL_THROUGH_CACHE")
    assert applied("deep/c") == f"{team}/deep"
    assert applied("deeper/c") == "quay"
    tagged(team, "CREATE_ON_PUSH", "REPLICATION")
    assert applied("d") == "quay"


def test_a_refresh_leaves_an_immutable_tag_and_moves_one_that_is_exempt(site: Site, ecr: Any, team: str) -> None:
    create(ecr, team, **FULL)
    repository, upstream = f"{team}/app", f"{team.removeprefix('quay/')}/app"
    old = site.add(upstream, f"{team}-old", "v1", "v2", "latest")
    for tag in ("v1", "v2", "latest"):
        assert site.pull(repository, tag).headers["docker-content-digest"] == str(old.digest)
    new = site.add(upstream, f"{team}-new", "v1", "v2", "latest")
    site.open.requests.clear()
    kept = site.pull(repository, "v1", **{"Cache-Control": "no-cache"})
    assert kept.headers["docker-content-digest"] == str(old.digest)
    assert (kept.outcome, 'reason="changed upstream, immutable here"' in kept.headers["x-cache"]) == (
        "revalidated",
        True,
    )
    assert (site.open.requests.count(method="HEAD"), site.open.requests.count(method="GET")) == (1, 0)
    moved = site.pull(repository, "latest", **{"Cache-Control": "no-cache"})
    assert moved.headers["docker-content-digest"] == str(new.digest)
    assert site.pull(repository, "v1").headers["docker-content-digest"] == str(old.digest)
    # In a repository made mutable, the next check moves a tag.
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="MUTABLE")
    moved = site.pull(repository, "v2", **{"Cache-Control": "no-cache"})
    assert moved.headers["docker-content-digest"] == str(new.digest)


# What Terraform does, resource aws_ecr_repository_creation_template


def test_terraforms_life_of_a_template(ecr: Any, team: str) -> None:
    assert describe(ecr, team) == []
    create(ecr, team, **{name: FULL[name] for name in ("resourceTags", "appliedFor")})
    first = ecr.describe_repository_creation_templates(prefixes=[team])
    assert first["registryId"] == ACCOUNT_ID
    assert describe(ecr, team) == describe(ecr, team) == first["repositoryCreationTemplates"]
    # Only what changed is sent; the mutability goes along with its filters.
    changed = update(
        ecr,
        team,
        imageTagMutability=FULL["imageTagMutability"],
        imageTagMutabilityExclusionFilters=FULL["imageTagMutabilityExclusionFilters"],
        repositoryPolicy=POLICY,
    )
    assert changed["resourceTags"] == FULL["resourceTags"]
    assert "repositoryPolicy" not in update(ecr, team, repositoryPolicy="")
    ecr.delete_repository_creation_template(prefix=team)
    assert describe(ecr, team) == []
    with pytest.raises(ClientError):
        ecr.delete_repository_creation_template(prefix=team)
