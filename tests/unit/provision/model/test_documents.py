"""Policy documents: what each lets whom do."""

from __future__ import annotations

import json

import pytest

from pullthrough.declaration import ROOT, Template
from pullthrough.provision.model import documents
from pullthrough.provision.model.target import DeploymentTarget
from tests.deployments import KMS_KEY, OTHER_ACCOUNT
from tests.fakes.aws_model import operation_model

TARGET = DeploymentTarget("123456789012", "eu-central-1")
ARN = "arn:aws:ecr:eu-central-1:123456789012:repository"


def test_nodes_may_read_and_fill_under_the_prefixes_and_no_more() -> None:
    login, cache = documents.node_policy(TARGET, ["quay", "a/b"], [])["Statement"]
    assert (login["Action"], login["Resource"]) == ("ecr:GetAuthorizationToken", "*")
    assert cache["Action"] == [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:CreateRepository",
        "ecr:GetDownloadUrlForLayer",
    ]
    assert cache["Resource"] == [f"{ARN}/a/b/*", f"{ARN}/quay/*"]


def test_nodes_may_tag_where_templates_have_tags() -> None:
    policy = documents.node_policy(TARGET, ["quay"], [Template(), Template(resource_tags={"a": "b"})])
    assert "ecr:TagResource" in policy["Statement"][1]["Action"]


def test_root_is_every_repository() -> None:
    assert documents.repository_arns(TARGET, ["quay", ROOT]) == [f"{ARN}/*"]


def test_other_accounts_fill_by_the_registrys_policy_and_read_by_the_repositorys() -> None:
    accounts, organization = documents.registry_statements(TARGET, "my-own", [OTHER_ACCOUNT], "o-1", ["quay"])
    assert accounts == {
        "Sid": "PullthroughAccountsOfmyZown",
        "Effect": "Allow",
        "Principal": {"AWS": [f"arn:aws:iam::{OTHER_ACCOUNT}:root"]},
        "Action": ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"],
        "Resource": [f"{ARN}/quay/*"],
    }
    assert organization["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}
    policy = documents.repository_policy(TARGET, [OTHER_ACCOUNT], "")
    assert policy is not None
    assert set(policy["Statement"][0]["Action"]) == set(documents.READ_ACTIONS)
    assert documents.repository_policy(TARGET, [], "") is None
    assert documents.registry_statements(TARGET, "a", [], "", ["quay"]) == []


def test_a_statement_is_told_by_its_declaration() -> None:
    for statement in documents.registry_statements(TARGET, "my-own", [OTHER_ACCOUNT], "o-1", ["quay"]):
        assert statement["Sid"].isalnum()
        assert documents.is_our_sid(statement["Sid"], "my-own")
        assert not documents.is_our_sid(statement["Sid"], "my")
        assert not documents.is_our_sid(statement["Sid"], "my-other")
    assert not documents.is_our_sid(None, "my-own")


@pytest.mark.parametrize(
    ("keys", "resource"), [([KMS_KEY, ""], [KMS_KEY]), ([""], ["arn:aws:kms:eu-central-1:123456789012:key/*"])]
)
def test_the_template_role_may_use_the_keys_of_its_templates(keys: list[str], resource: list[str]) -> None:
    create, encrypt = documents.template_role_policy(TARGET, ["quay"], keys, kms=True)["Statement"]
    assert create["Resource"] == [f"{ARN}/quay/*"]
    assert encrypt["Resource"] == resource
    assert len(documents.template_role_policy(TARGET, ["quay"], [], kms=False)["Statement"]) == 1


def test_every_action_of_the_operator_is_one_that_aws_has() -> None:
    beside = {"iam:PassRole", "ecr:BatchImportUpstreamImage"}
    for actions in documents.OPERATOR_ACTIONS.values():
        for action in set(actions) - beside:
            assert operation_model(*action.split(":"))


def test_the_operators_policy_fits_into_what_iam_takes_and_names_its_roles() -> None:
    policy = documents.operator_policy(TARGET, "pullthrough", ["nodes"])
    assert len(json.dumps(policy, separators=(",", ":"))) < 6144
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert {
        "arn:aws:iam::123456789012:role/pullthrough-pullthrough-template",
        "arn:aws:iam::123456789012:role/nodes",
    } <= set(statements["Roles"]["Resource"])
    every = {action for actions in documents.OPERATOR_ACTIONS.values() for action in actions}
    named = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert named == every | {"iam:CreateServiceLinkedRole"}


def test_the_operator_may_pass_the_roles_that_are_given_and_no_others() -> None:
    given = "arn:aws:iam::123456789012:role/given"
    statements = documents.operator_policy(TARGET, "pullthrough", passed_roles=[given])["Statement"]
    (passing,) = (statement for statement in statements if statement["Sid"] == "GivenRoles")
    assert (passing["Action"], passing["Resource"]) == ("iam:PassRole", [given])
    assert "GivenRoles" not in str(documents.operator_policy(TARGET, "pullthrough"))
