"""Pull-through cache rules through the API, and pulls that obey them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws import ACCOUNT_ID, answer, fails_with, unique
from tests.fakes.upstream import Html, Status
from tests.integration.ecr import TOKEN, TRIES, USER, Site, open_site

NOT_FOUND = "PullThroughCacheRuleNotFoundException"
EXISTS = "PullThroughCacheRuleAlreadyExistsException"
UNSUPPORTED = "UnsupportedUpstreamRegistryException"
INVALID = "InvalidParameterException"
NO_SECRET = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT_ID}:secret:ecr-pullthroughcache/nothing-AbCdEf"
ECR_HOST = "012345678901.dkr.ecr.eu-west-1.amazonaws.com"
ROLE = "arn:aws:iam::123456789012:role/pulls"
GOOD = json.dumps({"username": USER, "accessToken": TOKEN})


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    more = (
        '[rules.from-file]\nupstream = "quay.io"\nupstream_repository_prefix = "team"\n'
        '[rules."with/token"]\nupstream = "registry-1.docker.io"\nusername = "acme"\naccess_token_file = "missing"\n'
        f'[rules.with-secret]\nupstream = "registry-1.docker.io"\ncredential_arn = "{NO_SECRET}"\n'
        f'[rules.with-role]\nupstream = "{ECR_HOST}"\ncustom_role_arn = "{ROLE}"\n'
        '[rules.switched-off]\nupstream = "quay.io"\nenabled = false\n'
    )
    with open_site(tmp_path_factory.mktemp("rules"), request.param, more=more) as opened:
        yield opened


@pytest.fixture
def prefix(ecr: Any) -> Iterator[str]:
    """For a rule that goes after the test."""
    name = unique("p")
    yield name
    try:
        ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=name)
    except ClientError:
        pass  # the test deleted it


def create(ecr: Any, prefix: str, url: str = "quay.io", **more: str) -> dict[str, Any]:
    return answer(ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl=url, **more))


def describe(ecr: Any, *prefixes: str) -> list[dict[str, Any]]:
    """As all pages tell."""
    more = {"ecrRepositoryPrefixes": list(prefixes)} if prefixes else {}
    pages = ecr.get_paginator("describe_pull_through_cache_rules").paginate(**more)
    return [rule for page in pages for rule in page["pullThroughCacheRules"]]


def validate(ecr: Any, prefix: str) -> tuple[bool, str]:
    """Whether the rule works, and the code of what fails."""
    found = ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    failure = found.get("failure", "")
    assert not failure or re.fullmatch(r"[A-Z_]+: .+", failure)
    return found["isValid"], failure.partition(":")[0]


# Create and describe


def test_each_answer_has_the_members_that_aws_gives(ecr: Any, prefix: str) -> None:
    created = create(ecr, prefix)
    made_at = created.pop("createdAt")
    assert isinstance(made_at, datetime)
    assert created == {
        "ecrRepositoryPrefix": prefix,
        "upstreamRegistryUrl": "quay.io",
        "registryId": ACCOUNT_ID,
        "upstreamRegistry": "quay",
    }
    assert describe(ecr, prefix) == [created | {"createdAt": made_at, "updatedAt": made_at}]
    updated = answer(ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix))
    assert updated == {"ecrRepositoryPrefix": prefix, "registryId": ACCOUNT_ID, "updatedAt": made_at}
    del created["upstreamRegistry"]
    assert answer(ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)) == created | {"isValid": True}
    deleted = answer(ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix, registryId=ACCOUNT_ID))
    assert deleted == created | {"createdAt": made_at}


def test_what_was_given_comes_back_everywhere(site: Site, ecr: Any, prefix: str) -> None:
    given = {
        "credentialArn": site.secret(prefix, GOOD),
        "customRoleArn": "arn:aws:iam::123456789012:role/pulls",
        "upstreamRepositoryPrefix": "team/",
    }
    for found in (
        create(ecr, prefix, "registry-1.docker.io", upstreamRegistry="docker-hub", **given),
        *describe(ecr, prefix),
        ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix),
        ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix),
        ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix),
    ):
        assert {name: found[name] for name in given} == given


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("public.ecr.aws", "ecr-public"),
        ("registry.k8s.io", "k8s"),
        ("registry-1.docker.io", "docker-hub"),
        ("docker.io", "docker-hub"),
        ("https://ghcr.io", "github-container-registry"),
        ("registry.gitlab.com", "gitlab-container-registry"),
        ("myown.azurecr.io", "azure-container-registry"),
        ("cgr.dev", "chainguard"),
        ("012345678901.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("registry.example.com:5001", None),
    ],
)
def test_the_kind_of_an_upstream_follows_from_its_url_which_is_kept_as_given(
    ecr: Any, prefix: str, url: str, kind: str | None
) -> None:
    created = create(ecr, prefix, url)
    assert (created["upstreamRegistryUrl"], created.get("upstreamRegistry")) == (url, kind)


def test_a_kind_may_be_given_for_a_host_that_aws_does_not_know(ecr: Any, prefix: str) -> None:
    created = create(ecr, prefix, "gitlab.example.com", upstreamRegistry="gitlab-container-registry")
    assert created["upstreamRegistry"] == "gitlab-container-registry"


def test_a_kind_that_the_url_is_not_is_refused(ecr: Any, prefix: str) -> None:
    with fails_with(INVALID, "upstreamRegistry", "quay"):
        create(ecr, prefix, upstreamRegistry="docker-hub")


@pytest.mark.parametrize(
    "url", ["http://quay.io", "quay.io/team", "https://quay.io/v2", "user@quay.io", "", "quay io", "ftp://quay.io"]
)
def test_a_url_that_is_no_host_is_refused_in_the_words_of_aws(ecr: Any, prefix: str, url: str) -> None:
    with fails_with(UNSUPPORTED, f"The upstream registry URL {url} is invalid. Specify a valid upstream registry URL"):
        create(ecr, prefix, url)


@pytest.mark.parametrize("bad", ["a", "Upper", "a//b", "/a", "a-", "x" * 31, "a b"])
def test_a_prefix_that_breaks_the_grammar_is_refused(site: Site, bad: str) -> None:
    with fails_with(INVALID):
        create(site.client(validate=False), bad)


def test_a_slash_at_the_end_of_a_prefix_is_echoed_and_means_nothing(ecr: Any, prefix: str) -> None:
    assert create(ecr, f"{prefix}/")["ecrRepositoryPrefix"] == f"{prefix}/"
    assert [rule["ecrRepositoryPrefix"] for rule in describe(ecr, f"{prefix}/")] == [f"{prefix}/"]
    assert [rule["ecrRepositoryPrefix"] for rule in describe(ecr, prefix)] == [prefix]
    assert prefix in [rule["ecrRepositoryPrefix"] for rule in describe(ecr)]
    with fails_with(EXISTS):
        create(ecr, prefix)
    deleted = ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=f"{prefix}/")
    assert deleted["ecrRepositoryPrefix"] == f"{prefix}/"


def test_a_pin_can_be_taken_back_when_its_rule_is_gone(site: Site, ecr: Any, prefix: str) -> None:
    create(ecr, prefix)  # commands know the rule at once, as pulls do
    site.engine.command("pin", f"{prefix}/acme/app:1")
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    site.engine.command("unpin", f"{prefix}/acme/app:1")
    with pytest.raises(AssertionError, match="is not pinned"):
        site.engine.command("unpin", f"{prefix}/acme/app:1")


def test_a_second_rule_of_a_prefix_is_refused(ecr: Any, prefix: str) -> None:
    create(ecr, prefix)
    with fails_with(EXISTS, "A pull through cache rule with these settings already exists for the private registry."):
        create(ecr, prefix, "public.ecr.aws")
    assert describe(ecr, prefix)[0]["upstreamRegistryUrl"] == "quay.io"


def test_of_many_who_create_the_same_rule_at_once_one_wins(site: Site, prefix: str) -> None:
    def attempt(_: int) -> str:
        try:
            create(site.client(), prefix)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "created"

    with ThreadPoolExecutor(TRIES) as threads:
        results = sorted(threads.map(attempt, range(TRIES)))
    assert results == [EXISTS] * (TRIES - 1) + ["created"]


def test_rules_are_listed_by_prefix_in_pages(ecr: Any) -> None:
    names = sorted(unique("page") for _ in range(5))
    for name in reversed(names):
        create(ecr, name)
    try:
        seen: list[str] = []
        more: dict[str, Any] = {}
        while True:
            page = ecr.describe_pull_through_cache_rules(maxResults=2, **more)
            assert len(page["pullThroughCacheRules"]) <= 2
            seen += [rule["ecrRepositoryPrefix"] for rule in page["pullThroughCacheRules"]]
            if "nextToken" not in page:
                break
            more = {"nextToken": page["nextToken"]}
        assert seen == sorted(seen)
        assert [name for name in seen if name.startswith("page-")] == names
        with fails_with(INVALID, "nextToken"):
            ecr.describe_pull_through_cache_rules(nextToken="made-up")
    finally:
        for name in names:
            ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=name)


def test_there_are_no_more_rules_than_fifty(ecr: Any) -> None:
    """Those of the file among them."""
    names = [unique("many") for _ in range(50 - len(describe(ecr)))]
    for name in names:
        create(ecr, name)
    try:
        with fails_with("LimitExceededException"):
            create(ecr, unique("many"))
        assert len(describe(ecr)) == 50
    finally:
        for name in names:
            ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=name)


def test_what_is_not_there_is_not_found(ecr: Any, prefix: str) -> None:
    """The built-in rules are not ECR's: they are not there either."""
    for name in (prefix, "github"):
        for call in (
            ecr.update_pull_through_cache_rule,
            ecr.delete_pull_through_cache_rule,
            ecr.validate_pull_through_cache_rule,
        ):
            with fails_with(NOT_FOUND, "The pull through cache rule was not found. Specify a valid"):
                call(ecrRepositoryPrefix=name)
        with fails_with(NOT_FOUND):
            describe(ecr, "from-file", name)


