"""The APIs over the wire, as bytes: what reaches them, what is refused before any handler, and in which form."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings

from pullthrough.faces.ecr.wire.models import Operation
from tests.e2e.engine import Answer, Engine
from tests.unit.ecr.shapes import documents, offered

_ECR = "AmazonEC2ContainerRegistry_V20150921"
_JSON = "application/x-amz-json-1.1"
_FORM = "application/x-www-form-urlencoded"
_SECRET = "only-for-this-test"
_STS = "{https://sts.amazonaws.com/doc/2011-06-15/}"


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One for all tests here: none of them changes anything. Nobody has to sign."""
    folder = tmp_path_factory.mktemp("face") / "engine"
    engine = Engine(folder, f'[serve]\nworkers = {request.param}\n[ecr]\nauth = "none"\naccount = "123456789012"\n')
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


def send(
    engine: Engine,
    body: bytes | Iterator[bytes] = b"{}",
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    path: str = "/",
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(engine.url).netloc, timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}), encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        text = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
    finally:
        connection.close()


def call(
    engine: Engine,
    operation: str,
    body: bytes = b"{}",
    *,
    target: str = _ECR,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    return send(engine, body, {"Content-Type": _JSON, "X-Amz-Target": f"{target}.{operation}", **(headers or {})})


def error_of(answer: Answer) -> tuple[int, str]:
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-requestid"])
    assert answer.headers["server"].startswith("pullthrough/")
    document = json.loads(answer.body)
    assert answer.headers["content-type"] == _JSON
    assert document.keys() == {"__type", "message"}
    assert document["message"]
    return answer.status, document["__type"]


def xml_error_of(answer: Answer) -> tuple[int, str | None]:
    assert answer.headers["content-type"] == "text/xml"
    root = ElementTree.fromstring(answer.body)  # of our own engine
    assert root.tag == f"{_STS}ErrorResponse"
    assert root.findtext(f"{_STS}RequestId") == answer.headers["x-amzn-requestid"]
    assert root.findtext(f"{_STS}Error/{_STS}Message")
    return answer.status, root.findtext(f"{_STS}Error/{_STS}Code")


# --- what is answered ------------------------------------------------------------------------------------------------


def test_a_json_operation_is_answered_in_json(engine: Engine) -> None:
    answer = call(engine, "DescribeRegistry")
    assert answer.status == 200
    assert answer.headers["content-type"] == _JSON
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-requestid"])
    assert json.loads(answer.body)["registryId"] == "123456789012"


def test_an_older_json_version_and_a_charset_are_taken(engine: Engine) -> None:
    for kind in ("application/x-amz-json-1.0", f"{_JSON}; charset=utf-8", _JSON.upper()):
        assert call(engine, "DescribeRegistry", headers={"Content-Type": kind}).status == 200


def test_the_endpoint_may_have_a_path(engine: Engine) -> None:
    headers = {"Content-Type": _JSON, "X-Amz-Target": f"{_ECR}.DescribeRegistry"}
    assert send(engine, headers=headers, path="/aws/").status == 200


@pytest.mark.parametrize("how", ["form", "query"])
def test_sts_answers_in_xml(engine: Engine, how: str) -> None:
    text = "Action=GetCallerIdentity&Version=2011-06-15"
    if how == "form":
        answer = send(engine, text.encode(), {"Content-Type": f"{_FORM}; charset=utf-8"})
    else:
        answer = send(engine, b"", method="GET", path=f"/?{text}")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/xml")
    root = ElementTree.fromstring(answer.body)  # of our own engine
    assert root.tag == f"{_STS}GetCallerIdentityResponse"
    assert root.findtext(f"{_STS}GetCallerIdentityResult/{_STS}Account") == "123456789012"


def test_registry_requests_go_where_they_went(engine: Engine) -> None:
    target = {"X-Amz-Target": f"{_ECR}.DescribeRegistry", "Content-Type": _JSON}
    assert send(engine, b"", method="GET", path="/v2/").headers["docker-distribution-api-version"] == "registry/2.0"
    assert "errors" in json.loads(send(engine, headers=target, path="/v2/").body)
    assert "errors" in json.loads(send(engine, b"", method="GET", path="/?other=1").body)
    assert send(engine, b"", method="GET", path="/healthz").status == 200


def test_many_requests_share_a_connection(engine: Engine) -> None:
    connection = http.client.HTTPConnection(urlsplit(engine.url).netloc, timeout=60)
    try:
        statuses = []
        for operation in ("DescribeRegistry", "Nonsense", "CreateRepository", "DescribeRegistry"):
            connection.request("POST", "/", b"{}", {"Content-Type": _JSON, "X-Amz-Target": f"{_ECR}.{operation}"})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            assert connection.sock is not None, "the line was closed"
        assert statuses == [200, 400, 400, 200]
    finally:
        connection.close()


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [f"{_ECR}.CreateRepositories", "Other_V1.List", "x", f"{_ECR}.", ".", "é.è"])
def test_an_unknown_target_is_an_unknown_operation(engine: Engine, target: str) -> None:
    answer = send(engine, headers={"Content-Type": _JSON, "X-Amz-Target": target.encode().decode("latin-1")})
    assert error_of(answer) == (400, "UnknownOperationException")


