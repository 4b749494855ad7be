"""From the error tree to the answers of the OCI distribution specification: one table.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes
A registry that cannot reach its upstream is not in the specification; 502 and 503 make clients try the next mirror.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiohttp import web

from pullthrough import errors
from pullthrough.errors import PullthroughError, UpstreamThrottled, UpstreamUnavailable
from pullthrough.oci.codes import ErrorCode, error_body


class EndpointUnknown(errors.RequestError):
    """There is no such path, or not with this method."""

    reference = "PT209"


class MethodNotAllowed(errors.RequestError):
    """The path exists, but not for this method; `allowed` are those it is for."""

    reference = "PT210"

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class EncodingUnsupported(errors.RequestError):
    """The body that was sent is compressed, by its Content-Encoding: nothing is inflated here, for anybody."""

    reference = "PT214"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    status: int
    code: ErrorCode


#: By class; a class that is not here is answered as its nearest base.
TABLE: dict[type[PullthroughError], ErrorAnswer] = {
    errors.PullthroughError: ErrorAnswer(500, ErrorCode.UNAVAILABLE),
    errors.ConfigurationError: ErrorAnswer(500, ErrorCode.UNAVAILABLE),
    errors.RequestError: ErrorAnswer(400, ErrorCode.UNSUPPORTED),
    EndpointUnknown: ErrorAnswer(404, ErrorCode.UNSUPPORTED),
    MethodNotAllowed: ErrorAnswer(405, ErrorCode.UNSUPPORTED),
    EncodingUnsupported: ErrorAnswer(415, ErrorCode.UNSUPPORTED),
    errors.NameInvalid: ErrorAnswer(400, ErrorCode.NAME_INVALID),
    # The specification has no code for a tag that cannot be; distribution answers as for one that is not there.
    errors.TagInvalid: ErrorAnswer(400, ErrorCode.MANIFEST_UNKNOWN),
    errors.DigestInvalid: ErrorAnswer(400, ErrorCode.DIGEST_INVALID),
    errors.RangeNotSatisfiable: ErrorAnswer(416, ErrorCode.UNSUPPORTED),
    errors.RepositoryUnknown: ErrorAnswer(404, ErrorCode.NAME_UNKNOWN),
    errors.ContentUnknown: ErrorAnswer(404, ErrorCode.MANIFEST_UNKNOWN),
    errors.ManifestUnknown: ErrorAnswer(404, ErrorCode.MANIFEST_UNKNOWN),
    errors.BlobUnknown: ErrorAnswer(404, ErrorCode.BLOB_UNKNOWN),
    errors.Denied: ErrorAnswer(403, ErrorCode.DENIED),
    errors.PushRefused: ErrorAnswer(403, ErrorCode.DENIED),
    errors.UploadUnknown: ErrorAnswer(404, ErrorCode.BLOB_UPLOAD_UNKNOWN),
    errors.UploadInvalid: ErrorAnswer(400, ErrorCode.BLOB_UPLOAD_INVALID),
    errors.UploadOutOfOrder: ErrorAnswer(416, ErrorCode.BLOB_UPLOAD_INVALID),
    errors.UploadBusy: ErrorAnswer(409, ErrorCode.BLOB_UPLOAD_INVALID),
    errors.ManifestRefused: ErrorAnswer(400, ErrorCode.MANIFEST_INVALID),
    errors.ManifestTooLarge: ErrorAnswer(413, ErrorCode.MANIFEST_INVALID),
    errors.ManifestBlobUnknown: ErrorAnswer(404, ErrorCode.MANIFEST_BLOB_UNKNOWN),
    # The specification has no code for it; ECR answers like this.
    errors.TagImmutable: ErrorAnswer(400, ErrorCode.TAG_INVALID),
    # The specification wants 400 or 405 where a manifest cannot be deleted.
    errors.StillReferenced: ErrorAnswer(400, ErrorCode.DENIED),
    errors.SecretUnknown: ErrorAnswer(404, ErrorCode.UNAVAILABLE),
    errors.SecretNotUsable: ErrorAnswer(409, ErrorCode.UNAVAILABLE),
    errors.Unauthorized: ErrorAnswer(401, ErrorCode.UNAUTHORIZED),
    errors.AccessDenied: ErrorAnswer(403, ErrorCode.DENIED),
    errors.TooManyLogins: ErrorAnswer(429, ErrorCode.TOOMANYREQUESTS),
    errors.AlreadyExists: ErrorAnswer(409, ErrorCode.UNSUPPORTED),
    errors.NotEmpty: ErrorAnswer(409, ErrorCode.UNSUPPORTED),
    errors.LimitReached: ErrorAnswer(429, ErrorCode.TOOMANYREQUESTS),
    errors.LifecyclePolicyInvalid: ErrorAnswer(400, ErrorCode.UNSUPPORTED),
    errors.ImageArchived: ErrorAnswer(404, ErrorCode.MANIFEST_UNKNOWN),
    errors.UpstreamError: ErrorAnswer(502, ErrorCode.UNAVAILABLE),
    errors.UpstreamNotFound: ErrorAnswer(404, ErrorCode.NAME_UNKNOWN),
    # Not 401: the client would look for a credential of its own, and it is ours that the upstream refuses.
    errors.UpstreamDenied: ErrorAnswer(403, ErrorCode.DENIED),
    errors.UpstreamThrottled: ErrorAnswer(429, ErrorCode.TOOMANYREQUESTS),
    errors.UpstreamUnavailable: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.UpstreamRefused: ErrorAnswer(502, ErrorCode.UNAVAILABLE),
    errors.UpstreamInvalid: ErrorAnswer(502, ErrorCode.UNAVAILABLE),
    errors.ContentError: ErrorAnswer(502, ErrorCode.UNAVAILABLE),
    errors.DigestMismatch: ErrorAnswer(502, ErrorCode.UNAVAILABLE),
    errors.SizeMismatch: ErrorAnswer(502, ErrorCode.UNAVAILABLE),
    errors.ManifestInvalid: ErrorAnswer(502, ErrorCode.MANIFEST_INVALID),
    errors.StorageError: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.DiskFull: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.FolderLocked: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.FolderNotWritable: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.FolderNewer: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.CatalogBroken: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
    errors.SealingKeyMissing: ErrorAnswer(503, ErrorCode.UNAVAILABLE),
}


def answer_for(error: PullthroughError) -> ErrorAnswer:
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    raise AssertionError("PullthroughError itself is in the table")


def error_response(error: PullthroughError, *, is_mirrored: bool = False) -> web.Response:
    """The specification's JSON, with what to try in the message where the error knows it.

    `is_mirrored`: the client knows another way to the upstream, and shall go it where this one waits too long. A 429 it
    would repeat here at once.
    """
    answer = answer_for(error)
    if is_mirrored and isinstance(error, UpstreamThrottled):
        answer = answer_for(UpstreamUnavailable(error.message, upstream=error.upstream))
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    response = web.Response(
        status=answer.status,
        body=error_body(answer.code, message, {"reference": error.reference}),
        content_type="application/json",
    )
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = error.challenge
    elif isinstance(error, errors.TooManyLogins):
        response.headers["Retry-After"] = "1"
    elif isinstance(error, UpstreamThrottled):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    elif answer.status == 503:
        response.headers["Retry-After"] = "5"
    elif isinstance(error, errors.RangeNotSatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size_bytes}"
    elif isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.allowed
    elif isinstance(error, EncodingUnsupported):
        response.headers["Accept-Encoding"] = "identity"  # RFC 9110, section 15.5.16
    return response
