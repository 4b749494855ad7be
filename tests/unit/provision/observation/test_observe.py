"""What is there, read into the same words in which it is wanted."""

from __future__ import annotations

import pytest

from pullthrough.provision.aws import Aws
from pullthrough.provision.model.observed import NOT_AN_ACCOUNT, UNREADABLE
from pullthrough.provision.model.policies import parse_document
from pullthrough.provision.model.resources import MARKER_TAG, ResourceKind
from pullthrough.provision.observation.rules import read_rules, read_templates
from pullthrough.provision.observation.secrets import account_attributes, parse_account, tokens_in
from tests.deployments import DEFAULT, HUB_SECRET, KMS_KEY, World
from tests.fakes.aws import FakeAws


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ('{"username": "u", "accessToken": "t"}', ("u", "t")),
        ('{"accessToken": "", "username": ""}', ("", "")),
        ('{"username": "u"}', None),
        ('{"username": "u", "accessToken": "t", "more": 1}', None),
        ('{"username": 1, "accessToken": "t"}', None),
        ('["username", "accessToken"]', None),
        ("u:t", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_a_secret_is_an_account_by_exactly_the_keys_that_ecr_wants(text: str, account: tuple[str, str] | None) -> None:
    assert parse_account(text) == account
    assert tokens_in(text) == ({account[1]} if account else {text})


def test_values_are_fingerprints_or_say_what_they_are() -> None:
    fingerprints = World(FakeAws()).fingerprints
    known = account_attributes('{"username": "u", "accessToken": "t"}', fingerprints)
    assert known == {"username": "u", "accessToken": fingerprints.of("t")}
    assert account_attributes("oops", fingerprints) == {"username": "", "accessToken": NOT_AN_ACCOUNT}
    assert account_attributes(UNREADABLE, fingerprints) == {"username": "", "accessToken": UNREADABLE}
    assert account_attributes(None, fingerprints) == {"username": "", "accessToken": ""}


@pytest.mark.parametrize(
    ("text", "document"),
    [("", None), (None, None), ("{", "{"), ('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ({}, None)],
)
def test_documents_are_values(text: object, document: object) -> None:
    assert parse_document(text) == document


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("quay.io", "quay.io"),
        ("https://quay.io/", "quay.io"),
        ("docker.io", "registry-1.docker.io"),
        ("Registry-1.Docker.IO:443", "registry-1.docker.io"),
    ],
)
def test_upstreams_have_one_name(url: str, host: str) -> None:
    fake = FakeAws()
    fake.add_rule("quay", url)
    (rule,) = read_rules(Aws(fake))
    assert rule.attributes["upstreamRegistryUrl"] == host


def test_the_slash_that_is_always_implied_makes_no_difference() -> None:
    fake = FakeAws()
    aws = Aws(fake)
    aws.call("ecr", "CreatePullThroughCacheRule", ecrRepositoryPrefix="quay/", upstreamRegistryUrl="quay.io")
    aws.call("ecr", "CreateRepositoryCreationTemplate", prefix="quay/", appliedFor=["PULL_THROUGH_CACHE"])
    assert [rule.key.name for rule in read_rules(aws)] == ["quay"]
    assert [template.key.name for template in read_templates(aws)] == ["quay"]


def test_a_rule_without_times_is_of_the_engines_file() -> None:
    fake = FakeAws(is_engine=True)
    fake.add_rule("quay", "quay.io", in_file=True)
    fake.add_rule("other", "quay.io")
    assert {rule.key.name: rule.is_of_engine_file for rule in read_rules(Aws(fake))} == {"quay": True, "other": False}


def test_what_nobody_set_is_empty() -> None:
    fake = FakeAws()
    fake.add_rule("quay", "quay.io")
    fake.add_template("quay")
    (rule,), (template,) = read_rules(Aws(fake)), read_templates(Aws(fake))
    assert rule.attributes == {
        "upstreamRegistryUrl": "quay.io",
        "upstreamRepositoryPrefix": "ROOT",
        "credentialArn": "",
        "customRoleArn": "",
    }
    assert template.attributes == {
        "description": "",
        "appliedFor": ["PULL_THROUGH_CACHE"],
        "imageTagMutability": "MUTABLE",
        "imageTagMutabilityExclusionFilters": [],
        "encryptionType": "AES256",
        "kmsKey": "",
        "lifecyclePolicy": None,
        "repositoryPolicy": None,
        "resourceTags": {},
        "customRoleArn": "",
    }
    assert (rule.marked_by, template.marked_by) == ("", "")


def test_the_key_that_everybody_has_is_no_key_of_ones_own() -> None:
    world = World(FakeAws())
    world.apply(DEFAULT)
    for key in ("alias/aws/secretsmanager", "arn:aws:kms:eu-central-1:123456789012:alias/aws/secretsmanager"):
        world.send.secret(HUB_SECRET).kms_key = key
        assert world.plan(DEFAULT).is_empty
    world.send.secret(HUB_SECRET).kms_key = KMS_KEY
    assert len(world.plan(DEFAULT).steps) == 1


def test_tags_that_aws_made_itself_are_nobodys() -> None:
    world = World(FakeAws())
    world.apply(DEFAULT)
    world.send.secret(HUB_SECRET).tags["aws:cloudformation:stack-name"] = "x"
    assert world.plan(DEFAULT).is_empty


def test_marked_secrets_of_any_name_are_found() -> None:
    world = World(FakeAws())
    world.send.add_secret("ecr-pullthroughcache/old", "x", tags={MARKER_TAG: "pullthrough"})
    world.send.add_secret("ecr-pullthroughcache/other", "x", tags={MARKER_TAG: "other"})
    deleted = [step.key.name for step in world.plan(DEFAULT).steps if step.action.value == "delete"]
    assert deleted == ["ecr-pullthroughcache/old"]
    assert world.plan(DEFAULT).steps[-1].key.kind is ResourceKind.SECRET