def test_an_operation_that_is_not_offered_is_named(engine: Engine) -> None:
    destination = b'{"destination": {"region": "eu-west-1", "registryId": "999999999999"}}'
    refused = call(engine, "StartReplicationBackfill", destination)
    assert error_of(refused) == (400, "InvalidParameterException")
    assert "StartReplicationBackfill" in json.loads(refused.body)["message"]
    refused = send(engine, b"Action=AssumeRole&Version=2011-06-15", {"Content-Type": _FORM})
    assert xml_error_of(refused) == (400, "InvalidAction")
    assert b"AssumeRole" in refused.body


def test_a_request_without_operation_is_told_so(engine: Engine) -> None:
    assert error_of(send(engine)) == (400, "MissingActionException")
    assert error_of(send(engine, headers={"Content-Type": _JSON})) == (400, "MissingActionException")
    assert xml_error_of(send(engine, b"Version=2011-06-15", {"Content-Type": _FORM})) == (400, "MissingAction")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/xml", ""])
def test_another_content_type_is_refused(engine: Engine, kind: str) -> None:
    answer = call(engine, "DescribeRegistry", headers={"Content-Type": kind})
    assert error_of(answer) == (415, "UnsupportedMediaTypeException")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"},
        {"Content-Type": "application/cbor"},
        {"Content-Type": _JSON, "smithy-protocol": "rpc-v3-json", "X-Amz-Target": f"{_ECR}.DescribeRegistry"},
    ],
)
def test_another_protocol_is_refused_by_name(engine: Engine, headers: dict[str, str]) -> None:
    answer = send(engine, b"\xa0", headers, path="/service/AmazonEC2ContainerRegistry/operation/DescribeRegistry")
    assert error_of(answer) == (415, "UnsupportedProtocolException")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b'{"a": 1, "a": 1}', b'{"a": NaN}', b"\xff", b"[" * 50_000, b'{"maxResults": "1"}']
)
def test_what_is_no_json_input_is_a_serialization_error(engine: Engine, body: bytes) -> None:
    assert error_of(call(engine, "DescribeRepositories", body)) == (400, "SerializationException")


