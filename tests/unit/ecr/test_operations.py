"""The table of operations, held against the services' models."""

from __future__ import annotations

import pytest

from pullthrough.faces.ecr.wire.models import SERVICES, service_model
from tests.unit.ecr.shapes import handlers


def test_every_operation_of_ecr_has_a_handler() -> None:
    assert set(handlers()["ecr"]) == service_model("ecr").operation_names


@pytest.mark.parametrize("service", SERVICES)
def test_no_handler_is_for_an_operation_that_aws_does_not_have(service: str) -> None:
    assert set(handlers()[service]) <= service_model(service).operation_names


def test_what_terraform_boto3_and_the_aws_cli_need_beside_ecr_is_there() -> None:
    assert set(handlers()["sts"]) == {"GetCallerIdentity"}
    assert set(handlers()["secretsmanager"]) >= {
        "BatchGetSecretValue",
        "CreateSecret",
        "DeleteResourcePolicy",
        "DeleteSecret",
        "DescribeSecret",
        "GetResourcePolicy",
        "GetSecretValue",
        "ListSecretVersionIds",
        "ListSecrets",
        "PutResourcePolicy",
        "PutSecretValue",
        "RestoreSecret",
        "TagResource",
        "UntagResource",
        "UpdateSecret",
        "UpdateSecretVersionStage",
    }
