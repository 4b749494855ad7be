"""Desired minus observed: what is planned, what is left alone, and what stands in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pullthrough.declaration import (
    STANDARD_RULES,
    Declaration,
    NodeAccess,
    Rule,
    ScanFrequency,
    SecretCredential,
    Template,
)
from pullthrough.provision.model.plan import Plan
from pullthrough.provision.model.resources import MARKER_TAG, Key
from tests.deployments import (
    DEFAULT,
    FULL,
    GITHUB_SECRET,
    HUB,
    HUB_SECRET,
    KMS_KEY,
    NODE_ROLE,
    OTHER_ACCOUNT,
    TOKENS,
    USERNAME,
    World,
    fake_with_roles,
    ids,
    secret_text,
)
from tests.fakes.aws import ACCOUNT, REGION, FakeAws

DEFAULT_STEPS = [
    f"+ secret:{HUB_SECRET}",
    f"+ secret:{GITHUB_SECRET}",
    *(f"+ rule:{prefix}" for prefix in ("docker-hub", "github", "quay", "kubernetes", "ecr-public")),
    *(f"+ template:{prefix}" for prefix in ("docker-hub", "github", "quay", "kubernetes", "ecr-public")),
]


def applied(declaration: Declaration = DEFAULT) -> World:
    world = World(fake_with_roles())
    world.apply(declaration)
    world.send.forget_calls()
    return world


def without(declaration: Declaration, *prefixes: str) -> Declaration:
    return replace(declaration, rules=tuple(rule for rule in declaration.rules if rule.prefix not in prefixes))


def only_problem(plan: Plan) -> str:
    assert len(plan.problems) == 1, plan.problems
    return plan.problems[0]


def left(plan: Plan) -> dict[str, str]:
    return {str(entry.key): entry.reason for entry in plan.left_alone}


# From nothing, and nothing to do


def test_an_empty_account_gets_secrets_then_rules_then_templates() -> None:
    plan = World(FakeAws()).plan(DEFAULT)
    assert ids(plan) == DEFAULT_STEPS
    assert all(step.reason and step.before is None for step in plan.steps)
    assert plan.problems == ()


def test_planning_writes_nothing() -> None:
    world = World(fake_with_roles())
    world.plan(FULL)
    world.plan_destroy(FULL)
    assert world.send.writes == []


@pytest.mark.parametrize("declaration", [DEFAULT, FULL], ids=["default", "full"])
def test_applying_twice_changes_nothing(declaration: Declaration) -> None:
    world = applied(declaration)
    before = world.send.state()
    plan = world.apply(declaration)
    assert plan.is_empty
    assert plan.problems == ()
    assert world.send.writes == []
    assert world.send.state() == before


def test_a_step_stands_behind_those_it_needs() -> None:
    world = applied(FULL)
    for plan in (World(fake_with_roles()).plan(FULL), world.plan_destroy(FULL)):
        seen: set[Key] = set()
        planned = {step.key for step in plan.steps}
        for step in plan.steps:
            assert set(step.needs) & planned <= seen
            seen.add(step.key)


# Drift: each attribute of each kind, changed by somebody else

_TEMPLATE = "docker-hub"
DRIFT: dict[str, Callable[[FakeAws], object]] = {
    "secret gone": lambda aws: aws.secretsmanager.secrets.pop(HUB_SECRET),
    "secret's description": lambda aws: setattr(aws.secret(HUB_SECRET), "description", "?"),
    "secret's username": lambda aws: _put(aws, secret_text("somebody", TOKENS[HUB])),
    "secret's token": lambda aws: _put(aws, secret_text(USERNAME, "another")),
    "secret is no account": lambda aws: _put(aws, "oops"),
    "secret has a key too many": lambda aws: _put(aws, '{"username": "acme", "accessToken": "t", "more": 1}'),
    "secret's key": lambda aws: setattr(aws.secret(HUB_SECRET), "kms_key", KMS_KEY),
    "secret's tag changed": lambda aws: aws.secret(HUB_SECRET).tags.update(team="?"),
    "secret's tag gone": lambda aws: aws.secret(HUB_SECRET).tags.pop("team"),
    "secret's tag added": lambda aws: aws.secret(HUB_SECRET).tags.update(more="?"),
    "secret's mark gone": lambda aws: aws.secret(HUB_SECRET).tags.pop(MARKER_TAG),
    "rule gone": lambda aws: aws.ecr.rules.pop("quay"),
    "rule's upstream": lambda aws: aws.ecr.rules["quay"].update(upstreamRegistryUrl="public.ecr.aws"),
    "rule's upstream prefix": lambda aws: aws.ecr.rules["team"].update(upstreamRepositoryPrefix="other"),
    "rule's upstream prefix gone": lambda aws: aws.ecr.rules["team"].pop("upstreamRepositoryPrefix"),
    "rule's credential": lambda aws: aws.ecr.rules["docker-hub"].update(credentialArn=aws.secret(GITHUB_SECRET).arn),
    "rule's credential gone": lambda aws: aws.ecr.rules["docker-hub"].pop("credentialArn"),
    "rule's credential added": lambda aws: aws.ecr.rules["quay"].update(credentialArn=aws.secret(HUB_SECRET).arn),
    "rule's role": lambda aws: aws.ecr.rules["team"].update(customRoleArn=f"arn:aws:iam::{ACCOUNT}:role/x"),
    "template gone": lambda aws: aws.ecr.templates.pop(_TEMPLATE),
    "template's description": lambda aws: aws.ecr.templates[_TEMPLATE].update(description="?"),
    "template's description gone": lambda aws: aws.ecr.templates[_TEMPLATE].pop("description"),
    "template's use": lambda aws: aws.ecr.templates[_TEMPLATE].update(appliedFor=["PULL_THROUGH_CACHE", "REPLICATION"]),
    "template's mutability": lambda aws: aws.ecr.templates["quay"].update(
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "x"}],
    ),
    "template's exclusions": lambda aws: (
        aws.ecr.templates[_TEMPLATE]["imageTagMutabilityExclusionFilters"].pop() and None
    ),
    "template's encryption": lambda aws: aws.ecr.templates[_TEMPLATE].update(
        encryptionConfiguration={"encryptionType": "AES256"}
    ),
    "template's encryption added": lambda aws: aws.ecr.templates["quay"].update(
        encryptionConfiguration={"encryptionType": "KMS", "kmsKey": KMS_KEY}
    ),
    "template's key": lambda aws: aws.ecr.templates[_TEMPLATE].update(
        encryptionConfiguration={"encryptionType": "KMS"}
    ),
    "template's lifecycle": lambda aws: aws.ecr.templates[_TEMPLATE].update(lifecyclePolicy='{"rules": []}'),
    "template's lifecycle gone": lambda aws: aws.ecr.templates[_TEMPLATE].pop("lifecyclePolicy"),
    "template's lifecycle added": lambda aws: aws.ecr.templates["github"].update(lifecyclePolicy='{"rules": []}'),
    "template's policy": lambda aws: aws.ecr.templates["quay"].update(repositoryPolicy='{"Statement": []}'),
    "template's policy gone": lambda aws: aws.ecr.templates["quay"].pop("repositoryPolicy"),
    "template's tags": lambda aws: aws.ecr.templates[_TEMPLATE].update(resourceTags=[{"Key": "a", "Value": "b"}]),
    "template's tags gone": lambda aws: aws.ecr.templates[_TEMPLATE].pop("resourceTags"),
    "template's tags added": lambda aws: aws.ecr.templates["quay"].update(resourceTags=[{"Key": "a", "Value": "b"}]),
    "template's role": lambda aws: aws.ecr.templates[_TEMPLATE].update(customRoleArn="arn:aws:iam::1:role/x"),
    "template's role gone": lambda aws: aws.ecr.templates[_TEMPLATE].pop("customRoleArn"),
    "template's role added": lambda aws: aws.ecr.templates["quay"].update(customRoleArn="arn:aws:iam::1:role/x"),
    "role gone": lambda aws: aws.iam.roles.pop("pullthrough-pullthrough-template"),
    "role's description": lambda aws: _role(aws).update(description="?"),
    "role's trust": lambda aws: _role(aws).update(trust={"Statement": []}),
    "role's policy": lambda aws: _role(aws)["policies"].update({"create-repositories": {"Statement": []}}),
    "role's policy gone": lambda aws: _role(aws)["policies"].clear(),
    "role's tag changed": lambda aws: _role(aws)["tags"].update(team="?"),
    "role's tag added": lambda aws: _role(aws)["tags"].update(more="?"),
    "role's mark gone": lambda aws: _role(aws)["tags"].pop(MARKER_TAG),
    "nodes' policy": lambda aws: aws.iam.roles[NODE_ROLE]["policies"].update(
        {"pullthrough-pullthrough": {"Statement": []}}
    ),
    "nodes' policy gone": lambda aws: aws.iam.roles[NODE_ROLE]["policies"].pop("pullthrough-pullthrough"),
    "registry policy gone": lambda aws: setattr(aws.ecr, "registry_policy", ""),
    "registry policy's statement": lambda aws: setattr(
        aws.ecr, "registry_policy", aws.ecr.registry_policy.replace("/quay/*", "/quay/secret/*")
    ),
    "scanning gone": lambda aws: aws.ecr.scanning.update(rules=[]),
    "scanning's filter gone": lambda aws: aws.ecr.scanning["rules"][0]["repositoryFilters"].pop(),
}
#: In words that this drift cannot be put back without: AWS makes another secret of the same name.
_BY_REPLACEMENT = {
    "rule's upstream",
    "rule's upstream prefix",
    "rule's upstream prefix gone",
    "rule's credential added",
}


def _put(aws: FakeAws, text: str) -> None:
    aws.secret(HUB_SECRET).put("by-somebody-else-0123456789abcdef", text, aws.now)


def _role(aws: FakeAws) -> dict[str, Any]:
    role: dict[str, Any] = aws.iam.roles["pullthrough-pullthrough-template"]
    return role


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_put_back_and_nothing_else_is_touched(what: str) -> None:
    world = applied(FULL)
    before = world.send.state()
    DRIFT[what](world.send)
    assert world.send.state() != before
    plan = world.apply(FULL, replace=what in _BY_REPLACEMENT)
    assert 1 <= len(plan.steps) <= (2 if what == "secret gone" else 1)
    after = world.send.state()
    for name, secret in after["secrets"].items():
        # A value that somebody changed is put right by one more version.
        before["secrets"][name]["versions"] = secret["versions"]
    assert after == before
    world.send.forget_calls()
    assert world.apply(FULL, replace=True).is_empty
    assert world.send.writes == []


def test_a_policy_written_in_another_order_is_no_drift() -> None:
    world = applied(FULL)
    for template in world.send.ecr.templates.values():
        for name in ("lifecyclePolicy", "repositoryPolicy"):
            if name in template:
                template[name] = json.dumps(json.loads(template[name]), indent=3, sort_keys=True)
    assert world.plan(FULL).is_empty


def test_a_policy_in_other_words_of_the_same_meaning_is_no_drift() -> None:
    """AWS may give a list of one back as the one, and actions in another order."""
    world = applied(FULL)
    ecr = world.send.ecr
    for template in ecr.templates.values():
        if "repositoryPolicy" in template:
            template["repositoryPolicy"] = json.dumps(reworded(json.loads(template["repositoryPolicy"])))
    ecr.registry_policy = json.dumps(reworded(json.loads(ecr.registry_policy or "")))
    for role in world.send.iam.roles.values():
        role["policies"] = {
            name: reworded(policy) if isinstance(policy, dict) else json.dumps(reworded(json.loads(policy)))
            for name, policy in role["policies"].items()
        }
    assert world.plan(FULL).is_empty


def reworded(policy: dict[str, Any]) -> dict[str, Any]:
    for statement in policy["Statement"]:
        if isinstance(statement["Action"], list):
            statement["Action"] = statement["Action"][::-1]
        principal = statement.get("Principal")
        if isinstance(principal, dict) and isinstance(names := principal.get("AWS"), list) and len(names) == 1:
            principal["AWS"] = names[0]
    return policy


# Credentials


def test_an_unchanged_credential_makes_no_new_version() -> None:
    world = applied()
    world.apply(DEFAULT)
    assert [len(world.send.secret(name).versions) for name in (HUB_SECRET, GITHUB_SECRET)] == [1, 1]


def test_a_changed_credential_is_rotated_in_place_by_one_call() -> None:
    world = applied()
    arn = world.send.secret(HUB_SECRET).arn
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    plan = world.apply(DEFAULT)
    assert ids(plan) == [f"~ secret:{HUB_SECRET}"]
    assert [name for name, _, _ in plan.steps[0].changes] == ["accessToken"]
    assert [call.operation for call in world.send.writes] == ["PutSecretValue"]
    secret = world.send.secret(HUB_SECRET)
    assert (secret.arn, secret.value) == (arn, secret_text(USERNAME, "dckr_pat_S3CR3T-number-two"))
    assert len(secret.versions) == 2


def test_a_secret_to_be_deleted_is_restored_with_its_version() -> None:
    world = applied()
    world.destroy(DEFAULT)
    assert all(secret["deleted"] for secret in world.send.state()["secrets"].values())
    plan = world.plan(DEFAULT)
    assert {step.action.value for step in plan.steps if step.key.kind == "secret"} == {"restore"}
    world.carry_out(plan, DEFAULT)
    secret = world.send.secret(HUB_SECRET)
    assert secret.deleted_at is None
    assert len(secret.versions) == 1
    assert world.plan(DEFAULT).is_empty


def test_a_restored_secret_gets_the_credential_of_today() -> None:
    world = applied()
    world.destroy(DEFAULT)
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    world.apply(DEFAULT)
    assert world.send.secret(HUB_SECRET).value == secret_text(USERNAME, "dckr_pat_S3CR3T-number-two")
    assert [len(world.send.secret(name).versions) for name in (HUB_SECRET, GITHUB_SECRET)] == [2, 1]


def test_somebody_elses_secret_to_be_deleted_is_a_problem() -> None:
    world = World(FakeAws())
    world.send.add_secret(HUB_SECRET, "theirs").deleted_at = world.send.now
    problem = only_problem(world.plan(DEFAULT))
    assert "is to be deleted" in problem
    assert f"--adopt 'secret:{HUB_SECRET}'" in problem
    world.apply(DEFAULT, adopt=(f"secret:{HUB_SECRET}",))
    assert world.plan(DEFAULT).is_empty


def test_a_secret_whose_value_can_not_be_read_is_a_problem() -> None:
    world = applied()
    world.send.secretsmanager.unreadable = {HUB_SECRET}
    assert "secretsmanager:GetSecretValue" in only_problem(world.plan(DEFAULT))


def test_a_secret_without_a_value_gets_one() -> None:
    world = applied()
    world.send.secret(HUB_SECRET).stages.clear()
    assert ids(world.apply(DEFAULT)) == [f"~ secret:{HUB_SECRET}"]
    assert world.send.secret(HUB_SECRET).value == secret_text(USERNAME, TOKENS[HUB])


def test_leftovers_are_found_although_the_list_of_secrets_is_late() -> None:
    world = applied()
    world.send.secretsmanager.not_listed_yet = {HUB_SECRET, GITHUB_SECRET}
    assert world.plan(DEFAULT).is_empty


# Given secrets


def given(arn: str) -> Declaration:
    rule = replace(STANDARD_RULES[0], credential=SecretCredential(arn))
    return replace(DEFAULT, rules=(rule,))


def test_a_given_secret_is_used_and_not_touched() -> None:
    world = World(FakeAws())
    secret = world.send.add_secret("ecr-pullthroughcache/theirs", secret_text("u", "t"))
    before = world.send.state()["secrets"]
    world.apply(given(secret.arn))
    assert world.send.ecr.rules["docker-hub"]["credentialArn"] == secret.arn
    assert world.apply(given(secret.arn)).is_empty
    world.destroy(given(secret.arn))
    assert world.send.state()["secrets"] == before


@pytest.mark.parametrize(
    ("arn", "prepare", "words"),
    [
        ("", lambda secret: setattr(secret, "arn", f"{secret.arn[:-1]}X"), "there is no such secret"),
        ("", lambda secret: setattr(secret, "deleted_at", secret.created_at), "is to be deleted"),
        ("", lambda secret: setattr(secret, "kms_key", KMS_KEY), "encrypted with a key of your own"),
        (
            f"arn:aws:secretsmanager:us-west-2:{ACCOUNT}:secret:ecr-pullthroughcache/a-abcdef",
            None,
            "another account or",
        ),
        (
            f"arn:aws:secretsmanager:{REGION}:{OTHER_ACCOUNT}:secret:ecr-pullthroughcache/a-abcdef",
            None,
            "account or region",
        ),
    ],
)
def test_a_given_secret_that_ecr_can_not_use_is_a_problem(
    arn: str, prepare: Callable[[object], None] | None, words: str
) -> None:
    world = World(FakeAws())
    secret = world.send.add_secret("ecr-pullthroughcache/theirs", secret_text("u", "t"))
    arn = arn or secret.arn
    if prepare:
        prepare(secret)
    else:
        secret.arn = arn
    problem = only_problem(world.plan(given(arn)))
    assert words in problem
    assert arn in problem


# Renaming, switching off, pruning, replacing


def test_a_rule_that_is_switched_off_is_listed_and_stays_until_it_is_named() -> None:
    world = applied()
    fewer = without(DEFAULT, "docker-hub", "quay")
    plan = world.apply(fewer)
    assert plan.is_empty
    assert left(plan)["rule:docker-hub"] == "is not declared; --prune docker-hub removes it"
    assert left(plan).keys() == {"rule:docker-hub", "rule:quay"}
    plan = world.apply(fewer, prune=("docker-hub",))
    assert ids(plan) == ["- rule:docker-hub", "- template:docker-hub", f"- secret:{HUB_SECRET}"] or ids(plan) == [
        "- rule:docker-hub",
        f"- secret:{HUB_SECRET}",
        "- template:docker-hub",
    ]
    assert "quay" in world.send.ecr.rules
    assert world.send.secret(HUB_SECRET).deleted_at is not None


def test_a_renamed_rule_is_another_rule_with_another_secret() -> None:
    world = applied()
    renamed = replace(DEFAULT, rules=(Rule("hub", HUB), *DEFAULT.rules[1:]))
    world.apply(renamed, prune=("docker-hub",))
    fresh = World(FakeAws())
    fresh.apply(renamed)
    assert world.send.state(deleted_secrets=False) == {**fresh.send.state(), "roles": world.send.state()["roles"]}


def test_a_secret_that_another_rule_uses_stays() -> None:
    world = applied()
    arn = world.send.secret(HUB_SECRET).arn
    world.send.add_rule("theirs", HUB, credentialArn=arn)
    world.apply(without(DEFAULT, "docker-hub"), prune=("docker-hub",))
    assert world.send.secret(HUB_SECRET).deleted_at is None


def test_pruning_what_is_declared_or_not_there_is_a_problem() -> None:
    world = applied()
    assert "that rule is declared" in only_problem(world.plan(DEFAULT, prune=("quay",)))
    assert "there is no such rule; those not declared are: none" in only_problem(world.plan(DEFAULT, prune=("x",)))


def test_adopting_what_is_not_there_is_a_problem() -> None:
    assert "there is no such thing" in only_problem(applied().plan(DEFAULT, adopt=("template:quays",)))


def test_a_rule_is_replaced_only_with_consent() -> None:
    world = World(FakeAws())
    world.send.add_rule("quay", "public.ecr.aws")
    problem = only_problem(world.plan(DEFAULT))
    assert "comes from public.ecr.aws, not from quay.io" in problem
    assert "--replace" in problem
    plan = world.apply(DEFAULT, replace=True)
    assert "-/+ rule:quay" in ids(plan)
    assert world.send.ecr.rules["quay"]["upstreamRegistryUrl"] == "quay.io"


def test_a_disabled_template_goes_and_its_rule_stays() -> None:
    world = applied()
    plan = world.apply(replace(DEFAULT, templates={"quay": Template(enabled=False)}))
    assert ids(plan) == ["- template:quay"]


def test_the_role_stays_while_a_template_that_stays_needs_it() -> None:
    tagged = replace(DEFAULT, templates={"quay": Template(resource_tags={"a": "b"})})
    world = applied(tagged)
    plan = world.apply(without(tagged, "quay"))
    assert plan.is_empty
    assert "is used by a template that stays: quay" in left(plan).values()
    plan = world.apply(without(tagged, "quay"), prune=("quay",))
    assert ids(plan)[:2] == ["- template:quay", "- role:pullthrough-pullthrough-template"]
    assert set(world.send.iam.roles) == {NODE_ROLE}


def test_the_role_goes_after_the_template_that_needs_it_no_more() -> None:
    world = applied(replace(DEFAULT, templates={"quay": Template(resource_tags={"a": "b"})}))
    plan = world.apply(DEFAULT)
    assert ids(plan) == ["~ template:quay", "- role:pullthrough-pullthrough-template"]
    assert plan.steps[1].needs == (plan.steps[0].key,)


def test_the_rights_of_nodes_that_are_not_named_any_more_go() -> None:
    world = applied(FULL)
    before = fake_with_roles().state()["roles"][NODE_ROLE]
    plan = world.apply(replace(FULL, access=replace(FULL.access, node_roles=())))
    assert ids(plan) == [f"- node access:{NODE_ROLE}"]
    assert world.send.state()["roles"][NODE_ROLE] == before


def test_a_role_of_nodes_that_is_not_there_is_a_problem() -> None:
    world = World(FakeAws())
    problem = only_problem(world.plan(replace(DEFAULT, access=NodeAccess(node_roles=("noods",)))))
    assert "noods" in problem
    assert ACCOUNT in problem


# The quota


def many(count: int) -> Declaration:
    return Declaration(rules=tuple(Rule(f"p{number}", "quay.io") for number in range(count)))


def test_fifty_rules_are_made_and_one_more_is_a_problem() -> None:
    world = World(FakeAws())
    assert "would have 51 rules, and 50" in only_problem(world.plan(many(51)))
    world.apply(many(50))
    assert len(world.send.ecr.rules) == 50
    assert "50 are there" in only_problem(world.plan(many(51)))


def test_at_the_quota_room_is_made_before_it_is_needed() -> None:
    world = World(FakeAws())
    world.apply(many(50))
    other = replace(many(50), rules=(*many(49).rules, Rule("other", "quay.io")))
    world.apply(other, prune=("p49",))
    assert set(world.send.ecr.rules) == {rule.prefix for rule in other.rules}


# What is somebody else's


def test_what_is_there_as_declared_is_used_and_left() -> None:
    world = applied()
    stranger = World(world.send.copy())  # no journal, and another declaration's name
    mine = replace(DEFAULT, name="mine")
    before = stranger.send.state()
    plan = stranger.apply(mine)
    assert plan.is_empty
    assert plan.problems == ()
    assert {key.partition(":")[0] for key in left(plan)} == {"secret", "template"}
    stranger.destroy(mine)
    assert stranger.send.state() == before


def test_what_differs_and_is_somebody_elses_is_a_problem_unless_it_is_taken_over() -> None:
    world = World(FakeAws())
    world.send.add_template("quay", imageTagMutability="IMMUTABLE")
    world.send.add_secret(HUB_SECRET, secret_text("somebody", "else"), tags={MARKER_TAG: "other"})
    plan = world.plan(DEFAULT)
    assert len(plan.problems) == 2
    secret, template = plan.problems
    assert f"the secret {HUB_SECRET} is the declaration 'other''s and differs from what is declared (" in secret
    assert "credential_arn" in secret
    assert "template quay is not this declaration's" in template
    assert "imageTagMutability" in template
    adopt = (f"secret:{HUB_SECRET}", "template:quay")
    for text in adopt:
        assert any(f"--adopt '{text}'" in problem for problem in plan.problems)
    plan = world.apply(DEFAULT, adopt=adopt)
    assert "~ template:quay" in ids(plan)
    assert world.plan(DEFAULT).is_empty
    world.destroy(DEFAULT)
    assert "quay" not in world.send.ecr.templates
    assert world.send.secret(HUB_SECRET).deleted_at


def test_a_rule_that_was_there_is_used_and_stays_unless_it_is_named() -> None:
    world = World(FakeAws())
    world.send.add_rule("quay", "quay.io")
    world.send.add_rule("theirs", "quay.io")
    plan = world.apply(DEFAULT)
    assert "+ rule:quay" not in ids(plan)
    assert set(left(plan)) == {"rule:theirs"}
    plan = world.destroy(DEFAULT)
    assert left(plan) == {"rule:quay": "is not recorded as made here; --include-adopted removes it too"}
    assert set(world.send.ecr.rules) == {"quay", "theirs"}
    world.destroy(DEFAULT, include_adopted=True)
    assert set(world.send.ecr.rules) == {"theirs"}


def test_destroy_leaves_a_secret_that_a_rule_which_stays_uses() -> None:
    world = World(FakeAws())
    theirs = world.send.add_secret("ecr-pullthroughcache/theirs", secret_text("u", "t"))
    world.send.add_rule("docker-hub", HUB, credentialArn=theirs.arn)
    plan = world.apply(DEFAULT)
    assert "~ rule:docker-hub" in ids(plan)
    plan = world.destroy(DEFAULT)
    assert left(plan)[f"secret:{HUB_SECRET}"] == "is used by a rule that stays"
    assert world.send.secret(HUB_SECRET).deleted_at is None


def test_destroy_takes_what_was_declared_once() -> None:
    world = applied(FULL)
    world.apply(without(FULL, "docker-hub"))
    world.destroy(without(FULL, "docker-hub"))
    expected = fake_with_roles().state()
    assert world.send.state(deleted_secrets=False) == expected


def test_destroy_without_a_journal_leaves_the_rules_and_says_so() -> None:
    stranger = World(applied().send.copy())
    plan = stranger.destroy(DEFAULT)
    assert set(left(plan)) >= {f"rule:{rule.prefix}" for rule in STANDARD_RULES}
    assert len(stranger.send.ecr.rules) == 5
    assert stranger.send.ecr.templates == {}


def test_what_was_destroyed_and_made_by_somebody_else_is_not_taken_for_ours() -> None:
    world = applied()
    world.send.ecr.rules.clear()
    world.apply(without(DEFAULT, "quay"))  # and the journal is told that it is gone
    world.send.add_rule("quay", "quay.io")
    world.destroy(DEFAULT)
    assert set(world.send.ecr.rules) == {"quay"}


def test_a_replacement_that_was_refused_leaves_the_rule_whose_it_was() -> None:
    world = World(FakeAws())
    world.send.add_rule("quay", "public.ecr.aws")
    world.send.denied = {"ecr:DeletePullThroughCacheRule"}
    with pytest.raises(Exception, match="apply stopped"):
        world.apply(DEFAULT, replace=True)
    world.send.heal()
    world.destroy(DEFAULT)
    assert set(world.send.ecr.rules) == {"quay"}


# The engine's own file


def engine(*, quay: str = "quay.io") -> World:
    fake = FakeAws(is_engine=True)
    fake.add_rule("docker-hub", HUB, in_file=True)
    fake.add_rule("quay", quay, in_file=True)
    fake.add_rule("extra", "registry.example.org", in_file=True)
    return World(fake)


def test_an_equal_rule_of_the_engines_file_counts_as_done_with_its_account() -> None:
    world = engine()
    plan = world.apply(DEFAULT)
    assert plan.problems == ()
    assert [entry for entry in ids(plan) if "rule" in entry or "secret" in entry] == [
        f"+ secret:{GITHUB_SECRET}",
        "+ rule:github",
        "+ rule:kubernetes",
        "+ rule:ecr-public",
    ]
    assert left(plan)["rule:docker-hub"] == "is in the engine's own file, as declared"
    assert left(plan)["rule:extra"] == "is in the engine's own file"
    assert any("the engine's own file has the account of docker-hub" in note for note in plan.notes)
    assert world.apply(DEFAULT).is_empty


def test_another_rule_of_the_engines_file_is_a_problem_that_names_file_and_key() -> None:
    problem = only_problem(engine(quay="registry.example.org").plan(DEFAULT))
    assert "engine's own pullthrough.toml" in problem
    assert "change [rules.quay] upstream there" in problem
    assert "registry.example.org, not quay.io" in problem


def test_destroy_leaves_the_rules_of_the_engines_file_with_a_note() -> None:
    world = engine()
    world.apply(DEFAULT)
    plan = world.destroy(DEFAULT, include_adopted=True)
    assert set(world.send.ecr.rules) == {"docker-hub", "quay", "extra"}
    assert left(plan)["rule:quay"] == "is in the engine's own file; remove it there"


def test_an_engine_is_asked_nothing_of_iam() -> None:
    world = World(FakeAws(is_engine=True))
    plan = world.apply(FULL)
    assert not {call.service for call in world.send.calls} - {"ecr", "secretsmanager"}
    assert any(NODE_ROLE in text for text in plan.not_applicable)
    assert any("pullthrough-pullthrough-template" in text for text in plan.not_applicable)
    assert world.apply(FULL).is_empty


# The registry's documents


def test_scanning_of_our_prefixes_comes_and_goes_and_the_others_stays() -> None:
    theirs = {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "quay/*", "filterType": "WILDCARD"}]}
    fake = FakeAws()
    fake.ecr.scanning["rules"] = [theirs]
    world = World(fake)
    scanned = replace(DEFAULT, scan_frequency=ScanFrequency.ON_PUSH)
    world.apply(scanned)
    filters = [entry["filter"] for entry in fake.ecr.scanning["rules"][0]["repositoryFilters"]]
    assert filters == ["quay/*", "docker-hub/*", "ecr-public/*", "github/*", "kubernetes/*"]
    world.apply(DEFAULT)
    assert fake.ecr.scanning["rules"] == [theirs]


def test_a_filter_that_somebody_made_after_ours_was_gone_stays() -> None:
    world = applied(replace(DEFAULT, scan_frequency=ScanFrequency.ON_PUSH))
    world.apply(DEFAULT)
    theirs = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": []}]
    world.send.ecr.scanning["rules"] = theirs
    world.apply(replace(DEFAULT, scan_frequency=ScanFrequency.ON_PUSH))
    world.apply(DEFAULT)
    assert world.send.ecr.scanning["rules"] == theirs


def test_continuous_scanning_with_the_basic_scanner_is_a_problem() -> None:
    world = World(FakeAws())
    continuous = replace(DEFAULT, scan_frequency=ScanFrequency.CONTINUOUS)
    assert "wants the enhanced one" in only_problem(world.plan(continuous))
    world.send.ecr.scanning["scanType"] = "ENHANCED"
    world.apply(continuous)
    assert world.send.ecr.scanning["scanType"] == "ENHANCED"
    assert world.apply(continuous).is_empty