def test_a_compressed_body_is_refused(engine: Engine) -> None:
    answer = call(engine, "DescribeRegistry", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert error_of(answer) == (415, "UnsupportedMediaTypeException")


def test_what_the_model_forbids_is_told_in_ecrs_words(engine: Engine) -> None:
    answer = call(engine, "DescribeRepositories", b'{"maxResults": 5000}')
    assert error_of(answer) == (400, "InvalidParameterException")
    assert json.loads(answer.body)["message"] == (
        "Invalid parameter at 'maxResults' failed to satisfy constraint: "
        "'Member must have value less than or equal to 1000'"
    )


def test_another_registry_is_not_this_one(engine: Engine) -> None:
    assert call(engine, "DescribeRepositories", b'{"registryId": "123456789012"}').status == 200
    for body in (b'{"registryId": "999999999999"}', b'{"registryId": "999999999999", "repositoryNames": []}'):
        assert error_of(call(engine, "DescribeRepositories", body)) == (400, "InvalidParameterException")
    body = b'{"registryId": "999999999999", "repositoryName": "app"}'
    assert error_of(call(engine, "DescribeImages", body)) == (400, "RepositoryNotFoundException")


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (b"Action=GetCallerIdentity", "InvalidAction"),
        (b"Action=GetCallerIdentity&Version=2010-05-08", "InvalidAction"),
        (b"Action=ListUsers&Version=2011-06-15", "InvalidAction"),
        (b"Action=AssumeRole&Version=2011-06-15", "InvalidAction"),
        (b"Action=<b>&Version=\x00", "InvalidAction"),
        (b"Action=A&Action=B&Version=2011-06-15", "MalformedQueryString"),
        (b"Action=%FF&Version=2011-06-15", "MalformedQueryString"),
        (b"\xff", "MalformedQueryString"),
        (b"&".join([b"a=1"] * 2000), "MalformedQueryString"),
        (b"a" * 100_000, "RequestEntityTooLarge"),
    ],
)
def test_errors_of_the_query_protocol_are_xml(engine: Engine, form: bytes, code: str) -> None:
    answer = send(engine, form, {"Content-Type": _FORM})
    assert xml_error_of(answer) == (413 if code == "RequestEntityTooLarge" else 400, code)


# --- large and broken bodies -----------------------------------------------------------------------------------------


def _padded(size: int) -> bytes:
    return b'{"x": "' + b"a" * (size - 9) + b'"}'


@pytest.mark.parametrize(("operation", "limit"), [("DescribeRegistry", 1 << 20), ("PutImage", 12 << 20)])
def test_each_operation_has_its_largest_body(engine: Engine, operation: str, limit: int) -> None:
    fitting, larger = call(engine, operation, _padded(limit)), call(engine, operation, _padded(limit + 1))
    assert fitting.status == (200 if operation == "DescribeRegistry" else 400)
    assert error_of(larger) == (413, "RequestEntityTooLargeException")
    assert str(limit) in json.loads(larger.body)["message"]


def test_a_body_without_length_has_the_same_limit(engine: Engine) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 20)

    headers = {"Content-Type": _JSON, "X-Amz-Target": f"{_ECR}.DescribeRegistry", "Transfer-Encoding": "chunked"}
    assert send(engine, iter([b"{", b"}"]), headers).status == 200
    assert error_of(send(engine, endless(), headers)) == (413, "RequestEntityTooLargeException")


