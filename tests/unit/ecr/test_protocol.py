"""Which requests are for the APIs, which operation they name, and how errors are written."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from botocore.loaders import Loader
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.models import SERVICES, service_model
from pullthrough.faces.ecr.wire.protocol import (
    NO_OPERATION,
    Dialect,
    RequestedOperation,
    dialect_of,
    error_answer,
    is_api_request,
    json_operation,
    query_operation,
    unknown_operation,
)

JSON = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded"
ECR = "AmazonEC2ContainerRegistry_V20150921"


def headers(**values: str) -> CIMultiDict[str]:
    return CIMultiDict((name.replace("_", "-"), value) for name, value in values.items())


@pytest.mark.parametrize(
    ("method", "path", "given_headers", "is_api"),
    [
        ("POST", "/", headers(X_Amz_Target="x"), True),
        ("POST", "/", headers(), True),
        ("POST", "/aws", headers(x_amz_target="x"), True),
        ("POST", "/aws", headers(Content_Type=f"{FORM}; charset=utf-8"), True),
        ("POST", "/aws", headers(Content_Type=JSON), True),
        ("POST", "/service/S/operation/O", headers(smithy_protocol="rpc-v2-cbor"), True),
        ("POST", "/v20", headers(X_Amz_Target="x"), True),
        ("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", headers(), True),
        ("GET", "/?Version=2011-06-15&Action=GetCallerIdentity", headers(), True),
        ("POST", "/v2/", headers(X_Amz_Target="x"), False),
        ("POST", "/v2", headers(Content_Type=FORM), False),
        ("POST", "/v2/a/blobs/uploads/?Action=x", headers(), False),
        ("POST", "/healthz", headers(), False),
        ("GET", "/", headers(), False),
        ("GET", "/?NoAction=x", headers(), False),
        ("GET", "/v2/?Action=x", headers(), False),
        ("GET", "/healthz?Action=x", headers(), False),
        ("HEAD", "/?Action=x", headers(), False),
        ("PUT", "/", headers(X_Amz_Target="x"), False),
    ],
)
def test_requests_are_told_apart(method: str, path: str, given_headers: CIMultiDict[str], is_api: bool) -> None:
    assert is_api_request(method, path, given_headers) is is_api


def test_the_dialect_is_that_of_the_request() -> None:
    assert dialect_of("POST", headers(Content_Type=JSON)) is Dialect.JSON
    assert dialect_of("POST", headers(Content_Type=FORM)) is Dialect.QUERY
    assert dialect_of("POST", headers(Content_Type=FORM, X_Amz_Target="x")) is Dialect.JSON
    assert dialect_of("GET", headers()) is Dialect.QUERY
    with pytest.raises(ApiError, match="rpc-v2-cbor"):
        dialect_of("POST", headers(smithy_protocol="rpc-v2-cbor"))


@pytest.mark.parametrize(
    ("target", "service", "operation"),
    [(f"{ECR}.PutImage", "ecr", "PutImage"), ("secretsmanager.GetSecretValue", "secretsmanager", "GetSecretValue")],
)
def test_a_target_names_service_and_operation(target: str, service: str, operation: str) -> None:
    assert json_operation(headers(X_Amz_Target=target, Content_Type=JSON)) == RequestedOperation(
        Dialect.JSON, service, operation
    )


def test_the_targets_are_those_of_the_models() -> None:
    facts = {name: Loader().load_service_model(name, "service-2")["metadata"] for name in SERVICES}
    for name in ("ecr", "secretsmanager"):
        target = json_operation(headers(X_Amz_Target=f"{facts[name]['targetPrefix']}.X", Content_Type=JSON))
        assert target.service == name
    assert query_operation("", f"Action=X&Version={facts['sts']['apiVersion']}".encode()).service == "sts"
    _, body = error_answer(Dialect.QUERY, ApiError("X", "y"), None, "r")
    assert ElementTree.fromstring(body).tag == f"{{{facts['sts']['xmlNamespace']}}}ErrorResponse"


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_target_is_a_target_or_an_api_error(target: str, kind: str) -> None:
    try:
        assert json_operation(headers(X_Amz_Target=target, Content_Type=kind)).service
    except ApiError as error:
        error_answer(Dialect.JSON, error, None, "r")


@given(
    st.text(max_size=20),
    st.binary(max_size=60) | st.from_regex(rb"Action=[^&]{0,9}(&Version=[^&]{0,12})?", fullmatch=True),
)
def test_any_form_is_a_target_or_an_api_error(query: str, form: bytes) -> None:
    try:
        assert query_operation(query, form).service == "sts"
    except ApiError as error:
        ElementTree.fromstring(error_answer(Dialect.QUERY, error, None, "r")[1])


def test_query_and_form_are_one() -> None:
    assert (
        query_operation("Action=GetCallerIdentity&X-Amz-Date=x", b"Version=2011-06-15").operation == "GetCallerIdentity"
    )
    with pytest.raises(ApiError, match="Action is there twice"):
        query_operation("Action=A&Version=2011-06-15", b"Action=B")


def test_parts_and_manifests_may_be_larger_than_other_inputs() -> None:
    part = 20 * 1024 * 1024
    assert RequestedOperation(Dialect.JSON, "ecr", "UploadLayerPart").max_body_bytes > part * 4 // 3 + 1024
    assert RequestedOperation(Dialect.JSON, "ecr", "PutImage").max_body_bytes > 2 * 4_194_304
    assert NO_OPERATION.max_body_bytes == 1024 * 1024


# --- errors ----------------------------------------------------------------------------------------------------------


def parsed_error(dialect: Dialect, status: int, body: bytes) -> Any:
    parser = create_parser("query" if dialect is Dialect.QUERY else "json")
    return parser.parse({"status_code": status, "headers": {}, "body": body, "context": {}}, None)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_botocore_reads_code_and_message(dialect: Dialect) -> None:
    message = "it's <not> \x00 \ud800 & «so»"
    status, body = error_answer(dialect, ApiError("LimitExceeded", message), None, "r-1")
    found = parsed_error(dialect, status, body)["Error"]
    assert found["Code"] == "LimitExceeded"
    assert found["Message"].startswith("it's <not> ")
    assert found["Message"].endswith(" & «so»")


@pytest.mark.parametrize(
    ("service", "error", "status"),
    [
        ("ecr", ApiError("RepositoryNotFoundException", "x"), 400),
        ("ecr", ApiError("ServerException", "x"), 500),
        ("ecr", ApiError("ServerException", "x", 503), 503),
        ("secretsmanager", ApiError("InternalServiceError", "x"), 500),
        ("ecr", ApiError("AccessDeniedException", "x"), 400),
        (None, ApiError("UnsupportedMediaTypeException", "x"), 415),
    ],
)
def test_the_status_is_the_models_or_a_common_one(service: str | None, error: ApiError, status: int) -> None:
    found, body = error_answer(Dialect.JSON, error, service_model(service) if service else None, "r")
    assert found == status
    assert json.loads(body) == {"__type": error.code, "message": "x"}


def test_the_query_protocol_has_shorter_names_for_common_errors() -> None:
    def code(name: str) -> Any:
        status, body = error_answer(Dialect.QUERY, ApiError(name, "x"), service_model("sts"), "r")
        return parsed_error(Dialect.QUERY, status, body)["Error"]["Code"]

    assert code("AccessDeniedException") == "AccessDenied"
    assert code("ExpiredTokenException") == "ExpiredTokenException"


def test_an_unknown_operation_is_named_in_print() -> None:
    with pytest.raises(ApiError, match=r"no operation Gr\\xfc\\xdfe\\n here") as raised:
        unknown_operation(RequestedOperation(Dialect.JSON, "ecr", "Grüße\n"), "here")
    assert raised.value.code == "UnknownOperationException"
