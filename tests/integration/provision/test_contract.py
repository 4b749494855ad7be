"""The same on the fake, the engine and moto, so that what the unit tests show of the fake holds for real ones."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pullthrough.errors import AwsRefused
from pullthrough.provision.model.accounts import placeholder_accounts
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.observed import Observed
from pullthrough.provision.observation.observe import observe
from pullthrough.provision.observation.roles import read_node_access, read_role
from pullthrough.provision.planning.apply import questions_of
from tests.deployments import (
    FULL,
    GITHUB_SECRET,
    HUB,
    HUB_SECRET,
    NODE_ROLE,
    OTHER_ACCOUNT,
    TOKENS,
    World,
    ids,
)
from tests.integration.provision.conftest import TRUST, Place

ROLE = "pullthrough-pullthrough-template"
RIGHTS = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}]}'


def observed(world: World) -> Observed:
    accounts = placeholder_accounts(FULL, world.target)
    desired = build_desired(FULL, accounts, world.fingerprints, world.target)
    return observe(world.aws, world.target, questions_of(FULL, desired, world.journal.read()), world.fingerprints)


def attributes(world: World) -> dict[str, Any]:
    """Everything that is there, by key; the documents of the registry as they are."""
    found = observed(world)
    return {
        **{str(key): dict(existing.attributes) for key, existing in found.existing.items()},
        "registry policy": found.registry_policy,
        "scanning": found.scanning,
    }


def version(world: World, name: str) -> object:
    return observed(world).existing[next(key for key in observed(world).existing if key.name == name)].more


def test_apply_then_nothing_to_do(place: Place) -> None:
    world = place.world()
    plan = world.apply(FULL)
    expected = {str(step.key) for step in plan.steps}
    assert {"secret:ecr-pullthroughcache/gitlab", "rule:team", "template:docker-hub", "scanning:registry"} <= expected
    assert (f"node access:{NODE_ROLE}" in expected) == place.target.has_iam
    place.send.calls.clear()
    again = world.apply(FULL)
    assert ids(again) == []
    assert again.problems == ()
    assert place.send.writes == []


def test_destroy_leaves_nothing_of_ours(place: Place) -> None:
    world = place.world()
    before = attributes(world)
    world.apply(FULL)
    world.destroy(FULL)
    after = {
        key: value
        for key, value in attributes(world).items()
        if not key.startswith("secret:")  # in their deletion window
    }
    assert after == before
    assert all(
        entry.is_scheduled_for_deletion for key, entry in observed(world).existing.items() if key.kind == "secret"
    )
    assert world.plan_destroy(FULL).is_empty


def test_destroyed_secrets_are_restored_with_their_version(place: Place) -> None:
    world = place.world()
    world.apply(FULL)
    before, versions = attributes(world), version(world, HUB_SECRET)
    world.destroy(FULL)
    plan = world.apply(FULL)
    assert f"~ secret:{HUB_SECRET}" in ids(plan)
    assert attributes(world) == before
    assert version(world, HUB_SECRET) == versions
    assert world.plan(FULL).is_empty


def test_a_changed_token_is_one_new_version(place: Place) -> None:
    world = place.world()
    world.apply(FULL)
    hub, github = version(world, HUB_SECRET), version(world, GITHUB_SECRET)
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    place.send.calls.clear()
    plan = world.apply(FULL)
    assert ids(plan) == [f"~ secret:{HUB_SECRET}"]
    assert [call.operation for call in place.send.writes] == ["PutSecretValue"]
    assert version(world, HUB_SECRET) != hub
    assert version(world, GITHUB_SECRET) == github
    assert world.plan(FULL).is_empty


_TEMPLATE = "UpdateRepositoryCreationTemplate"
DRIFT: list[tuple[str, str, dict[str, Any]]] = [
    ("secretsmanager", "PutSecretValue", {"SecretId": HUB_SECRET, "SecretString": "?"}),
    ("secretsmanager", "UpdateSecret", {"SecretId": HUB_SECRET, "Description": "?"}),
    ("secretsmanager", "TagResource", {"SecretId": HUB_SECRET, "Tags": [{"Key": "team", "Value": "?"}]}),
    ("secretsmanager", "TagResource", {"SecretId": HUB_SECRET, "Tags": [{"Key": "more", "Value": "?"}]}),
    ("secretsmanager", "UntagResource", {"SecretId": HUB_SECRET, "TagKeys": ["team", "pullthrough:declaration"]}),
    ("ecr", "DeletePullThroughCacheRule", {"ecrRepositoryPrefix": "quay"}),
    (
        "ecr",
        "UpdatePullThroughCacheRule",
        {"ecrRepositoryPrefix": "team", "customRoleArn": "arn:aws:iam::123456789012:role/x"},
    ),
    ("ecr", "DeleteRepositoryCreationTemplate", {"prefix": "docker-hub"}),
    ("ecr", _TEMPLATE, {"prefix": "docker-hub", "description": ""}),
    ("ecr", _TEMPLATE, {"prefix": "docker-hub", "description": "?", "imageTagMutability": "MUTABLE"}),
    ("ecr", _TEMPLATE, {"prefix": "docker-hub", "encryptionConfiguration": {"encryptionType": "AES256"}}),
    ("ecr", _TEMPLATE, {"prefix": "docker-hub", "resourceTags": [], "lifecyclePolicy": ""}),
    ("ecr", _TEMPLATE, {"prefix": "quay", "repositoryPolicy": "", "appliedFor": ["REPLICATION"]}),
    ("ecr", _TEMPLATE, {"prefix": "quay", "resourceTags": [{"Key": "a", "Value": "b"}]}),
    ("ecr", _TEMPLATE, {"prefix": "quay", "customRoleArn": "arn:aws:iam::123456789012:role/x"}),
    ("ecr", "DeleteRegistryPolicy", {}),
    ("ecr", "PutRegistryScanningConfiguration", {"scanType": "BASIC", "rules": []}),
    ("iam", "UpdateRole", {"RoleName": ROLE, "Description": "?"}),
    ("iam", "UpdateAssumeRolePolicy", {"RoleName": ROLE, "PolicyDocument": TRUST}),
    ("iam", "PutRolePolicy", {"RoleName": ROLE, "PolicyName": "create-repositories", "PolicyDocument": RIGHTS}),
    ("iam", "DeleteRolePolicy", {"RoleName": ROLE, "PolicyName": "create-repositories"}),
    ("iam", "TagRole", {"RoleName": ROLE, "Tags": [{"Key": "team", "Value": "?"}, {"Key": "more", "Value": ""}]}),
    ("iam", "UntagRole", {"RoleName": ROLE, "TagKeys": ["team", "pullthrough:declaration"]}),
    (
        "iam",
        "PutRolePolicy",
        {"RoleName": NODE_ROLE, "PolicyName": "pullthrough-pullthrough", "PolicyDocument": RIGHTS},
    ),
    ("iam", "DeleteRolePolicy", {"RoleName": NODE_ROLE, "PolicyName": "pullthrough-pullthrough"}),
]


def test_drift_of_each_kind_is_put_back(place: Place) -> None:
    world = place.world()
    world.apply(FULL)
    before = attributes(world)
    for service, operation, params in DRIFT:
        if service == "iam" and not place.target.has_iam:
            continue
        token = {"ClientRequestToken": str(uuid.uuid4())} if operation == "PutSecretValue" else {}
        world.aws.call(service, operation, **params, **token)
        assert attributes(world) != before, (operation, params)
        plan = world.apply(FULL)
        assert len(plan.steps) == 1, (operation, params, ids(plan))
        assert attributes(world) == before, (operation, params)


def test_registry_documents_of_others_stay_to_the_byte(place: Place) -> None:
    world = place.world()
    text = (
        '{ "Version":"2012-10-17",\n"Statement" : {"Sid": "Theirs", "Effect":"Allow","Principal":'
        f'{{"AWS":"arn:aws:iam::{OTHER_ACCOUNT}:root"}}, "Action":["ecr:CreateRepository"],'
        f'"Resource":"arn:aws:ecr:{place.target.region}:{place.target.account}:repository/x/*"}}\t}}'
    )
    rules = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "quay/*", "filterType": "WILDCARD"}]}]
    world.aws.call("ecr", "PutRegistryPolicy", policyText=text)
    world.aws.call("ecr", "PutRegistryScanningConfiguration", scanType="BASIC", rules=rules)
    before = attributes(world)
    world.apply(FULL)
    assert len(json.loads(str(attributes(world)["registry policy"]))["Statement"]) == 3
    world.destroy(FULL)
    after = attributes(world)
    assert (after["registry policy"], after["scanning"]) == (before["registry policy"], before["scanning"])


def test_a_second_account_rule_and_secret_in_another_order_are_the_same(place: Place) -> None:
    world = place.world()
    world.apply(FULL)
    assert world.plan(replace(FULL, rules=tuple(reversed(FULL.rules)))).is_empty


# What the services refuse, which the module relies on


def create_secret(place: Place, token: str = "", text: str = "{}") -> dict[str, Any]:
    token = token or str(uuid.uuid4())
    return place.aws.call(
        "secretsmanager", "CreateSecret", Name=HUB_SECRET, SecretString=text, ClientRequestToken=token
    )


def create_template(place: Place) -> None:
    place.aws.call("ecr", "CreateRepositoryCreationTemplate", prefix="quay", appliedFor=["PULL_THROUGH_CACHE"])


def create_rule(place: Place) -> None:
    place.aws.call("ecr", "CreatePullThroughCacheRule", ecrRepositoryPrefix="quay", upstreamRegistryUrl="quay.io")


def call(service: str, operation: str, **params: Any) -> Callable[[Place], Any]:
    return lambda place: place.aws.call(service, operation, **params)


def create_secret_again(place: Place) -> None:
    create_secret(place)


def put_again(place: Place) -> None:
    place.aws.call(
        "secretsmanager",
        "PutSecretValue",
        SecretId=HUB_SECRET,
        SecretString="x",
        ClientRequestToken=str(uuid.uuid4()),
    )


def delete_secret(place: Place) -> None:
    place.aws.call("secretsmanager", "DeleteSecret", SecretId=HUB_SECRET, RecoveryWindowInDays=30)


def nothing(place: Place) -> None:
    """Nothing is there."""


def deleted_secret(place: Place) -> None:
    create_secret(place)
    delete_secret(place)


def role_with_policy(place: Place) -> None:
    policy = {"RoleName": NODE_ROLE, "PolicyName": "create-repositories", "PolicyDocument": RIGHTS}
    place.aws.call("iam", "PutRolePolicy", **policy)


REFUSALS: list[tuple[Callable[[Place], Any], Callable[[Place], Any], str]] = [
    (create_rule, create_rule, "PullThroughCacheRuleAlreadyExistsException"),
    (
        nothing,
        call("ecr", "DeletePullThroughCacheRule", ecrRepositoryPrefix="quay"),
        "PullThroughCacheRuleNotFoundException",
    ),
    (create_template, create_template, "TemplateAlreadyExistsException"),
    (nothing, call("ecr", "DeleteRepositoryCreationTemplate", prefix="quay"), "TemplateNotFoundException"),
    (nothing, call("ecr", "GetRegistryPolicy"), "RegistryPolicyNotFoundException"),
    (nothing, call("ecr", "DeleteRegistryPolicy"), "RegistryPolicyNotFoundException"),
    (create_secret, create_secret_again, "ResourceExistsException"),
    (deleted_secret, create_secret_again, "InvalidRequestException"),
    (deleted_secret, put_again, "InvalidRequestException"),
    (nothing, call("secretsmanager", "DescribeSecret", SecretId=HUB_SECRET), "ResourceNotFoundException"),
    (nothing, delete_secret, "ResourceNotFoundException"),
    (nothing, call("iam", "GetRole", RoleName="absent"), "NoSuchEntity"),
    (nothing, call("iam", "DeleteRole", RoleName="absent"), "NoSuchEntity"),
    (nothing, call("iam", "DeleteRolePolicy", RoleName=NODE_ROLE, PolicyName="absent"), "NoSuchEntity"),
    (
        nothing,
        call("iam", "PutRolePolicy", RoleName="absent", PolicyName="x", PolicyDocument=RIGHTS),
        "NoSuchEntity",
    ),
    (
        nothing,
        call("iam", "CreateRole", RoleName=NODE_ROLE, AssumeRolePolicyDocument=TRUST),
        "EntityAlreadyExists",
    ),
    (role_with_policy, call("iam", "DeleteRole", RoleName=NODE_ROLE), "DeleteConflict"),
]


def code_of(act: Callable[[Place], Any], place: Place) -> str:
    """The code with which it is refused; empty where it is not."""
    try:
        act(place)
    except AwsRefused as error:
        return error.code
    return ""


def test_refusals_have_the_codes_that_the_module_knows(place: Place) -> None:
    for prepare, refused, code in REFUSALS:
        if code in ("NoSuchEntity", "EntityAlreadyExists", "DeleteConflict") and not place.target.has_iam:
            continue
        if prepare is deleted_secret and place.name == "moto":
            continue  # it takes a secret that is to be deleted for one that is there
        prepare(place)
        assert code_of(refused, place) == code
        place.empty()
        if place.target.has_iam:
            place.aws.call("iam", "CreateRole", RoleName=NODE_ROLE, AssumeRolePolicyDocument=TRUST)


def test_a_secret_that_was_deleted_twice_is_still_to_be_deleted(place: Place) -> None:
    """Whether the second call is refused or not: what is described afterwards is the same."""
    deleted_secret(place)
    assert code_of(delete_secret, place) in ("", "InvalidRequestException")
    assert place.aws.call("secretsmanager", "DescribeSecret", SecretId=HUB_SECRET)["DeletedDate"]


def test_the_same_creation_again_is_the_same_secret_or_is_refused(place: Place) -> None:
    token = str(uuid.uuid4())
    made = create_secret(place, token)
    assert code_of(lambda place: create_secret(place, token), place) in ("", "ResourceExistsException")
    assert place.aws.call("secretsmanager", "DescribeSecret", SecretId=HUB_SECRET)["ARN"] == made["ARN"]


def test_values_come_together_with_an_error_for_each_that_has_none(place: Place) -> None:
    create_secret(place, text='{"username": "a"}')
    answer = place.aws.call("secretsmanager", "BatchGetSecretValue", SecretIdList=[HUB_SECRET, "absent"])
    assert [(entry["Name"], entry["SecretString"]) for entry in answer["SecretValues"]] == [
        (HUB_SECRET, '{"username": "a"}')
    ]
    assert [(entry["SecretId"], entry["ErrorCode"]) for entry in answer["Errors"]] == [
        ("absent", "ResourceNotFoundException")
    ]
    delete_secret(place)
    answer = place.aws.call("secretsmanager", "BatchGetSecretValue", SecretIdList=[HUB_SECRET])
    assert answer.get("SecretValues", []) == []


def test_secrets_are_listed_by_a_tags_key_also_while_they_are_to_be_deleted(place: Place) -> None:
    create_secret(place)
    filters = [{"Key": "tag-key", "Values": ["pullthrough:declaration"]}]

    def listed() -> list[str]:
        found = place.aws.pages(
            "secretsmanager", "ListSecrets", "SecretList", Filters=filters, IncludePlannedDeletion=True
        )
        return [entry["Name"] for entry in found]

    assert listed() == []
    tags = [{"Key": "pullthrough:declaration", "Value": "x"}]
    place.aws.call("secretsmanager", "TagResource", SecretId=HUB_SECRET, Tags=tags)
    assert listed() == [HUB_SECRET]
    delete_secret(place)
    assert listed() == [HUB_SECRET]


def test_restoring_a_secret_that_is_not_deleted_changes_nothing(place: Place) -> None:
    """A restoration whose answer was lost is asked for again."""
    create_secret(place)
    place.aws.call("secretsmanager", "RestoreSecret", SecretId=HUB_SECRET)
    assert "DeletedDate" not in place.aws.call("secretsmanager", "DescribeSecret", SecretId=HUB_SECRET)


def test_a_role_that_is_not_there_is_told_from_a_policy_that_is_not(place: Place) -> None:
    if not place.target.has_iam:
        return
    from pullthrough.provision.observation.roles import ABSENT_ROLE

    assert read_role(place.aws, "absent", "p") is None
    assert read_node_access(place.aws, "absent", "p") is ABSENT_ROLE
    assert read_node_access(place.aws, NODE_ROLE, "p") is None
    role_with_policy(place)
    found = read_node_access(place.aws, NODE_ROLE, "create-repositories")
    assert found is not None
    assert found.attributes["policy"] == json.loads(RIGHTS)