def test_another_registry_is_not_this_one(ecr: Any, prefix: str) -> None:
    with fails_with(INVALID, "registryId"):
        create(ecr, prefix, registryId="999999999999")


# Rules of the file


def test_rules_of_the_file_are_listed_and_protected(site: Site, ecr: Any) -> None:
    (rule,) = describe(ecr, "from-file")
    assert rule == {
        "ecrRepositoryPrefix": "from-file",
        "upstreamRegistryUrl": "quay.io",
        "registryId": ACCOUNT_ID,
        "upstreamRegistry": "quay",
        "upstreamRepositoryPrefix": "team",
    }
    for call in (ecr.update_pull_through_cache_rule, ecr.delete_pull_through_cache_rule):
        with fails_with(INVALID, "pullthrough.toml", "[rules.from-file]"):
            call(ecrRepositoryPrefix="from-file")
    with fails_with(INVALID, '[rules."with/token"]'):
        ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="with/token")
    with fails_with(EXISTS, "pullthrough.toml"):
        create(ecr, "from-file")
    assert describe(ecr, "from-file") == [rule]


def test_rules_of_the_file_list_the_secret_and_the_role_that_they_name(ecr: Any) -> None:
    (with_role, with_secret, with_token) = describe(ecr, "with-role", "with-secret", "with/token")
    assert with_role == {
        "ecrRepositoryPrefix": "with-role",
        "upstreamRegistryUrl": ECR_HOST,
        "registryId": ACCOUNT_ID,
        "upstreamRegistry": "ecr",
        "customRoleArn": ROLE,
    }
    assert (with_secret["credentialArn"], "customRoleArn" in with_secret) == (NO_SECRET, False)
    assert with_token.keys().isdisjoint({"credentialArn", "customRoleArn"})


