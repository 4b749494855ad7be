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
class Answer:
    status: int
    code: ErrorCode


#: By class; a class that is not here is answered as its nearest base.
TABLE: dict[type[PullthroughError], Answer] = {
    errors.PullthroughError: Answer(500, ErrorCode.UNAVAILABLE),
    errors.ConfigurationError: Answer(500, ErrorCode.UNAVAILABLE),
    errors.RequestError: Answer(400, ErrorCode.UNSUPPORTED),
    EndpointUnknown: Answer(404, ErrorCode.UNSUPPORTED),
    MethodNotAllowed: Answer(405, ErrorCode.UNSUPPORTED),
    EncodingUnsupported: Answer(415, ErrorCode.UNSUPPORTED),
    errors.NameInvalid: Answer(400, ErrorCode.NAME_INVALID),
    # The specification has no code for a tag that cannot be; distribution answers as for one that is not there.
    errors.TagInvalid: Answer(400, ErrorCode.MANIFEST_UNKNOWN),
    errors.DigestInvalid: Answer(400, ErrorCode.DIGEST_INVALID),
    errors.RangeNotSatisfiable: Answer(416, ErrorCode.UNSUPPORTED),
    errors.RepositoryUnknown: Answer(404, ErrorCode.NAME_UNKNOWN),
    errors.ContentUnknown: Answer(404, ErrorCode.MANIFEST_UNKNOWN),
    errors.ManifestUnknown: Answer(404, ErrorCode.MANIFEST_UNKNOWN),
    errors.BlobUnknown: Answer(404, ErrorCode.BLOB_UNKNOWN),
    errors.Denied: Answer(403, ErrorCode.DENIED),
    errors.PushRefused: Answer(403, ErrorCode.DENIED),
    errors.UploadUnknown: Answer(404, ErrorCode.BLOB_UPLOAD_UNKNOWN),
    errors.UploadInvalid: Answer(400, ErrorCode.BLOB_UPLOAD_INVALID),
    errors.UploadOutOfOrder: Answer(416, ErrorCode.BLOB_UPLOAD_INVALID),
    errors.UploadBusy: Answer(409, ErrorCode.BLOB_UPLOAD_INVALID),
    errors.ManifestRefused: Answer(400, ErrorCode.MANIFEST_INVALID),
    errors.ManifestTooLarge: Answer(413, ErrorCode.MANIFEST_INVALID),
    errors.ManifestBlobUnknown: Answer(404, ErrorCode.MANIFEST_BLOB_UNKNOWN),
    # The specification has no code for it; ECR answers like this.
    errors.TagImmutable: Answer(400, ErrorCode.TAG_INVALID),
    # The specification wants 400 or 405 where a manifest cannot be deleted.
    errors.StillReferenced: Answer(400, ErrorCode.DENIED),
    errors.SecretUnknown: Answer(404, ErrorCode.UNAVAILABLE),
    errors.SecretNotUsable: Answer(409, ErrorCode.UNAVAILABLE),
    errors.Unauthorized: Answer(401, ErrorCode.UNAUTHORIZED),
    errors.AccessDenied: Answer(403, ErrorCode.DENIED),
    errors.TooManyLogins: Answer(429, ErrorCode.TOOMANYREQUESTS),
    errors.AlreadyExists: Answer(409, ErrorCode.UNSUPPORTED),
    errors.NotEmpty: Answer(409, ErrorCode.UNSUPPORTED),
    errors.LimitReached: Answer(429, ErrorCode.TOOMANYREQUESTS),
    errors.LifecyclePolicyInvalid: Answer(400, ErrorCode.UNSUPPORTED),
    errors.ImageArchived: Answer(404, ErrorCode.MANIFEST_UNKNOWN),
    errors.UpstreamError: Answer(502, ErrorCode.UNAVAILABLE),
    errors.UpstreamNotFound: Answer(404, ErrorCode.NAME_UNKNOWN),
    # Not 401: the client would look for a credential of its own, and it is ours that the upstream refuses.
    errors.UpstreamDenied: Answer(403, ErrorCode.DENIED),
    errors.UpstreamThrottled: Answer(429, ErrorCode.TOOMANYREQUESTS),
    errors.UpstreamUnavailable: Answer(503, ErrorCode.UNAVAILABLE),
    errors.UpstreamRefused: Answer(502, ErrorCode.UNAVAILABLE),
    errors.UpstreamInvalid: Answer(502, ErrorCode.UNAVAILABLE),
    errors.ContentError: Answer(502, ErrorCode.UNAVAILABLE),
    errors.DigestMismatch: Answer(502, ErrorCode.UNAVAILABLE),
    errors.SizeMismatch: Answer(502, ErrorCode.UNAVAILABLE),
    errors.ManifestInvalid: Answer(502, ErrorCode.MANIFEST_INVALID),
    errors.StorageError: Answer(503, ErrorCode.UNAVAILABLE),
    errors.DiskFull: Answer(503, ErrorCode.UNAVAILABLE),
    errors.FolderLocked: Answer(503, ErrorCode.UNAVAILABLE),
    errors.FolderNotWritable: Answer(503, ErrorCode.UNAVAILABLE),
    errors.FolderNewer: Answer(503, ErrorCode.UNAVAILABLE),
    errors.CatalogBroken: Answer(503, ErrorCode.UNAVAILABLE),
    errors.SealingKeyMissing: Answer(503, ErrorCode.UNAVAILABLE),
}


def answer_for(error: PullthroughError) -> Answer:
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
