"""What policies are asked about, for each operation's input."""

from __future__ import annotations

from typing import Any

import pytest

from pullthrough.access.policy.context import RequestTags
from pullthrough.faces.ecr.calls import RegistryIdentity, check_registry, registry_identity
from pullthrough.faces.ecr.resources import request_tags_of, resources_of, secret_arn
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.models import service_model
from pullthrough.settings import EcrSettings, ListenAddress
from tests.unit.ecr.shapes import offered

REGISTRY = RegistryIdentity("123456789012", "eu-west-1", "127.0.0.1:5000", "http")
ARN = "arn:aws:ecr:eu-west-1:123456789012:repository/"


def asked(service: str, operation: str, input: dict[str, Any]) -> list[tuple[str, str | None]]:
    found = resources_of(service_model(service).operation(operation), input, REGISTRY)
    return [(resource.arn, resource.repository) for resource in found]


@pytest.mark.parametrize(
    ("operation", "input", "resources"),
    [
        ("DescribeImages", {"repositoryName": "team/app"}, [(ARN + "team/app", "team/app")]),
        ("DescribeRepositories", {"repositoryNames": ["aa", "bb"]}, [(ARN + "aa", "aa"), (ARN + "bb", "bb")]),
        ("DescribeRepositories", {}, [(ARN + "*", None)]),
        ("TagResource", {"resourceArn": ARN + "aa", "tags": []}, [(ARN + "aa", "aa")]),
        # There is one registry, however its partition is spelled.
        ("TagResource", {"resourceArn": ARN.replace("aws", "aws-cn", 1) + "aa", "tags": []}, [(ARN + "aa", "aa")]),
        ("TagResource", {"resourceArn": "arn:aws:s3:::b", "tags": []}, [("arn:aws:s3:::b", None)]),
        ("DescribeRegistry", {}, [("*", None)]),
        ("CreatePullThroughCacheRule", {"ecrRepositoryPrefix": "quay"}, [("*", None)]),
        ("CreateRepository", {"repositoryName": "a" * 256}, [(ARN + "a" * 256, None)]),
    ],
)
def test_resources_of_the_registry(operation: str, input: dict[str, Any], resources: list[Any]) -> None:
    assert asked("ecr", operation, input) == resources


@pytest.mark.parametrize(
    ("operation", "input", "resources"),
    [
        ("CreateSecret", {"Name": "a/b"}, ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/b-??????"]),
        ("ListSecrets", {}, ["*"]),
        ("ValidateResourcePolicy", {"ResourcePolicy": "{}"}, ["*"]),
        # Its handler asks: the secret's own policy has a say.
        ("GetSecretValue", {"SecretId": "a"}, []),
    ],
)
def test_secrets(operation: str, input: dict[str, Any], resources: list[str]) -> None:
    assert asked("secretsmanager", operation, input) == [(arn, None) for arn in resources]


def test_resources_of_secrets() -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
    assert asked("secretsmanager", "CreateSecret", {"Name": "a"}) == [(arn + "a-??????", None)]
    assert asked("secretsmanager", "ListSecrets", {}) == [("*", None)]
    assert asked("secretsmanager", "GetSecretValue", {"SecretId": "a"}) == [], "its handler asks"
    assert secret_arn(arn + "a-b", REGISTRY) == arn + "a-b"


def test_what_is_made_has_the_tags_that_it_is_given() -> None:
    tags = [{"Key": "team", "Value": "a"}]
    for service, operation, input in (
        ("ecr", "CreateRepository", {"repositoryName": "aa", "tags": tags}),
        ("secretsmanager", "CreateSecret", {"Name": "aa", "Tags": tags}),
    ):
        (resource,) = resources_of(service_model(service).operation(operation), input, REGISTRY)
        assert resource.tags == (("team", "a"),)
    asked_for = {"resourceArn": ARN + "aa", "tags": tags}
    (resource,) = resources_of(service_model("ecr").operation("TagResource"), asked_for, REGISTRY)
    assert resource.tags is None, "it has those that it had"


def test_the_tags_of_every_input_are_found() -> None:
    """Whatever member of whatever operation holds tags, or keys of tags."""
    tags = [{"Key": "team", "Value": "a"}, {"Key": "Team", "Value": "b"}]
    found: dict[str, RequestTags] = {}
    for operation in offered():
        for name, member in operation.input.members.items():
            item = member.item
            if item is not None and item.name == "Tag":
                found[f"{operation.service}:{operation.name}"] = request_tags_of({name: tags})
            elif item is not None and item.name in ("TagKey", "TagKeyType"):
                found[f"{operation.service}:{operation.name}"] = request_tags_of({name: ["team"]})
    given = RequestTags((("team", "a"), ("Team", "b")))
    assert found == {
        "ecr:CreateRepository": given,
        "ecr:TagResource": given,
        "ecr:CreateRepositoryCreationTemplate": given,
        "ecr:UpdateRepositoryCreationTemplate": given,
        "ecr:UntagResource": RequestTags(taken=("team",)),
        "secretsmanager:CreateSecret": given,
        "secretsmanager:TagResource": given,
        "secretsmanager:UntagResource": RequestTags(taken=("team",)),
    }


def test_the_identity_gives_names_that_clients_can_use() -> None:
    assert REGISTRY.endpoint == "http://127.0.0.1:5000"
    assert REGISTRY.repository_uri("a/b") == "127.0.0.1:5000/a/b"
    assert REGISTRY.repository_arn("a/b") == ARN + "a/b"


@pytest.mark.parametrize(
    ("host", "listen", "tls", "endpoint"),
    [
        ("", ("127.0.0.1", 5000), False, "http://127.0.0.1:5000"),
        ("", ("::1", 5000), True, "https://[::1]:5000"),
        ("", ("0.0.0.0", 80), False, "http://localhost:80"),
        ("", ("::", 5000), False, "http://localhost:5000"),
        ("{account}.dkr.ecr.{region}.localhost:5000", ("::", 1), False, "http://{}.localhost:5000"),
        ("{account}.dkr.ecr.{region}.amazonaws.com", ("::", 1), False, "https://{}.amazonaws.com"),
        ("registry.example.com:8443", ("::", 1), True, "https://registry.example.com:8443"),
    ],
)
def test_the_name_is_the_settings_or_the_listeners(
    host: str, listen: tuple[str, int], tls: bool, endpoint: str
) -> None:
    settings = EcrSettings(account="123456789012", region="eu-west-1", registry_host=host)
    found = registry_identity(settings, ListenAddress(*listen), has_tls=tls)
    assert found.endpoint == endpoint.format("123456789012.dkr.ecr.eu-west-1")
    assert (found.account, found.region) == ("123456789012", "eu-west-1")


def test_one_engine_is_one_registry() -> None:
    check_registry(REGISTRY, {"registryId": "123456789012"}, knows_repositories=True)
    check_registry(REGISTRY, {"registryIds": ["123456789012"]}, knows_repositories=False)
    other = {"registryId": "210987654321", "repositoryName": "app"}
    with pytest.raises(ApiError, match="'app' does not exist in the registry with id '210987654321'") as raised:
        check_registry(REGISTRY, other, knows_repositories=True)
    assert raised.value.code == "RepositoryNotFoundException"
    for input in (other, {"registryIds": ["123456789012", "210987654321"]}):
        with pytest.raises(ApiError, match="the registry 123456789012 only") as raised:
            check_registry(REGISTRY, input, knows_repositories=False)
        assert raised.value.code == "InvalidParameterException"