def test_a_rule_of_the_file_that_is_switched_off_is_none(site: Site, ecr: Any) -> None:
    with fails_with(NOT_FOUND):
        describe(ecr, "switched-off")
    site.add("switched-off/app")
    assert site.pulls("switched-off/switched-off/app") == {404}


def test_rules_of_the_file_can_be_validated(ecr: Any) -> None:
    assert validate(ecr, "from-file") == (True, "")
    assert validate(ecr, "with/token") == (False, "SECRET_ACCESS_DENIED")
    assert validate(ecr, "with-secret") == (False, "SECRET_NOT_FOUND")


# Rules and pulls


def test_a_rule_counts_from_the_next_pull_in_every_worker(site: Site, ecr: Any, prefix: str) -> None:
    site.add(f"{prefix}/app")
    name = f"{prefix}/{prefix}/app"
    assert site.pulls(name) == {404}
    create(ecr, prefix)
    assert site.pulls(name) == {200}
    other = f"{prefix}/{prefix}/other"
    site.add(f"{prefix}/other")
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    assert site.pulls(other) == {404}


def test_what_was_cached_is_served_when_its_rule_is_gone(site: Site, ecr: Any, prefix: str) -> None:
    image = site.add(f"{prefix}/app")
    create(ecr, prefix)
    name = f"{prefix}/{prefix}/app"
    blobs = site.cache(name, image)
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    site.open.requests.clear()
    assert site.pulls(name) == {200}
    assert {path: site.engine.get(path).body for path in blobs} == blobs
    assert ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryName"] == name
    assert site.open.requests.count() == 0


