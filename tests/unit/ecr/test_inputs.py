"""What clients send is taken exactly if the service's model allows it; everything else is an error that AWS knows."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.inputs import parse_json, read_input
from pullthrough.faces.ecr.wire.models import Operation, compile_pattern, service_model
from tests.effort import examples
from tests.unit.ecr.shapes import ANYTHING, documents, offered, places

OPERATIONS = offered()
by_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.service}-{o.name}")
generated = settings(max_examples=examples(5), suppress_health_check=list(HealthCheck), database=None)


def read(service: str, name: str, document: Any) -> dict[str, Any]:
    operation = service_model(service).operation(name)
    return read_input(operation, parse_json(json.dumps(document).encode()))


def refused(service: str, name: str, document: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read(service, name, document)
    return raised.value


@by_operation
def test_what_the_model_allows_is_taken_as_it_is(operation: Operation) -> None:
    @generated
    @given(documents(operation.input))
    def check(document: dict[str, Any]) -> None:
        taken = read_input(operation, parse_json(json.dumps(document).encode()))
        assert taken.keys() == document.keys()
        for name, value in document.items():
            if isinstance(taken[name], bytes):
                assert base64.b64encode(taken[name]).decode() == value
            else:
                assert isinstance(value, type(taken[name]))

    check()


def error_of(operation: Operation, document: Any) -> ApiError | None:
    try:
        read_input(operation, parse_json(json.dumps(document).encode()))
    except ApiError as error:
        return error
    return None


@by_operation
def test_one_thing_wrong_is_an_error_that_boto3_knows_or_no_error(operation: Operation) -> None:
    codes = {"SerializationException", "InvalidParameterException"}
    codes |= {"ValidationError"} if operation.service == "sts" else set()

    @generated
    @given(documents(operation.input), ANYTHING, st.randoms(use_true_random=False))
    def check(document: dict[str, Any], wrong: Any, random: Any) -> None:
        found = places(document)
        if not found:
            return
        container, key = random.choice(found)
        container[key] = wrong
        error = error_of(operation, document)
        if error is not None:
            assert error.code in codes
            assert 0 < len(error.message) < 10_000

    check()


@settings(max_examples=examples(200))
@given(st.binary(max_size=40) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_object_or_a_serialization_error(body: bytes) -> None:
    try:
        document = parse_json(body)
    except ApiError as error:
        document = {"code": error.code}
        assert document == {"code": "SerializationException"}
    assert isinstance(document, dict)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": 1', "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": 1, "a": 2}', "same key twice"),
        (b'{"b": {"a": 1, "a": 1}}', "same key twice"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"\xff{}", "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"a": [' + b"[]," * 200_000 + b"1]}", "more than 200,000 values"),
    ],
)
def test_a_body_that_is_no_object_is_told_why(body: bytes, reason: str) -> None:
    with pytest.raises(ApiError, match=reason) as raised:
        parse_json(body)
    assert (raised.value.code, raised.value.status) == ("SerializationException", 400)


def test_an_empty_body_is_an_input_without_members() -> None:
    assert parse_json(b"") == {}


def test_unknown_members_are_ignored_and_null_is_as_absent() -> None:
    assert read("ecr", "DescribeRepositories", {"future": [{}], "maxResults": None, "registryId": "0" * 12}) == {
        "registryId": "0" * 12
    }


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'Member must not be null'"),
        ({"repositoryName": "a"}, "'Member must have length greater than or equal to 2'"),
        ({"repositoryName": "a" * 257}, "'Member must have length less than or equal to 256'"),
        ({"repositoryName": "Nginx"}, "'Member must satisfy regular expression pattern: [a-z0-9]+"),
        ({"repositoryName": "nginx\n"}, "'Member must satisfy regular expression pattern: [a-z0-9]+"),
        ({"repositoryName": "aa", "registryId": "1"}, "Invalid parameter at 'registryId' failed"),
        ({"repositoryName": "aa", "imageTagMutability": "SOMETIMES"}, "enum value set: [MUTABLE, IMMUTABLE, "),
        ({"repositoryName": "aa", "tags": [{"Key": "k", "Value": "v"}, {"Key": "k"}]}, "at 'tags.2.member.value'"),
        ({"repositoryName": "aa", "tags": [None]}, "at 'tags.1.member' failed to satisfy constraint: 'Member must not"),
    ],
)
def test_ecr_says_what_is_wrong_in_its_own_form(document: Any, message: str) -> None:
    error = refused("ecr", "CreateRepository", document)
    assert error.code == "InvalidParameterException"
    assert message in error.message


def test_bounds_of_numbers() -> None:
    assert read("ecr", "DescribeRepositories", {"maxResults": 1000}) == {"maxResults": 1000}
    over = refused("ecr", "DescribeRepositories", {"maxResults": 1001})
    assert over.message == (
        "Invalid parameter at 'maxResults' failed to satisfy constraint: "
        "'Member must have value less than or equal to 1000'"
    )
    assert "greater than or equal to 1'" in refused("ecr", "DescribeRepositories", {"maxResults": 0}).message


def test_all_violations_are_told_at_once() -> None:
    message = refused("ecr", "PutImage", {"imageTag": ""}).message
    for member in ("repositoryName", "imageManifest", "imageTag"):
        assert f"'{member}'" in message


def test_the_others_say_it_in_the_form_of_their_framework() -> None:
    error = refused("secretsmanager", "CreateSecret", {"ClientRequestToken": "short"})
    assert error.code == "InvalidParameterException"
    assert error.message == (
        "2 validation errors detected: Value null at 'name' failed to satisfy constraint: Member must not be null; "
        "Value 'short' at 'clientRequestToken' failed to satisfy constraint: "
        "Member must have length greater than or equal to 32"
    )


@pytest.mark.parametrize("secret", ["hunter2-" * 9000, ["hunter2-"], {"hunter2-": 1}])
def test_a_secret_value_is_never_repeated(secret: Any) -> None:
    error = refused("secretsmanager", "CreateSecret", {"Name": "a", "SecretString": secret})
    assert "hunter2" not in error.message
    assert "at 'secretString'" in error.message


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"repositoryName": 5}, "NUMBER_VALUE can not be converted to a String at 'repositoryName'"),
        ({"repositoryName": True}, "BOOLEAN_VALUE can not be converted to a String"),
        ({"tags": {}}, "STRUCTURE_VALUE can not be converted to a list at 'tags'"),
        ({"tags": ["x"]}, "STRING_VALUE can not be converted to a structure at 'tags.1.member'"),
        ({"imageScanningConfiguration": {"scanOnPush": "true"}}, "STRING_VALUE can not be converted to a Boolean"),
        ({"repositoryName": "\ud800"}, "not Unicode"),
    ],
)
def test_a_value_of_another_type_is_a_serialization_error(document: Any, message: str) -> None:
    error = refused("ecr", "CreateRepository", document)
    assert (error.code, error.status) == ("SerializationException", 400)
    assert message in error.message


@pytest.mark.parametrize("number", [1.5, 1.0, "1", True, 2**31, -(2**31) - 1, 10**400])
def test_an_integer_is_a_whole_number_of_32_bits(number: Any) -> None:
    assert refused("ecr", "DescribeRepositories", {"maxResults": number}).code == "SerializationException"


def test_a_blob_is_base64_and_bounded_by_its_bytes() -> None:
    part = {"repositoryName": "aa", "uploadId": "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "partFirstByte": 0}
    part |= {"partLastByte": 2**40}
    assert read("ecr", "UploadLayerPart", part | {"layerPartBlob": "aGk="})["layerPartBlob"] == b"hi"
    for wrong in ("aGk", "a-k=", "aGk=\n", "é"):
        assert refused("ecr", "UploadLayerPart", part | {"layerPartBlob": wrong}).code == "SerializationException"


# --- patterns --------------------------------------------------------------------------------------------------------

_SCANNING = r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$"


@settings(max_examples=examples(300))
@given(st.text("a0*._-/A", max_size=12))
def test_the_rewritten_pattern_means_the_same(text: str) -> None:
    import re

    assert (compile_pattern(_SCANNING).fullmatch(text) is None) == (re.fullmatch(_SCANNING, text) is None)


def _patterns() -> list[str]:
    found: dict[str, None] = {}
    seen: set[int] = set()

    def walk(shape: Any) -> None:
        if id(shape) in seen:
            return
        seen.add(id(shape))
        if shape.pattern:
            found[shape.pattern] = None
        for member in (*shape.members.values(), *([shape.item] if shape.item else [])):
            walk(member)

    for operation in OPERATIONS:
        walk(operation.input)
    return list(found)


@pytest.mark.parametrize("pattern", _patterns())
def test_no_text_makes_a_pattern_try_for_ever(pattern: str) -> None:
    """A pattern that backtracks exponentially would hang here, not fail."""
    compiled = compile_pattern(pattern)
    arn = "arn:aws:secretsmanager:r:secret:ecr-pullthroughcache/"
    for piece in ("a", "a.", "a-", "-", "a/", "a_", "a__", "*", "0", "a*", "aws-", "arn:aws-a", "A", "/", "é", arn):
        for end in ("", "!", "\n", "é", "/"):
            compiled.fullmatch(piece * 300 + end)
            compiled.fullmatch("arn:aws:iam::000000000000:role/" + piece * 300 + end)
