"""Documents that hang on a repository or on the registry: lifecycle, repository and registry policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, answer, fails_with

_TOGETHER = pytest.mark.moto_trap("lifecycle-rules")
LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "description": "keep ten",
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10},
                "action": {"type": "expire"},
            }
        ]
    }
)
REPOSITORY_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "pull",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            }
        ],
    }
)


def registry_policy(*actions: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "others",
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"},
                    "Action": list(actions),
                    "Resource": [f"arn:aws:ecr:us-east-1:{ACCOUNT_ID}:repository/*"],
                }
            ],
        }
    )


@pytest.fixture
def registry(ecr: Any) -> Iterator[Any]:
    """The registry, without a policy after the test."""
    yield ecr
    try:
        ecr.delete_registry_policy()
    except ecr.exceptions.RegistryPolicyNotFoundException:
        pass


def test_lifecycle_policy_is_put_got_and_deleted(ecr: Any, repository: str) -> None:
    expected = {"registryId": ACCOUNT_ID, "repositoryName": repository, "lifecyclePolicyText": LIFECYCLE}
    assert answer(ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=LIFECYCLE)) == expected
    assert expected.items() <= ecr.get_lifecycle_policy(repositoryName=repository).items()
    assert expected.items() <= ecr.delete_lifecycle_policy(repositoryName=repository).items()
    said = (
        f"Lifecycle policy does not exist for the repository with name '{repository}' "
        f"in the registry with id '{ACCOUNT_ID}'"
    )
    with fails_with("LifecyclePolicyNotFoundException", said):
        ecr.get_lifecycle_policy(repositoryName=repository)
    with fails_with("LifecyclePolicyNotFoundException", said):
        ecr.delete_lifecycle_policy(repositoryName=repository)


def _rule(**more: Any) -> dict[str, Any]:
    rule = {
        "rulePriority": 1,
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
        "action": {"type": "expire"},
    }
    return rule | more


def _selecting(**more: Any) -> dict[str, Any]:
    return {
        "rules": [_rule(selection={"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1} | more)]
    }


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(_selecting(tagStatus="some"), id="unknown tag status"),
        pytest.param(_selecting(countType="size"), id="unknown count type"),
        pytest.param(_selecting(countNumber=0), id="number 0"),
        pytest.param({"rules": [_rule(action={"type": "sell"})]}, id="unknown action"),
        pytest.param({"rules": [_rule(unknown=1)]}, id="unknown member"),
        pytest.param({"rules": [{"rulePriority": 1, "action": {"type": "expire"}}]}, id="no selection"),
        pytest.param({"rules": [1]}, id="rule is no object"),
        pytest.param({"rules": []}, id="no rules", marks=_TOGETHER),
        pytest.param({"rules": [_rule(rulePriority=0)]}, id="priority 0", marks=_TOGETHER),
        pytest.param({"rules": [_rule(), _rule()]}, id="priority twice", marks=_TOGETHER),
        pytest.param(_selecting(tagStatus="tagged"), id="tagged without a list", marks=_TOGETHER),
        pytest.param(_selecting(countType="sinceImagePushed"), id="since without a unit", marks=_TOGETHER),
        pytest.param({"rules": [_rule(), _rule(rulePriority=2)]}, id="any twice", marks=_TOGETHER),
    ],
)
def test_bad_lifecycle_policy_is_refused(ecr: Any, repository: str, wrong: dict[str, Any]) -> None:
    with fails_with("InvalidParameterException", "Lifecycle policy validation failure"):
        ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=json.dumps(wrong).ljust(100))
    with fails_with("LifecyclePolicyNotFoundException"):
        ecr.get_lifecycle_policy(repositoryName=repository)


@pytest.mark.moto_trap("lifecycle-grammar")
def test_images_may_be_archived_by_their_last_pull(ecr: Any, repository: str) -> None:
    selection = {"tagStatus": "any", "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 90}
    action = {"type": "transition", "targetStorageClass": "archive"}
    text = json.dumps({"rules": [_rule(selection=selection, action=action)]})
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=text)
    assert ecr.get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"] == text


def test_repository_policy_is_set_got_and_deleted(ecr: Any, repository: str) -> None:
    expected = {"registryId": ACCOUNT_ID, "repositoryName": repository}
    put = answer(ecr.set_repository_policy(repositoryName=repository, policyText=REPOSITORY_POLICY))
    assert expected.items() <= put.items()
    got = answer(ecr.get_repository_policy(repositoryName=repository))
    assert expected.items() <= got.items()
    assert json.loads(got["policyText"]) == json.loads(REPOSITORY_POLICY)
    deleted = answer(ecr.delete_repository_policy(repositoryName=repository))
    assert json.loads(deleted["policyText"]) == json.loads(REPOSITORY_POLICY)
    said = (
        f"Repository policy does not exist for the repository with name '{repository}' "
        f"in the registry with id '{ACCOUNT_ID}'"
    )
    with fails_with("RepositoryPolicyNotFoundException", said):
        ecr.get_repository_policy(repositoryName=repository)
    with fails_with("RepositoryPolicyNotFoundException", said):
        ecr.delete_repository_policy(repositoryName=repository)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"Version": "2012-10-17", "Statement": [{"Effect": "Maybe"}]}', "no json"],
    ids=["empty", "unknown effect", "no JSON"],
)
def test_bad_repository_policy_is_refused(ecr: Any, repository: str, text: str) -> None:
    with fails_with("InvalidParameterException", "Invalid repository policy provided"):
        ecr.set_repository_policy(repositoryName=repository, policyText=text)


def test_registry_policy_is_put_got_and_deleted(registry: Any) -> None:
    text = registry_policy("ecr:ReplicateImage", "ecr:CreateRepository")
    put = answer(registry.put_registry_policy(policyText=text))
    assert put["registryId"] == ACCOUNT_ID
    got = answer(registry.get_registry_policy())
    assert got["registryId"] == ACCOUNT_ID
    assert json.loads(got["policyText"]) == json.loads(text)
    assert json.loads(registry.delete_registry_policy()["policyText"]) == json.loads(text)
    with fails_with("RegistryPolicyNotFoundException", f"does not exist in the registry with id '{ACCOUNT_ID}'"):
        registry.get_registry_policy()
    with fails_with("RegistryPolicyNotFoundException"):
        registry.delete_registry_policy()


@pytest.mark.moto_trap("registry-policy-actions")
def test_registry_policy_may_let_others_import(registry: Any) -> None:
    registry.put_registry_policy(policyText=registry_policy("ecr:BatchImportUpstreamImage", "ecr:CreateRepository"))
    assert "ecr:BatchImportUpstreamImage" in registry.get_registry_policy()["policyText"]


def test_bad_registry_policy_is_refused(registry: Any) -> None:
    with fails_with("InvalidParameterException", "Invalid registry policy provided"):
        registry.put_registry_policy(policyText='{"Version": "2012-10-17", "Statement": [{"Effect": "Maybe"}]}')