def _raw(engine: Engine, data: bytes) -> bytes:
    """Everything the engine answers to these bytes until it closes."""
    host, port = urlsplit(engine.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


def test_a_body_that_breaks_off_or_is_no_http_harms_nothing(engine: Engine) -> None:
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {_JSON}\r\nX-Amz-Target: {_ECR}.DescribeRegistry\r\n".encode()
    assert b" 200 " not in _raw(engine, head + b"Content-Length: 100\r\n\r\n{}")
    assert b" 200 " not in _raw(engine, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")
    assert b" 500 " not in _raw(engine, head + b"Content-Length: x\r\n\r\n{}")
    assert call(engine, "DescribeRegistry").status == 200


def test_a_client_that_waits_hears_whether_its_body_is_wanted(engine: Engine) -> None:
    """As curl does with bodies of more than a megabyte."""
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {_JSON}\r\nX-Amz-Target: {_ECR}.DescribeRegistry\r\n"
    head += "Expect: 100-continue\r\n"
    for length, statuses in ((2, [100, 200]), (2 << 20, [413])):
        host, port = urlsplit(engine.url).netloc.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            reader = connection.makefile("rb")
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            for status in statuses:
                assert reader.readline().startswith(f"HTTP/1.1 {status} ".encode())
                while reader.readline() != b"\r\n":
                    pass
                if status == 100:
                    connection.sendall(b"{}")


def test_large_bodies_side_by_side_are_all_answered(engine: Engine) -> None:
    """More of them than are read at once."""
    answers: list[Answer] = []
    body = _padded(900_000)
    threads = [
        threading.Thread(target=lambda: answers.append(call(engine, "DescribeRegistry", body))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 12


# --- signatures, logs and metrics ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One that asks for signatures: of the key AKIDADMIN, who may do everything, or AKIDGUEST, who may do nothing."""
    folder = tmp_path_factory.mktemp("guarded")
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(_SECRET)
    nothing = folder / "nothing.json"
    nothing.write_text('{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}')
    config = (
        f'[ecr.keys.admin]\naccess_key_id = "AKIDADMIN"\nsecret_access_key_file = "{secret}"\nrole = "admin"\n'
        f'[ecr.keys.guest]\naccess_key_id = "AKIDGUEST"\nsecret_access_key_file = "{secret}"\n'
        f'policy_file = "{nothing}"\n'
    )
    engine = Engine(folder / "engine", config)
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


def _client(engine: Engine, service: str, *, key: str = "AKIDADMIN", secret: str = _SECRET) -> Any:
    return boto3.client(
        service,
        endpoint_url=engine.url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


def test_an_unsigned_request_is_refused_where_keys_are_asked_for(guarded: Engine) -> None:
    for answer in (
        call(guarded, "DescribeRegistry"),
        call(guarded, "ListSecrets", target="secretsmanager"),
        call(guarded, "DescribeRegistry", b"not even JSON"),
    ):
        assert error_of(answer)[1] == "MissingAuthenticationTokenException"
    form = b"Action=GetCallerIdentity&Version=2011-06-15"
    unsigned = send(guarded, form, {"Content-Type": _FORM})
    assert xml_error_of(unsigned) == (403, "MissingAuthenticationToken")


def test_signed_requests_are_answered(guarded: Engine) -> None:
    assert _client(guarded, "sts").get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:user/admin"
    assert _client(guarded, "ecr").describe_registry()["registryId"] == "000000000000"
    assert _client(guarded, "secretsmanager").list_secrets()["SecretList"] == []


def test_the_authorization_token_is_what_registry_clients_log_in_with(guarded: Engine) -> None:
    client = _client(guarded, "ecr")
    (data,) = client.get_authorization_token(registryIds=["000000000000"])["authorizationData"]
    assert data["proxyEndpoint"] == guarded.url
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")

    def log_in(token: str) -> int:
        return guarded.get("/v2/", headers={"Authorization": f"Basic {token}"}).status

    assert log_in(data["authorizationToken"]) == 200
    assert log_in(base64.b64encode(b"AWS:another").decode()) == 401
    with pytest.raises(ClientError, match="registry 000000000000 only"):
        client.get_authorization_token(registryIds=["999999999999"])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_presigned_requests_are_answered(guarded: Engine, method: str) -> None:
    """As tools hand them on that prove who they are to somebody else."""
    url = urlsplit(_client(guarded, "sts").generate_presigned_url("get_caller_identity", HttpMethod=method))
    target = f"{url.path}?{url.query}"
    headers = {"Content-Type": f"{_FORM}; charset=utf-8"} if method == "POST" else {}
    answer = send(guarded, b"", headers, method=method, path=target)
    assert ":user/admin" in answer.body.decode()
    tampered = send(guarded, b"", headers, method=method, path=target + "0")
    assert xml_error_of(tampered) == (403, "SignatureDoesNotMatch")


def test_a_large_body_is_held_against_its_signature(guarded: Engine) -> None:
    client = _client(guarded, "secretsmanager")
    value = "x" * 65536
    arn = client.create_secret(Name="large", SecretString=value)["ARN"]
    assert client.get_secret_value(SecretId=arn)["SecretString"] == value
    wrong = _client(guarded, "secretsmanager", secret="another")
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        wrong.put_secret_value(SecretId=arn, SecretString=value)


LARGEST = 28 << 20


def _authorization(
    key: str, *, service: str = "ecr", scope_region: str = "us-east-1", signature: str = "0" * 64
) -> str:
    """Headers of a signature that is right in all but its last part."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{key}/{now[:8]}/{scope_region}/{service}/aws4_request"
    return (
        f"X-Amz-Date: {now}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={scope}, "
        f"SignedHeaders=host;x-amz-date;x-amz-target, Signature={signature}\r\n"
    )


def _head(authorization: str, length: int = LARGEST, more: str = "") -> bytes:
    return (
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {_JSON}\r\nX-Amz-Target: {_ECR}.UploadLayerPart\r\n"
        f"{authorization}{more}Content-Length: {length}\r\n\r\n"
    ).encode()


def _connect(engine: Engine) -> socket.socket:
    host, port = urlsplit(engine.url).netloc.split(":")
    return socket.create_connection((host, int(port)), timeout=60)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (lambda: "", "MissingAuthenticationTokenException"),
        (lambda: "Authorization: Basic QTpC\r\n", "IncompleteSignatureException"),
        (lambda: _authorization("AKIDNOBODY"), "UnrecognizedClientException"),
        (lambda: _authorization("AKIDADMIN", scope_region="mars-1"), "InvalidSignatureException"),
        (lambda: _authorization("AKIDADMIN", service="s3"), "InvalidSignatureException"),
        (lambda: _authorization("AKIDADMIN", signature="short"), "InvalidSignatureException"),
        (lambda: _authorization("AKIDADMIN") + "X-Amz-Date: 20200101T000000Z\r\n", "IncompleteSignatureException"),
        (
            lambda: _authorization("AKIDADMIN") + "X-Amz-Content-SHA256: UNSIGNED-PAYLOAD\r\n",
            "InvalidSignatureException",
        ),
        (lambda: _authorization("AKIDADMIN") + "X-Amz-Security-Token: x\r\n", "InvalidSignatureException"),
    ],
)
@pytest.mark.parametrize("expects", ["", "Expect: 100-continue\r\n"])
def test_who_is_not_known_is_refused_by_the_head_alone(
    guarded: Engine, authorization: Callable[[], str], code: str, expects: str
) -> None:
    """No byte of the body is waited for, nor asked for; the connection, on which it may still come, is closed."""
    with _connect(guarded) as connection:
        connection.sendall(_head(authorization(), more=expects))
        reader = connection.makefile("rb")
        assert b" 400 " in reader.readline()
        headers = dict(iter(lambda: reader.readline().decode().strip().lower().partition(": ")[::2], ("", "")))
        assert headers["connection"] == "close"
        assert json.loads(reader.read(int(headers["content-length"])))["__type"] == code


def test_a_client_that_is_still_sending_sees_why_it_was_refused(guarded: Engine) -> None:
    headers = {"Content-Type": _JSON, "X-Amz-Target": f"{_ECR}.UploadLayerPart"}
    for body in (b" " * LARGEST, iter([b" " * (1 << 20)] * 28)):
        assert error_of(send(guarded, body, headers)) == (400, "MissingAuthenticationTokenException")


def test_a_refusal_leaves_the_connection_to_who_sends_little(guarded: Engine) -> None:
    connection = http.client.HTTPConnection(urlsplit(guarded.url).netloc, timeout=60)
    try:
        for _ in range(3):
            connection.request("POST", "/", b"{}", {"Content-Type": _JSON, "X-Amz-Target": f"{_ECR}.DescribeRegistry"})
            response = connection.getresponse()
            assert json.loads(response.read())["__type"] == "MissingAuthenticationTokenException"
            assert connection.sock is not None, "the line was closed"
    finally:
        connection.close()


def test_bodies_in_the_name_of_a_key_leave_others_room(guarded: Engine) -> None:
    """Whoever has heard of a key's id, from the address that all others have too."""
    flood = [_connect(guarded) for _ in range(12)]
    try:
        for connection in flood:
            connection.sendall(_head(_authorization("AKIDGUEST")) + b" " * 100_000)
        admin, secrets = _client(guarded, "ecr"), _client(guarded, "secretsmanager")
        guest = _client(guarded, "sts", key="AKIDGUEST")
        assert admin.describe_registry()["registryId"] == "000000000000"
        assert guest.get_caller_identity()["Arn"].endswith(":user/guest")
        arn = secrets.create_secret(Name="beside-a-flood", SecretString="x" * 65536)["ARN"]
        with pytest.raises(ClientError, match="RepositoryNotFoundException"):
            admin.upload_layer_part(
                repositoryName="none",
                uploadId="00000000-0000-0000-0000-000000000000",
                partFirstByte=0,
                partLastByte=(20 << 20) - 1,
                layerPartBlob=b"x" * (20 << 20),
            )
        secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    finally:
        for connection in flood:
            connection.close()


@pytest.mark.parametrize("service", ["ecr", "secretsmanager"])
def test_no_operation_is_open_to_who_may_do_nothing(guarded: Engine, service: str) -> None:
    """Whatever the input: what is refused for its input alone may be refused before it is asked who may."""
    client = _client(guarded, service, key="AKIDGUEST")
    answers: dict[str, set[str]] = {}

    def attempt(operation: Operation) -> None:
        @settings(max_examples=2, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(documents(operation.input))
        def check(document: dict[str, Any]) -> None:
            document.pop("registryId", None)  # of another registry
            document.pop("registryIds", None)
            try:
                client._make_api_call(operation.name, document)
                code = "200"
            except ClientError as error:
                code = error.response["Error"]["Code"]
            answers.setdefault(operation.name, set()).add(code)

        check()

    for operation in offered():
        if operation.service == service:
            attempt(operation)
    assert [name for name, codes in answers.items() if "200" in codes] == []
    assert [name for name, codes in answers.items() if "AccessDeniedException" not in codes] == []
    assert _client(guarded, "sts", key="AKIDGUEST").get_caller_identity()["Arn"].endswith(":user/guest")


def test_a_log_line_names_operation_and_error_and_nothing_that_was_sent(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine", '[ecr]\nauth = "none"\n')
    try:
        engine.start()
        body = b'{"Name": "hunter2-name", "SecretString": ["hunter2-value"]}'
        assert call(engine, "CreateSecret", body, target="secretsmanager").status == 400
        send(engine, b"", method="GET", path="/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=hunter2")
        assert call(engine, "hunter2", b"{}").status == 400
        metrics = engine.metrics()
        engine.stop()
        lines = [json.loads(line) for line in engine.log.read_text().splitlines() if line.startswith("{")]
        assert [(line["method"], line["path"], line["status"], line["kind"], line["reason"]) for line in lines[:3]] == [
            ("POST", "/", 400, "api", "secretsmanager:CreateSecret SerializationException"),
            ("GET", "/", 200, "api", "sts:GetCallerIdentity"),
            ("POST", "/", 400, "api", "UnknownOperationException"),
        ]
        assert 'pullthrough_requests_total{kind="api",outcome="none",rule=""} 3.0' in metrics
        assert "hunter2" not in engine.log.read_text() + metrics
    finally:
        engine.end()


_START = """
import asyncio, sys
from pathlib import Path
from pullthrough.server import running
from pullthrough.settings import load_settings

async def main(folder):
    flags = {"serve.listen": "127.0.0.1:0", "serve.data": str(folder / "data")}
    async with running(load_settings(None, {}, flags, folder=folder).settings):
        print(*(name for name in ("botocore", "boto3", "cryptography", "bcrypt") if name in sys.modules))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_the_engine_starts_without_what_only_the_apis_need(tmp_path: Path) -> None:
    started = subprocess.run([sys.executable, "-c", _START, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (started.returncode, started.stdout.strip()) == (0, ""), started.stderr


# --- mirrors ---------------------------------------------------------------------------------------------------------


def test_a_mirror_listener_has_no_apis(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = f'[serve.mirrors]\n"127.0.0.1:{port}" = "docker-hub"\n[ecr]\nauth = "none"\n'
    engine = Engine(tmp_path / "engine", config)
    try:
        engine.start()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/", b"{}", {"Content-Type": _JSON, "X-Amz-Target": f"{_ECR}.DescribeRegistry"})
        response = connection.getresponse()
        assert "errors" in json.loads(response.read())
        assert response.status == 405
        connection.close()
    finally:
        engine.end()
