"""From a declaration to what it wants: what is refused before anything is asked, and what the target has no place for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import (
    ROOT,
    STANDARD_RULES,
    CredentialSource,
    Declaration,
    NodeAccess,
    Rule,
    ScanFrequency,
    Template,
)
from pullthrough.errors import PlanProblem
from pullthrough.provision.model.desired import build_desired, marked_by, template_description
from pullthrough.provision.model.resources import Desired, Json, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from tests.deployments import DEFAULT, ECR_HOST, FULL, HUB, OTHER_ACCOUNT, World
from tests.fakes.aws import ACCOUNT, REGION, FakeAws

AWS, ENGINE = World(FakeAws()), World(FakeAws(is_engine=True))


def desired(declaration: Declaration, world: World = AWS) -> Desired:
    return build_desired(declaration, world.accounts(declaration), world.fingerprints, world.target)


def problems(*rules: Rule, world: World = AWS, **more: Any) -> str:
    with pytest.raises(PlanProblem) as caught:
        desired(Declaration(rules=rules, **more), world)
    return caught.value.message


def attributes(found: Desired, kind: ResourceKind, name: str) -> dict[str, Json]:
    resource = found.get(Key(kind, name))
    assert resource is not None
    return dict(resource.attributes)


@pytest.mark.parametrize(
    "prefix",
    [
        "a",
        "A",
        "docker_hub_",
        "-a",
        "a--",
        "a..b",
        "a//b",
        "a/",
        "/a",
        "a" * 31,
        "ä1",
        "a b",
        "root",
        "a.-b",
        "a___b",
        "",
    ],
)
def test_a_prefix_that_breaks_the_grammar_is_refused(prefix: str) -> None:
    if prefix == "root":
        desired(Declaration(rules=(Rule(prefix, "quay.io"),)))  # a name as others are
        return
    for world in (AWS, ENGINE):
        assert "breaks ECR's grammar" in problems(Rule(prefix, "quay.io"), world=world)


@pytest.mark.parametrize("prefix", ["ab", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b", "1/2/3", ROOT, "a" * 30])
def test_a_prefix_of_the_grammar_is_taken(prefix: str) -> None:
    assert desired(Declaration(rules=(Rule(prefix, "quay.io"),))).get(Key(ResourceKind.RULE, prefix))


def test_two_rules_of_one_prefix_are_refused() -> None:
    assert "two rules have the prefix quay" in problems(Rule("quay", "quay.io"), Rule("quay", "public.ecr.aws"))


def test_prefixes_that_overlap_are_refused_by_aws_only() -> None:
    rules = (Rule("team", "quay.io"), Rule("team/app", "quay.io"), Rule("team-b", "quay.io"))
    assert "the prefixes team and team/app overlap" in problems(*rules)
    desired(Declaration(rules=rules), ENGINE)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("own", "registry.example.org"), "is none of those that AWS's pull-through cache takes"),
        (Rule("hub", HUB, anonymous=True), "is anonymous, and AWS takes no rule for registry-1.docker.io without"),
        (
            Rule("quay", "quay.io", credential=CredentialSource("u", access_token_env="T")),
            "AWS pulls from quay.io without one only",
        ),
        (Rule("quay", "quay.io", custom_role_arn="arn"), "has a custom_role_arn"),
        (Rule("quay", "quay.io", upstream_repository_prefix="a"), "has an upstream_repository_prefix"),
    ],
)
def test_what_only_an_engine_takes_is_refused_on_aws_with_the_reason(rule: Rule, words: str) -> None:
    assert words in problems(rule)
    desired(Declaration(rules=(rule,)), ENGINE)


def test_root_has_no_prefix_upstream() -> None:
    rule = Rule(ROOT, ECR_HOST, upstream_repository_prefix="a")
    for world in (AWS, ENGINE):
        assert "the rule ROOT has an upstream_repository_prefix" in problems(rule, world=world)


def test_all_problems_are_told_at_once() -> None:
    message = problems(Rule("A", "quay.io"), Rule("own", "registry.example.org"), Rule("hub", HUB, anonymous=True))
    assert message.startswith("3 problems:\n  - the prefix 'A'")


def test_the_same_declaration_wants_the_same_on_aws_and_on_an_engine() -> None:
    on_aws, on_engine = desired(DEFAULT), desired(DEFAULT, ENGINE)
    assert on_aws.resources == on_engine.resources
    assert on_engine.notes == ()
    assert "by digest AWS can not" in on_aws.notes[0]


def test_a_default_template_needs_neither_tags_nor_keys_nor_a_role() -> None:
    assert attributes(desired(DEFAULT), ResourceKind.TEMPLATE, "quay") == {
        "description": "Repositories that pulls through quay create; managed by pullthrough (pullthrough)",
        "appliedFor": ["PULL_THROUGH_CACHE"],
        "imageTagMutability": "MUTABLE",
        "imageTagMutabilityExclusionFilters": [],
        "encryptionType": "AES256",
        "kmsKey": "",
        "lifecyclePolicy": {
            "rules": [
                {
                    "rulePriority": 1,
                    "description": "Keep the newest 200 tagged images",
                    "selection": {
                        "tagStatus": "tagged",
                        "tagPatternList": ["*"],
                        "countType": "imageCountMoreThan",
                        "countNumber": 200,
                    },
                    "action": {"type": "expire"},
                }
            ]
        },
        "repositoryPolicy": None,
        "resourceTags": {},
        "customRoleArn": "",
    }
    assert {resource.key.kind for resource in desired(DEFAULT).resources} == {
        ResourceKind.SECRET,
        ResourceKind.RULE,
        ResourceKind.TEMPLATE,
    }


def test_keeping_all_images_makes_no_lifecycle_policy_and_no_note() -> None:
    keep = {rule.prefix: Template(keep_images=None) for rule in STANDARD_RULES}
    found = desired(replace(DEFAULT, templates=keep))
    assert attributes(found, ResourceKind.TEMPLATE, "quay")["lifecyclePolicy"] is None
    assert found.notes == ()


def test_policies_of_ones_own_are_read_from_their_files(tmp_path: Path) -> None:
    lifecycle: dict[str, Json] = {"rules": []}
    policy: dict[str, Json] = {"Statement": [{"Sid": "Mine"}]}
    (tmp_path / "lifecycle.json").write_text(json.dumps(lifecycle))
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    template = Template(
        lifecycle_policy_file=tmp_path / "lifecycle.json",
        repository_policy_file=tmp_path / "policy.json",
        pull_accounts=(OTHER_ACCOUNT,),
    )
    found = attributes(desired(replace(DEFAULT, templates={"quay": template})), ResourceKind.TEMPLATE, "quay")
    assert (found["lifecyclePolicy"], found["repositoryPolicy"]) == (lifecycle, policy)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        (json.dumps({"a": "x" * 31_000}), "more than 30,720 characters"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff", "is not JSON"),
    ],
)
def test_a_policy_file_that_is_none_is_a_problem(content: str | bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "lifecycle.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    template = Template(lifecycle_policy_file=path)
    message = problems(Rule("quay", "quay.io"), templates={"quay": template})
    assert words in message
    assert str(path) in message


def test_a_role_is_made_for_templates_that_need_one_and_have_none() -> None:
    found = desired(FULL)
    arn = f"arn:aws:iam::{ACCOUNT}:role/pullthrough-pullthrough-template"
    assert attributes(found, ResourceKind.TEMPLATE, "docker-hub")["customRoleArn"] == arn
    assert attributes(found, ResourceKind.TEMPLATE, "quay")["customRoleArn"] == ""
    template = found.get(Key(ResourceKind.TEMPLATE, "docker-hub"))
    assert template is not None
    assert template.needs == (Key(ResourceKind.ROLE, "pullthrough-pullthrough-template"),)
    given = Template(resource_tags={"a": "b"}, role_arn="arn:aws:iam::1:role/mine")
    found = desired(replace(DEFAULT, templates={"quay": given}))
    assert found.of(ResourceKind.ROLE) == ()
    assert attributes(found, ResourceKind.TEMPLATE, "quay")["customRoleArn"] == "arn:aws:iam::1:role/mine"


def test_what_an_engine_has_no_place_for_is_listed() -> None:
    found = desired(replace(FULL, access=replace(FULL.access, vpc="vpc-1")), ENGINE)
    assert [text.partition(":")[0] for text in found.not_applicable] == [
        "the role pullthrough-pullthrough-template",
        "the rights of the role nodes",
        "the endpoints of vpc-1",
    ]
    assert not found.of(ResourceKind.ROLE)
    assert not found.of(ResourceKind.NODE_ACCESS)


@pytest.mark.parametrize(
    ("prefixes", "filters"),
    [
        (["quay", "hub"], ["hub/*", "quay/*"]),
        (["quay", ROOT], ["*"]),
        (["a__b"], ["a_*b/*"]),
        (["a---b/c"], ["a-*b/c/*"]),
    ],
)
def test_scanning_filters_are_in_their_own_grammar(prefixes: Iterable[str], filters: list[str]) -> None:
    rules = tuple(Rule(prefix, "quay.io") for prefix in prefixes)
    found = desired(Declaration(rules=rules, scan_frequency=ScanFrequency.ON_PUSH))
    (scanning,) = found.of(ResourceKind.SCANNING)
    assert scanning.attributes == {"filters": [f"SCAN_ON_PUSH {text}" for text in filters]}


def test_without_rules_nothing_of_the_registry_is_wanted() -> None:
    declaration = Declaration(access=NodeAccess(pull_accounts=(OTHER_ACCOUNT,)), scan_frequency=ScanFrequency.ON_PUSH)
    assert desired(declaration).resources == ()


def test_rules_of_one_upstream_may_share_a_secret() -> None:
    rules = (
        Rule("a1", HUB, secret_name="ecr-pullthroughcache/x"),
        Rule("a2", HUB, secret_name="ecr-pullthroughcache/x"),
    )
    found = desired(Declaration(rules=rules))
    assert len(found.of(ResourceKind.SECRET)) == 1
    assert {rule.needs for rule in found.of(ResourceKind.RULE)} == {
        (Key(ResourceKind.SECRET, "ecr-pullthroughcache/x"),)
    }


def test_arns_are_of_the_targets_partition() -> None:
    target = DeploymentTarget(ACCOUNT, "eusc-de-east-1")
    found = build_desired(FULL, AWS.accounts(FULL), AWS.fingerprints, target)
    text = json.dumps([resource.attributes["policy"] for resource in found.of(ResourceKind.NODE_ACCESS)])
    assert "arn:aws-eusc:ecr:eusc-de-east-1" in text
    assert REGION not in text


@pytest.mark.parametrize("name", ["a", "pullthrough", "my-own-1"])
def test_a_templates_mark_is_read_from_its_description(name: str) -> None:
    assert marked_by(template_description("quay", name)) == name
    assert marked_by(f"{template_description('quay', name)}.") == ""
    assert marked_by("") == ""


def test_without_rules_nodes_are_given_nothing() -> None:
    declaration = Declaration(access=NodeAccess(node_roles=("nodes",)))
    assert desired(declaration).resources == ()
