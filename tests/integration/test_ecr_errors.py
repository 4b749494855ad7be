"""The errors that the service models document, made from the models themselves for each operation.

What is particular to an operation stands in the module about its noun. `NEVER` has those that cannot come up here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

from tests.aws import fails_with, unique
from tests.integration.ecr import Site
from tests.programs import ROOT

MODELS = {
    service: ServiceModel(Loader().load_service_model(service, "service-2"), service)
    for service in ("ecr", "secretsmanager")
}
OPERATIONS = [(service, name) for service, model in MODELS.items() for name in model.operation_names]
#: Errors of the models that no request gets, and why.
NEVER = {
    "BlockedByOrganizationPolicyException": "there are no organizations",
    "ImageArchivedException": "only scans end in it, and nothing is scanned",
    "KmsException": "keys of KMS are recorded, not used",
    "LayerPartTooSmallException": "parts of any size are taken",
    "PreconditionNotMetException": "there are no partners that hold secrets",
    "ReplicationBackfillInProgressException": "nothing is replicated",
    "ReplicationBackfillInvalidStatusException": "nothing is replicated",
    "UnableToAccessSecretException": "a secret is there, or not found",
    "UnsupportedImageTypeException": "nothing is scanned",
}
#: What operations about a secret need beside its id.
BESIDE_THE_SECRET: Mapping[str, Any] = {
    "AddReplicaRegions": [{"Region": "eu-west-1"}],
    "CrossAccountReplicaARN": "arn:aws:secretsmanager:eu-west-1:000000000001:secret:replica-AbCdEf",
    "RemoveReplicaRegions": ["eu-west-1"],
    "ResourcePolicy": json.dumps({"Version": "2012-10-17", "Statement": []}),
    "TagKeys": ["a"],
    "Tags": [{"Key": "a", "Value": "b"}],
    "VersionStage": "blue",
}


@pytest.fixture(scope="module")
def clients(site: Site) -> Mapping[str, Any]:
    """They send what the SDK itself would refuse."""
    return {service: site.client(service, validate=False) for service in MODELS}


def errors(operation: OperationModel) -> set[str]:
    return {shape.error_code for shape in operation.error_shapes}


def broken_inputs(operation: OperationModel) -> Iterator[dict[str, Any]]:
    """Each breaks the model in one way: nothing of what must be there, then one bound after the other."""
    shape = operation.input_shape
    if shape is None:
        return
    if shape.required_members:
        yield {}
    for name, member in shape.members.items():
        for value in _broken_values(member):
            yield {name: value}


def _broken_values(shape: Shape) -> Iterator[Any]:
    """Of the right type, but out of bounds."""
    facts = shape.metadata
    match shape.type_name:
        case "string" if "enum" in facts or "pattern" in facts:
            yield "\n"
        case "integer" | "long" if "min" in facts:
            yield facts["min"] - 1
            if "max" in facts:
                yield facts["max"] + 1
        case "list" if facts.get("min"):
            yield []


def test_what_a_model_does_not_allow_is_an_invalid_parameter(clients: Mapping[str, Any]) -> None:
    tried = set()
    for service, name in OPERATIONS:
        for input in broken_inputs(MODELS[service].operation_model(name)):
            with fails_with("InvalidParameterException", "failed to satisfy constraint"):
                getattr(clients[service], xform_name(name))(**input)
            tried.add((service, name))
    # These have no input, or one without bounds.
    assert {name for service, name in set(OPERATIONS) - tried} == {
        "DeleteRegistryPolicy",
        "DeleteSigningConfiguration",
        "DescribeRegistry",
        "GetRegistryPolicy",
        "GetRegistryScanningConfiguration",
        "GetSigningConfiguration",
    }


def test_a_secret_that_is_not_there_is_not_found(clients: Mapping[str, Any]) -> None:
    """But for ListResourcePolicies, which is a list, and for which that is no error of its own."""
    models = {name: MODELS["secretsmanager"].operation_model(name) for name in MODELS["secretsmanager"].operation_names}
    about_one = {
        name: model.input_shape
        for name, model in models.items()
        if "ResourceNotFoundException" in errors(model) and "SecretId" in model.input_shape.required_members
    }
    assert len(about_one) > 15
    for name, shape in about_one.items():
        beside = {member: BESIDE_THE_SECRET[member] for member in shape.required_members if member != "SecretId"}
        with fails_with("ResourceNotFoundException", "Secrets Manager can't find the specified secret."):
            getattr(clients["secretsmanager"], xform_name(name))(SecretId=unique("absent"), **beside)


def test_every_documented_error_is_tested_or_cannot_come_up() -> None:
    # The module's tests name codes too, and ask the engine for few of them.
    tests = "\n".join(
        path.read_text()
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__) and "provision" not in path.parts and not path.name.startswith("aws_")
    )
    documented = {code for service, name in OPERATIONS for code in errors(MODELS[service].operation_model(name))}
    assert {code for code in documented if code not in tests} == NEVER.keys()