def test_not_found_is_forgotten_when_a_rule_comes(site: Site, ecr: Any, prefix: str) -> None:
    """Another rule may well find it."""
    create(ecr, prefix, upstreamRepositoryPrefix="nowhere")
    site.add(f"{prefix}/app")
    name = f"{prefix}/{prefix}/app"
    assert site.pulls(name) == {404}
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    create(ecr, prefix)
    assert site.pulls(name) == {200}


@pytest.mark.parametrize(
    ("upstream_prefix", "asked"),
    [(None, "{}/app"), ("ROOT", "{}/app"), ("team", "team/{}/app"), ("a/b/", "a/b/{}/app")],
)
def test_names_are_mapped_by_both_prefixes(
    site: Site, ecr: Any, prefix: str, upstream_prefix: str | None, asked: str
) -> None:
    image = site.add(asked.format(prefix))
    create(ecr, prefix, **({"upstreamRepositoryPrefix": upstream_prefix} if upstream_prefix else {}))
    found = site.pull(f"{prefix}/{prefix}/app")
    assert found.headers["docker-content-digest"] == str(image.digest)


def test_a_built_in_rule_is_replaced_and_comes_back(site: Site, ecr: Any) -> None:
    """`ecr-public` leads to public.ecr.aws, which cannot be reached here."""
    name = unique("team") + "/app"
    site.add(name)
    assert site.pulls(f"ecr-public/{name}") <= {502, 503}
    create(ecr, "ecr-public", "quay.io")
    try:
        assert site.pulls(f"ecr-public/{name}") == {200}
    finally:
        ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="ecr-public")
    assert site.pulls(f"ecr-public/{name}2") <= {502, 503}


def test_root_takes_what_no_other_rule_takes(site: Site, ecr: Any) -> None:
    name = unique("team") + "/app"
    site.add(name)
    create(ecr, "ROOT")
    try:
        assert describe(ecr, "ROOT")[0]["ecrRepositoryPrefix"] == "ROOT"
        assert site.pulls(name) == {200}
    finally:
        ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="ROOT")


def test_a_secret_opens_what_is_private_from_the_next_pull_on(site: Site, ecr: Any, prefix: str) -> None:
    secret = site.secret(prefix, GOOD)
    image = site.add(f"{prefix}/public")
    site.closed.add(f"{prefix}/app", image, "latest")
    options = site.closed.options
    site.closed.options = replace(options, private=options.private | {f"{prefix}/app"})
    create(ecr, prefix, "registry-1.docker.io")
    name = f"{prefix}/{prefix}/app"
    assert site.pull(name).status in (403, 404)
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=secret)
    assert site.pulls(name) == {200}


# Update


def test_an_update_sets_what_it_names(site: Site, ecr: Any, prefix: str) -> None:
    create(ecr, prefix, "registry-1.docker.io")
    secret = site.secret(prefix, GOOD)
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/pulls"
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=secret)
    updated = ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, customRoleArn=role)
    assert (updated["credentialArn"], updated["customRoleArn"]) == (secret, role)
    (rule,) = describe(ecr, prefix)
    assert rule["updatedAt"] == updated["updatedAt"] > rule["createdAt"]


def test_a_secret_that_is_not_there_is_not_found(site: Site, ecr: Any, prefix: str) -> None:
    marked = site.secret(prefix, GOOD)
    site.client("secretsmanager").delete_secret(SecretId=marked)
    sentence = "The ARN of the secret specified in the pull through cache rule was not found."
    for arn in (NO_SECRET, marked):
        with fails_with("SecretNotFoundException", sentence):
            create(ecr, prefix, "registry-1.docker.io", credentialArn=arn)
    create(ecr, prefix, "registry-1.docker.io")
    with fails_with("SecretNotFoundException", sentence):
        ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=NO_SECRET)


def test_an_arn_that_is_no_secret_for_rules_is_refused(site: Site, prefix: str) -> None:
    arn = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT_ID}:secret:another-name-AbCdEf"
    with fails_with(INVALID, "credentialArn"):
        create(site.client(validate=False), prefix, credentialArn=arn)


