"""What each plan costs in calls, exactly, and what happens where AWS does not do at once what it was told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from pullthrough.declaration import Template
from pullthrough.errors import ActionDenied, ApplyFailed
from pullthrough.provision.aws import Refused
from pullthrough.provision.model.documents import OPERATOR_ACTIONS
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.resources import MARKER_TAG, Key, ResourceKind
from tests.deployments import (
    DEFAULT,
    FULL,
    GITHUB_SECRET,
    HUB,
    HUB_SECRET,
    KMS_KEY,
    NODE_ROLE,
    TOKENS,
    USERNAME,
    World,
    fake_with_roles,
    secret_text,
)
from tests.fakes.aws import FakeAws, Mode, listing

PREFIXES = ("docker-hub", "github", "quay", "kubernetes", "ecr-public")
DEFAULT_READS = [
    "BatchGetSecretValue",
    "DescribePullThroughCacheRules",
    "DescribeRepositoryCreationTemplates",
    f"DescribeSecret {HUB_SECRET}",
    f"DescribeSecret {GITHUB_SECRET}",
    "GetRegistryPolicy",
    "GetRegistryScanningConfiguration",
    "ListSecrets",
]


def applied(world: World | None = None) -> World:
    world = world or World(fake_with_roles())
    world.apply(FULL)
    world.send.forget_calls()
    return world


# Exactly so many calls


def test_a_plan_of_the_default_reads_each_list_once_and_each_secret_once() -> None:
    world = World(FakeAws())
    world.apply(DEFAULT)
    world.send.forget_calls()
    world.plan(DEFAULT)
    assert listing(world.send.calls) == sorted(DEFAULT_READS)


def test_an_empty_account_is_filled_without_a_call_too_many() -> None:
    world = World(FakeAws())
    plan = world.plan(DEFAULT)
    assert listing(world.send.calls) == sorted(DEFAULT_READS)
    world.send.forget_calls()
    world.carry_out(plan, DEFAULT)
    assert listing(world.send.calls) == sorted(
        [
            f"CreateSecret {HUB_SECRET}",
            f"CreateSecret {GITHUB_SECRET}",
            *(f"CreatePullThroughCacheRule {prefix}" for prefix in PREFIXES),
            *(f"CreateRepositoryCreationTemplate {prefix}" for prefix in PREFIXES),
        ]
    )


def test_a_plan_of_everything_reads_one_more_for_each_role_and_secret() -> None:
    world = applied()
    world.plan(FULL)
    assert listing(world.send.calls) == sorted(
        [
            *DEFAULT_READS,
            "DescribeSecret ecr-pullthroughcache/gitlab",
            "GetRole pullthrough-pullthrough-template",
            "GetRolePolicy pullthrough-pullthrough-template",
            f"GetRolePolicy {NODE_ROLE}",
        ]
    )


def test_what_is_on_another_page_is_read_too() -> None:
    world = World(FakeAws())
    for number in range(150):
        world.send.add_template(f"t{number:03}")
        world.send.add_secret(f"s{number:03}", "x", tags={MARKER_TAG: "other"})
    world.send.add_template("quay", imageTagMutability="IMMUTABLE")
    assert any("template quay" in problem for problem in world.plan(DEFAULT).problems)
    assert listing(world.send.calls) == sorted([*DEFAULT_READS, "DescribeRepositoryCreationTemplates", "ListSecrets"])


def test_everything_ever_called_is_what_the_operators_policy_allows() -> None:
    world = World(fake_with_roles())
    world.apply(FULL)
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    world.send.secret(GITHUB_SECRET).kms_key = KMS_KEY
    role = world.send.iam.roles["pullthrough-pullthrough-template"]
    role |= {"trust": {"Statement": []}, "description": "?"}
    role["tags"]["more"] = world.send.secret(HUB_SECRET).tags["more"] = "?"
    world.send.ecr.templates["quay"]["appliedFor"] = ["REPLICATION"]
    world.send.ecr.rules["docker-hub"]["credentialArn"] = world.send.secret(GITHUB_SECRET).arn
    world.apply(replace(FULL, tags={"team": "other"}))
    world.destroy(FULL)
    world.apply(FULL)
    allowed = {action for actions in OPERATOR_ACTIONS.values() for action in actions}
    seen = world.send.actions
    assert seen <= allowed
    # Those beside are verify's, and those of repositories; and two that others' calls need.
    assert {action for action in allowed - seen if not action.startswith(("ec2:", "ecr:"))} == {
        "iam:PassRole",
        "iam:SimulatePrincipalPolicy",
        "secretsmanager:GetSecretValue",
    }


def test_a_rule_is_made_as_terraform_makes_it() -> None:
    """Terraform would replace a rule that has an upstream prefix which nobody gave it."""
    world = World(FakeAws())
    world.apply(DEFAULT)
    made = {call.about: call.params for call in world.send.writes if call.operation == "CreatePullThroughCacheRule"}
    assert made["quay"] == {"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io"}
    assert made["docker-hub"] == {
        "ecrRepositoryPrefix": "docker-hub",
        "upstreamRegistryUrl": HUB,
        "credentialArn": world.send.secret(HUB_SECRET).arn,
    }


def test_a_secret_is_json_of_the_two_keys_that_ecr_wants() -> None:
    world = World(FakeAws())
    world.apply(DEFAULT)
    value = world.send.secret(HUB_SECRET).value
    assert value is not None
    assert json.loads(value) == {"username": USERNAME, "accessToken": TOKENS[HUB]}


# AWS's races


def test_a_rule_waits_until_its_secret_is_known_everywhere() -> None:
    world = World(FakeAws())
    unknown = Refused("SecretNotFoundException", "The ARN of the secret ... was not found", 400)
    barred = Refused("UnableToAccessSecretException", "The secret is unable to be accessed", 400)
    world.send.refusals["ecr:CreatePullThroughCacheRule"] = [unknown, barred, unknown]
    world.apply(DEFAULT)
    assert len(world.send.ecr.rules) == 5


def test_a_secret_that_stays_unknown_is_told_at_last() -> None:
    world = World(FakeAws())
    unknown = Refused("SecretNotFoundException", "The ARN of the secret ... was not found", 400)
    world.send.refusals["ecr:CreatePullThroughCacheRule"] = [unknown] * 20
    with pytest.raises(ApplyFailed, match="SecretNotFoundException"):
        world.apply(DEFAULT)
    assert len(world.send.refusals["ecr:CreatePullThroughCacheRule"]) == 12


def test_a_rights_policy_waits_until_its_role_is_known_everywhere() -> None:
    world = World(fake_with_roles())
    world.send.refusals["iam:PutRolePolicy"] = [Refused("NoSuchEntity", "The role with name x cannot be found.", 404)]
    world.apply(FULL)
    assert world.plan(FULL).is_empty


def test_what_somebody_made_since_the_plan_is_not_overwritten() -> None:
    preparations: tuple[tuple[Callable[[FakeAws], object], str], ...] = (
        (lambda aws: aws.add_rule("quay", "public.ecr.aws"), "PullThroughCacheRuleAlreadyExistsException"),
        (lambda aws: aws.add_template("quay"), "TemplateAlreadyExistsException"),
        (lambda aws: aws.add_secret(HUB_SECRET, "theirs"), "ResourceExistsException"),
        (lambda aws: aws.add_role("pullthrough-pullthrough-template"), "EntityAlreadyExists"),
    )
    for prepare, code in preparations:
        world = World(fake_with_roles())
        plan = world.plan(FULL)
        prepare(world.send)
        before = world.send.state()
        with pytest.raises(ApplyFailed, match=code):
            world.carry_out(plan, FULL)
        after = world.send.state()
        for kind in ("rules", "templates", "secrets", "roles"):
            assert {name: after[kind][name] for name in before[kind]} == before[kind]
        world.send.forget_calls()
        world.destroy(FULL)
        assert {name: world.send.state()["rules"].get(name) for name in before["rules"]} == before["rules"]


def test_what_others_put_into_the_registrys_documents_since_the_plan_stays() -> None:
    world = World(fake_with_roles())
    plan = world.plan(FULL)
    theirs = '{"Statement":[{"Sid":"Late","Effect":"Deny","Principal":"*","Action":"ecr:ReplicateImage"}]}'
    world.send.ecr.registry_policy = theirs
    world.send.ecr.scanning["rules"] = rules = [
        {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "late", "filterType": "WILDCARD"}]}
    ]
    world.carry_out(plan, FULL)
    assert theirs[:-2] in world.send.ecr.registry_policy
    assert rules[0]["repositoryFilters"][0] in world.send.ecr.scanning["rules"][0]["repositoryFilters"]
    world.destroy(FULL)
    assert world.send.ecr.registry_policy == theirs
    assert world.send.ecr.scanning["rules"] == rules


def test_a_secret_that_can_not_be_deleted_for_another_reason_is_a_failure() -> None:
    world = applied()
    refused = Refused("InvalidRequestException", "You can't delete a secret that is managed by another service.", 400)
    world.send.refusals["secretsmanager:DeleteSecret"] = [refused]
    with pytest.raises(ApplyFailed, match="managed by another service"):
        world.destroy(FULL)


@pytest.mark.parametrize(
    ("action", "refusing", "needed"),
    [
        ("ecr:CreateRepositoryCreationTemplate", "iam:PassRole", "iam:PassRole"),
        ("secretsmanager:CreateSecret", "secretsmanager:TagResource", "secretsmanager:TagResource"),
        ("iam:CreateRole", "", "iam:CreateRole"),
    ],
)
def test_the_action_that_is_missing_is_named_though_another_was_called(action: str, refusing: str, needed: str) -> None:
    world = World(fake_with_roles())
    text = f"User: arn is not authorized to perform: {refusing} on resource: *" if refusing else "Access denied"
    world.send.refusals[action] = [Refused("AccessDeniedException", text, 400)]
    with pytest.raises(ApplyFailed) as caught:
        world.apply(FULL)
    assert isinstance(caught.value.__cause__, ActionDenied)
    assert caught.value.__cause__.action == needed


def test_a_template_that_loses_its_extras_has_none() -> None:
    rich = Template(
        tag_mutability_exclusions=("latest",), resource_tags={"a": "b"}, pull_accounts=("210987654321",), keep_images=5
    )
    world = World(FakeAws())
    world.apply(replace(DEFAULT, templates={"quay": rich}))
    world.apply(replace(DEFAULT, templates={"quay": Template(keep_images=None)}))
    fresh = World(FakeAws())
    fresh.apply(replace(DEFAULT, templates={"quay": Template(keep_images=None)}))
    assert world.send.state()["templates"] == fresh.send.state()["templates"]


def test_only_what_changed_of_a_template_is_sent() -> None:
    world = World(FakeAws())
    world.apply(DEFAULT)
    world.send.forget_calls()
    world.apply(replace(DEFAULT, templates={"quay": Template(keep_images=7)}))
    (call,) = world.send.writes
    assert call.params.keys() == {"prefix", "lifecyclePolicy"}


def test_a_secret_with_a_key_of_ones_own_gets_awss_own_back() -> None:
    world = applied()
    world.send.secret(HUB_SECRET).kms_key = KMS_KEY
    world.apply(FULL)
    assert world.send.secret(HUB_SECRET).kms_key == ""
    assert [call.operation for call in world.send.writes] == ["UpdateSecret"]


def test_a_repeated_deletion_of_each_kind_is_content() -> None:
    world = applied()
    plan = world.plan_destroy(FULL)
    world.carry_out(plan, FULL)
    again = replace(plan, steps=tuple(step for step in plan.steps if step.action is StepAction.DELETE))
    before = world.send.state()
    world.carry_out(again, FULL)
    assert world.send.state() == before


def test_a_step_of_another_declarations_role_is_refused() -> None:
    world = World(fake_with_roles())
    plan = world.plan(FULL)
    world.send.add_role("pullthrough-pullthrough-template")
    world.send.iam.roles["pullthrough-pullthrough-template"]["tags"][MARKER_TAG] = "other"
    with pytest.raises(ApplyFailed, match="EntityAlreadyExists"):
        world.carry_out(plan, FULL)


def test_a_rotation_of_an_existing_secret_keeps_its_previous_version() -> None:
    world = applied()
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    world.apply(FULL)
    secret = world.send.secret(HUB_SECRET)
    assert secret.versions[secret.stages["AWSPREVIOUS"]] == secret_text(USERNAME, TOKENS[HUB])


def test_a_lost_rotation_makes_one_version() -> None:
    world = applied()
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    plan = world.plan(FULL)
    assert plan.steps == (
        Step(
            Key(ResourceKind.SECRET, HUB_SECRET),
            StepAction.UPDATE,
            "the account has changed",
            plan.steps[0].before,
            plan.steps[0].after,
            arn=world.send.secret(HUB_SECRET).arn,
        ),
    )
    world.send.fail(1, Mode.LOST_AFTER)
    world.carry_out(plan, FULL)
    assert len(world.send.secret(HUB_SECRET).versions) == 2
    assert len(world.send.writes) == 2
