"""What handlers give is what botocore's own parsers read."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import HealthCheck, given, settings

from pullthrough.faces.ecr.wire.models import Operation, Shape, ShapeType, service_model
from pullthrough.faces.ecr.wire.outputs import OutputMismatch, json_output, xml_output
from tests.effort import examples
from tests.unit.ecr.shapes import offered, values

generated = settings(max_examples=examples(5), suppress_health_check=list(HealthCheck), database=None)
MODELS = {
    name: ServiceModel(Loader().load_service_model(name, "service-2"), name)
    for name in ("ecr", "secretsmanager", "sts")
}
JSON_OPERATIONS = [operation for operation in offered() if operation.service != "sts"]


def parsed(operation: Operation, body: bytes) -> Any:
    model = MODELS[operation.service]
    protocol = "query" if operation.service == "sts" else "json"
    response = {"status_code": 200, "headers": {}, "body": body, "context": {"operation_name": operation.name}}
    found = create_parser(protocol).parse(response, model.operation_model(operation.name).output_shape)
    found.pop("ResponseMetadata")
    return found


def as_read(shape: Shape, value: Any) -> Any:
    """What boto3 makes of a value that a handler gave."""
    if shape.kind is ShapeType.STRUCTURE:
        return {name: as_read(shape.members[name], item) for name, item in value.items() if item is not None}
    if shape.kind is ShapeType.LIST:
        assert shape.item
        return [as_read(shape.item, item) for item in value]
    if shape.kind is ShapeType.MAP:
        assert shape.item
        return {key: as_read(shape.item, item) for key, item in value.items()}
    return value


def same(read: Any, given_: Any) -> bool:
    if isinstance(read, datetime.datetime):
        return bool(abs(read.timestamp() - given_) < 0.001)
    if isinstance(read, dict):
        return read.keys() == given_.keys() and all(same(read[key], given_[key]) for key in read)
    if isinstance(read, list):
        return len(read) == len(given_) and all(same(*pair) for pair in zip(read, given_, strict=True))
    return bool(read == given_)


@pytest.mark.parametrize("operation", JSON_OPERATIONS, ids=lambda o: f"{o.service}-{o.name}")
def test_botocore_reads_what_the_handler_gave(operation: Operation) -> None:
    if operation.output is None:
        assert json_output(operation, {}) == b"{}"
        return

    @generated
    @given(values(operation.output))
    def check(output: Mapping[str, Any]) -> None:
        assert operation.output is not None
        assert same(parsed(operation, json_output(operation, output)), as_read(operation.output, output))

    check()


def test_members_that_are_not_set_are_left_out() -> None:
    operation = service_model("ecr").operation("CreatePullThroughCacheRule")
    output = {"ecrRepositoryPrefix": "quay", "credentialArn": None, "createdAt": 1700000000.1234}
    assert json.loads(json_output(operation, output)) == {"ecrRepositoryPrefix": "quay", "createdAt": 1700000000.123}


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ({"repositories": [{"name": "a"}]}, "DescribeRepositories.repositories has no member name"),
        ({"repositories": {}}, "DescribeRepositories.repositories should be a list"),
        ({"nextToken": 5}, "DescribeRepositories.nextToken should be a string"),
        ({"repositories": [{"createdAt": "2020"}]}, "createdAt should be a timestamp"),
        ({"repositories": [{"imageScanningConfiguration": {"scanOnPush": 1}}]}, "scanOnPush should be a boolean"),
        ({"repositories": ["x"]}, "DescribeRepositories.repositories should be a structure"),
    ],
)
def test_an_output_that_the_model_does_not_have_is_a_mistake(output: Any, place: str) -> None:
    with pytest.raises(OutputMismatch, match=re.escape(place)):
        json_output(service_model("ecr").operation("DescribeRepositories"), output)


def test_botocore_reads_the_query_protocols_answer() -> None:
    operation = service_model("sts").operation("GetCallerIdentity")
    output = {"UserId": "AIDA", "Account": "0" * 12, "Arn": "arn:aws:iam::000000000000:user/<a&b>\x00"}
    body = xml_output(operation, output, "https://sts.amazonaws.com/doc/2011-06-15/", "r-1")
    assert parsed(operation, body) == output | {"Arn": "arn:aws:iam::000000000000:user/<a&b>\ufffd"}
    assert b"<RequestId>r-1</RequestId>" in body
