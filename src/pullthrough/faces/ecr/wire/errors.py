"""Errors as AWS's APIs give them: a code that the service's model knows, and a sentence.

One table leads from our error tree to the codes of each service. Handlers raise `ApiError` where AWS has a code for what
happened; our own errors, which they let through, are answered by the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pullthrough import errors
from pullthrough.errors import PullthroughError


class ApiError(Exception):
    """An answer of an API that is an error. `status` is the service model's for the code where it is None.

    `members` are what the code's shape has beside the message, in the JSON protocol.
    """

    def __init__(
        self, code: str, message: str, status: int | None = None, members: Mapping[str, str | int] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members = members or {}


#: The HTTP status of codes that are in no service's model, where it is not 400. From AWS's "Common errors" pages.
COMMON_STATUSES = {
    "InternalFailure": 500,
    "MissingAuthenticationTokenException": 403,
    "RequestEntityTooLargeException": 413,
    "RequestTimeoutException": 408,
    "UnsupportedMediaTypeException": 415,
    "UnsupportedProtocolException": 415,
}


@dataclass(frozen=True, slots=True)
class Codes:
    """What each service calls one class of ours: the first code that the operation's model has, else the last one.

    `status` goes with the last one; None means the model's."""

    ecr: tuple[str, ...]
    secretsmanager: tuple[str, ...]
    sts: tuple[str, ...] = ("InternalFailure",)
    status: int | None = None


_PARAMETER = Codes(("InvalidParameterException",), ("InvalidParameterException",), ("ValidationError",))
_DENIED = Codes(("AccessDeniedException",), ("AccessDeniedException",), ("AccessDeniedException",))
_SERVER = Codes(("ServerException",), ("InternalServiceError",), status=500)
#: The engine cannot now, but may later: SDKs ask again after 503 as after 500.
_LATER = Codes(("ServerException",), ("InternalServiceError",), status=503)
_UPSTREAM = Codes(
    (
        "UnableToGetUpstreamLayerException",
        "UnableToListUpstreamImageReferrersException",
        "UnableToGetUpstreamImageException",
    ),
    ("InvalidRequestException",),
)


def _ecr(*codes: str, secretsmanager: str = "InvalidRequestException") -> Codes:
    return Codes(codes, (secretsmanager,))


_UNKNOWN = "ResourceNotFoundException"

#: By class; a class that is not here is answered as its nearest base.
TABLE: dict[type[PullthroughError], Codes] = {
    errors.PullthroughError: _SERVER,
    errors.ConfigurationError: _SERVER,
    errors.RequestError: _PARAMETER,
    errors.NameInvalid: _PARAMETER,
    errors.TagInvalid: _PARAMETER,
    errors.DigestInvalid: _PARAMETER,
    errors.RangeNotSatisfiable: _PARAMETER,
    errors.RepositoryUnknown: _ecr("RepositoryNotFoundException", secretsmanager=_UNKNOWN),
    errors.ContentUnknown: _ecr("ImageNotFoundException", secretsmanager=_UNKNOWN),
    errors.ManifestUnknown: _ecr("ImageNotFoundException", secretsmanager=_UNKNOWN),
    errors.ImageArchived: _ecr("ImageArchivedException", "ImageNotFoundException", secretsmanager=_UNKNOWN),
    errors.BlobUnknown: _ecr("LayersNotFoundException", secretsmanager=_UNKNOWN),
    errors.Denied: _DENIED,
    errors.Unauthorized: _DENIED,
    errors.AccessDenied: _DENIED,
    errors.TooManyLogins: Codes(("ThrottlingException",), ("ThrottlingException",), ("Throttling",), 429),
    errors.AlreadyExists: _ecr(
        "PullThroughCacheRuleAlreadyExistsException",
        "TemplateAlreadyExistsException",
        "RepositoryAlreadyExistsException",
        "ExclusionAlreadyExistsException",
        "LayerAlreadyExistsException",
        "ImageAlreadyExistsException",
        "InvalidParameterException",
        secretsmanager="ResourceExistsException",
    ),
    errors.NotEmpty: _ecr("RepositoryNotEmptyException"),
    errors.LimitReached: _ecr("LimitExceededException", secretsmanager="LimitExceededException"),
    errors.LifecyclePolicyInvalid: _PARAMETER,
    # Not AccessDenied: no policy would allow it.
    errors.PushRefused: _PARAMETER,
    errors.UploadUnknown: _ecr("UploadNotFoundException"),
    errors.UploadInvalid: _ecr("InvalidLayerPartException", "InvalidLayerException"),
    errors.UploadOutOfOrder: _ecr("InvalidLayerPartException", "InvalidLayerException"),
    errors.UploadBusy: _LATER,
    errors.ManifestRefused: _PARAMETER,
    errors.ManifestTooLarge: _PARAMETER,
    errors.ManifestBlobUnknown: _ecr("LayersNotFoundException"),
    errors.TagImmutable: _ecr("ImageTagAlreadyExistsException"),
    errors.StillReferenced: _PARAMETER,
    errors.SecretUnknown: _ecr("SecretNotFoundException", "InvalidParameterException", secretsmanager=_UNKNOWN),
    errors.SecretNotUsable: _ecr("UnableToAccessSecretException", "InvalidParameterException"),
    errors.UpstreamError: _UPSTREAM,
    errors.UpstreamNotFound: _UPSTREAM,
    errors.UpstreamDenied: _UPSTREAM,
    errors.UpstreamThrottled: _UPSTREAM,
    errors.UpstreamUnavailable: _UPSTREAM,
    errors.UpstreamRefused: _UPSTREAM,
    errors.UpstreamInvalid: _UPSTREAM,
    errors.ContentError: _PARAMETER,
    errors.DigestMismatch: _PARAMETER,
    errors.SizeMismatch: _PARAMETER,
    errors.ManifestInvalid: _PARAMETER,
    errors.StorageError: _LATER,
    errors.DiskFull: _LATER,
    errors.FolderLocked: _LATER,
    errors.FolderNotWritable: _LATER,
    errors.FolderNewer: _LATER,
    errors.CatalogBroken: _LATER,
    errors.SealingKeyMissing: Codes(
        ("UnableToDecryptSecretValueException", "ServerException"),
        ("EncryptionFailure", "DecryptionFailure", "InternalServiceError"),
        status=503,
    ),
}


def api_error(error: PullthroughError, service: str, declared: Collection[str] = ()) -> ApiError:
    """The service's answer to an error of ours, with what to try where the error knows it.

    `declared` are the codes that the operation's model has.
    """
    codes = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    candidates: tuple[str, ...] = getattr(codes, service)
    code = next((candidate for candidate in candidates if candidate in declared), candidates[-1])
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return ApiError(code, message, codes.status if code == candidates[-1] else None)
