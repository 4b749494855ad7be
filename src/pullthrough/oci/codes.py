"""The error codes of the OCI distribution specification, one table.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes
"""

from __future__ import annotations

import json
from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes 1 to 14 of the specification that this registry can answer, and two that are not in it."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    #: Not in the specification; distribution and ECR have it, for a tag that cannot be set.
    TAG_INVALID = "TAG_INVALID"
    #: Nor is this; distribution and ECR use it for what is down.
    UNAVAILABLE = "UNAVAILABLE"


def error_body(code: ErrorCode, message: str, detail: object = None) -> bytes:
    """The JSON document of the specification's "Error Codes" section."""
    entry: dict[str, object] = {"code": code.value, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return json.dumps({"errors": [entry]}).encode()