# Validate


def test_a_login_is_really_tried(site: Site, ecr: Any, prefix: str) -> None:
    create(ecr, prefix, "registry-1.docker.io", credentialArn=site.secret(prefix, GOOD))
    site.closed.requests.clear()
    assert validate(ecr, prefix) == (True, "")
    assert site.closed.requests.count() == 3


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (json.dumps({"username": USER, "accessToken": "a-wrong-one"}), "UPSTREAM_AUTH_FAILED"),
        ("test", "SECRET_MALFORMED"),
        ('{"username": "acme"}', "SECRET_MALFORMED"),
        ('{"username": "acme", "accessToken": ""}', "SECRET_MALFORMED"),
        ('["acme"]', "SECRET_MALFORMED"),
    ],
)
def test_a_secret_that_does_not_work_is_said_and_not_shown(
    site: Site, ecr: Any, prefix: str, text: str, code: str
) -> None:
    create(ecr, prefix, "registry-1.docker.io", credentialArn=site.secret(prefix, text))
    assert validate(ecr, prefix) == (False, code)
    assert "a-wrong-one" not in ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)["failure"]


def test_a_secret_that_went_is_said(site: Site, ecr: Any, prefix: str) -> None:
    arn = site.secret(prefix, GOOD)
    create(ecr, prefix, "registry-1.docker.io", credentialArn=arn)
    site.client("secretsmanager").delete_secret(SecretId=arn)
    assert validate(ecr, prefix) == (False, "SECRET_NOT_FOUND")
    site.client("secretsmanager").restore_secret(SecretId=arn)
    assert validate(ecr, prefix) == (True, "")
    site.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    assert validate(ecr, prefix) == (False, "SECRET_NOT_FOUND")


def test_a_changed_secret_counts_at_once(site: Site, ecr: Any, prefix: str) -> None:
    arn = site.secret(prefix, "test")
    create(ecr, prefix, "registry-1.docker.io", credentialArn=arn)
    assert validate(ecr, prefix) == (False, "SECRET_MALFORMED")
    site.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=GOOD)
    assert {validate(site.client(), prefix) for _ in range(TRIES)} == {(True, "")}


def test_an_upstream_that_does_not_work_is_said(site: Site, ecr: Any, prefix: str) -> None:
    create(ecr, prefix)
    for action, code in (
        (Status(503), "UPSTREAM_UNREACHABLE"),
        (Html(), "UPSTREAM_INVALID"),
        (Status(404), "UPSTREAM_INVALID"),
        (Status(403), "UPSTREAM_AUTH_FAILED"),
    ):
        site.open.script(action)
        assert validate(ecr, prefix) == (False, code)
        site.open.clear_scripts()
    assert validate(ecr, prefix) == (True, "")


def test_an_upstream_that_cannot_be_found_is_unreachable(ecr: Any, prefix: str) -> None:
    create(ecr, prefix, "registry.invalid")
    assert validate(ecr, prefix) == (False, "UPSTREAM_UNREACHABLE")


# What Terraform does, resource aws_ecr_pull_through_cache_rule


def test_terraforms_life_of_a_rule(site: Site, ecr: Any, prefix: str) -> None:
    secret = site.secret(prefix, "test")
    with fails_with(NOT_FOUND):
        describe(ecr, prefix)
    ecr.create_pull_through_cache_rule(
        ecrRepositoryPrefix=prefix, upstreamRegistryUrl="registry-1.docker.io", credentialArn=secret
    )
    first = describe(ecr, prefix)
    assert first == describe(ecr, prefix)
    assert first[0].keys() & {"upstreamRepositoryPrefix", "customRoleArn"} == set()
    other = site.secret(f"{prefix}-2", "test")
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=other)
    (rule,) = describe(ecr, prefix)
    assert rule["credentialArn"] == other
    # The argument was taken out: the provider updates with neither.
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix, registryId=rule["registryId"])
    with fails_with(NOT_FOUND):
        describe(ecr, prefix)


def test_rules_outlive_the_engine(site: Site, prefix: str) -> None:
    site.add(f"{prefix}/app")
    create(site.client(), prefix)
    before = describe(site.client(), prefix)
    site.engine.restart()
    assert describe(site.client(), prefix) == before
    assert site.pulls(f"{prefix}/{prefix}/app") == {200}
