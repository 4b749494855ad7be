"""The two protocols of the APIs: how a request names its operation, and how answers and errors are written.

    ecr, secretsmanager    awsJson1.1: POST, `X-Amz-Target: <prefix>.<Operation>`, JSON in and out
    sts                    awsQuery: a form (or a GET's query) with `Action` and `Version`, XML out

https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from pullthrough.faces.ecr.wire.errors import COMMON_STATUSES, ApiError
from pullthrough.faces.ecr.wire.models import Operation, Service
from pullthrough.faces.ecr.wire.outputs import json_output, xml_output, xml_text

#: Which service a target's prefix means. Known without loading the models.
_TARGETS = {"AmazonEC2ContainerRegistry_V20150921": "ecr", "secretsmanager": "secretsmanager"}
#: Which service a query's `Version` means.
_VERSIONS = {"2011-06-15": "sts"}
#: The only one of them, so that it is known before the form is.
QUERY_SERVICE = "sts"
#: The namespace of errors where the service is not known; XML needs one.
_STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_JSON_TYPES = ("application/x-amz-json-1.1", "application/x-amz-json-1.0")
_FORM_TYPE = "application/x-www-form-urlencoded"
#: Of the JSON in a request: what the largest input needs, characters that JSON escapes included.
_MAX_BODY_BYTES = 1024 * 1024
_MAX_BODIES = {
    # A part of up to 20 MiB, in base64.
    "UploadLayerPart": 28 * 1024 * 1024,
    # A manifest of up to 4 MiB, itself JSON, so that every quote in it is escaped.
    "PutImage": 12 * 1024 * 1024,
}


class Dialect(StrEnum):
    JSON = "json"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class RequestedOperation:
    """What a request asks for, by its own words: neither service nor operation need exist."""

    dialect: Dialect
    service: str
    operation: str

    @property
    def max_body_bytes(self) -> int:
        return _MAX_BODIES.get(self.operation, _MAX_BODY_BYTES)


#: Where the request does not say.
NO_OPERATION = RequestedOperation(Dialect.JSON, "", "")
MAX_FORM_BYTES = 64 * 1024


def is_api_request(method: str, raw_path: str, headers: Mapping[str, str]) -> bool:
    """Whether this is one for the APIs and not for the registry. `headers` is case-insensitive."""
    path, _, query = raw_path.partition("?")
    if path == "/v2" or path.startswith("/v2/"):
        return False
    if method == "GET":
        return path == "/" and any(part.startswith("Action=") for part in query.split("&"))
    if method != "POST":
        return False
    return (
        path == "/"
        or "X-Amz-Target" in headers
        or "smithy-protocol" in headers
        or media_type(headers) in (*_JSON_TYPES, _FORM_TYPE, "application/cbor")
    )


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def dialect_of(method: str, headers: Mapping[str, str]) -> Dialect:
    """Raises ApiError for protocols that are not spoken here."""
    smithy = headers.get("smithy-protocol")
    kind = media_type(headers)
    if smithy is not None or kind == "application/cbor":
        raise ApiError(
            "UnsupportedProtocolException",
            f"The protocol {smithy[:80] if smithy else 'CBOR'} is not spoken here; use awsJson1.1 "
            "(Content-Type application/x-amz-json-1.1 and the header X-Amz-Target)",
        )
    if method == "GET" or (kind == _FORM_TYPE and "X-Amz-Target" not in headers):
        return Dialect.QUERY
    return Dialect.JSON


def json_operation(headers: Mapping[str, str]) -> RequestedOperation:
    """Raises ApiError where the header is missing or names no service that is offered, or the content is not JSON."""
    text = headers.get("X-Amz-Target", "")
    if not text:
        raise ApiError(
            "MissingActionException",
            "The request names no operation: the header X-Amz-Target is missing, and the body is no form with an Action",
        )
    prefix, _, operation = text.rpartition(".")
    service = _TARGETS.get(prefix)
    if service is None or not operation:
        raise ApiError(
            "UnknownOperationException",
            f"There is no operation {printable(text)} here: this engine speaks ECR, Secrets Manager and STS",
        )
    kind = media_type(headers)
    if kind not in _JSON_TYPES:
        raise ApiError(
            "UnsupportedMediaTypeException",
            f"The Content-Type is {printable(kind) or 'missing'}; this operation takes application/x-amz-json-1.1",
        )
    return RequestedOperation(Dialect.JSON, service, operation)


def query_operation(raw_query: str, form: bytes) -> RequestedOperation:
    """Of the request's query and form, which count as one. Raises ApiError."""
    try:
        text = f"{raw_query}&{form.decode('ascii')}"
        parameters = parse_qsl(text, keep_blank_values=True, max_num_fields=1000, errors="strict")
    except ValueError:
        raise ApiError("MalformedQueryString", "The query string or form cannot be read") from None
    values: dict[str, str] = {}
    for name, value in parameters:
        if name in ("Action", "Version") and values.setdefault(name, value) != value:
            raise ApiError("MalformedQueryString", f"{name} is there twice, with different values")
    action, version = values.get("Action", ""), values.get("Version", "")
    if not action:
        raise ApiError("MissingAction", "The request names no operation: there is no parameter Action")
    service = _VERSIONS.get(version)
    if service is None:
        unknown_operation(
            RequestedOperation(Dialect.QUERY, "", action), f"for version {printable(version) or '(none)'}"
        )
    return RequestedOperation(Dialect.QUERY, service, action)


def unknown_operation(requested: RequestedOperation, why: str) -> NoReturn:
    """Raise the protocol's error for an operation that cannot be called."""
    name = printable(requested.operation)
    if requested.dialect is Dialect.QUERY:
        raise ApiError("InvalidAction", f"Could not find operation {name} {why}")
    raise ApiError("UnknownOperationException", f"There is no operation {name} {why}")


def printable(text: str) -> str:
    """What a client sent, fit for a message: short, one line, ASCII."""
    return text[:100].encode("unicode_escape").decode()


# --- answers ---------------------------------------------------------------------------------------------------------


def content_type(dialect: Dialect) -> str:
    return "text/xml" if dialect is Dialect.QUERY else "application/x-amz-json-1.1"


def output_body(service: Service, operation: Operation, output: Mapping[str, Any], request_id: str) -> bytes:
    if service.xml_namespace is not None:
        return xml_output(operation, output, service.xml_namespace, request_id)
    return json_output(operation, output)


def error_answer(dialect: Dialect, error: ApiError, service: Service | None, request_id: str) -> tuple[int, bytes]:
    """The status and the body. `service` is None where the request did not get that far."""
    modelled = service is not None and error.code in service.statuses
    if error.status is not None:
        status = error.status
    elif service is not None and modelled:
        status = service.statuses[error.code]
    else:
        status = COMMON_STATUSES.get(error.code, 400)
    if dialect is Dialect.QUERY:
        at_fault = "Receiver" if status >= 500 else "Sender"
        code = error.code if modelled else error.code.removesuffix("Exception")
        body = (
            f'<ErrorResponse xmlns="{_STS_NAMESPACE}"><Error><Type>{at_fault}</Type><Code>{xml_text(code)}</Code>'
            f"<Message>{xml_text(error.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return status, body.encode()
    document = {"__type": error.code, "message": error.message, **error.members}
    return status, json.dumps(document, separators=(",", ":")).encode()
