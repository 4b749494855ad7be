"""The error tree. Imports nothing of ours, so that every layer can raise and catch these.

    PullthroughError
    ├── ConfigurationError           a setting, a flag, or the machine is not as it must be
    ├── RequestError                 what a client asked for cannot be
    │   ├── NameInvalid, TagInvalid, DigestInvalid, RangeNotSatisfiable
    │   └── RepositoryUnknown, ManifestUnknown, BlobUnknown, Denied
    ├── UpstreamError                what another registry did; `.upstream` is its host
    │   ├── UpstreamNotFound         404: it does not have this
    │   ├── UpstreamDenied           401 or 403: it does not let us
    │   ├── UpstreamThrottled        429, or our own budget is used up; `.retry_after_seconds`
    │   ├── UpstreamUnavailable      no connection, a time-out, 5xx, or the circuit is open
    │   ├── UpstreamRefused          we do not follow: redirect or realm that is not trusted, TLS that fails
    │   └── UpstreamInvalid          an answer that cannot be right: HTML for JSON, too large, wrong digest
    ├── ContentError                 bytes that are not what they claim to be
    │   ├── DigestMismatch, SizeMismatch
    │   └── ManifestInvalid
    └── StorageError                 our own disk or catalog
        ├── DiskFull
        ├── FolderLocked, FolderNotWritable, FolderNewer
        └── CatalogBroken

A message is for people: where, what, why. `hint` says what to try. `reference` is stable across releases. Neither
message nor hint ever holds a credential or a signed URL.
"""

from __future__ import annotations


class PullthroughError(Exception):
    """Base of all errors this package raises on purpose."""

    reference = "PT000"
    #: True where the same call may succeed later without anybody changing anything.
    temporary = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigurationError(PullthroughError):
    """A setting, a flag, or the machine's state keeps the program from starting."""

    reference = "PT100"


class RequestError(PullthroughError):
    """What the client asked for cannot be answered as asked."""

    reference = "PT200"


class NameInvalid(RequestError):
    """The repository name does not follow the grammar of the OCI distribution specification."""

    reference = "PT201"


class TagInvalid(RequestError):
    """The tag does not follow the grammar of the OCI distribution specification."""

    reference = "PT202"


class DigestInvalid(RequestError):
    """The text is not a sha256 or sha512 digest."""

    reference = "PT203"


class RangeNotSatisfiable(RequestError):
    """No byte of the range exists. `size_bytes` is the whole body's size."""

    reference = "PT204"

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class RepositoryUnknown(RequestError):
    """No rule covers this name, or its upstream does not know it. `remembered`: it said so a while ago."""

    reference = "PT205"

    def __init__(self, message: str, *, hint: str = "", remembered: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.remembered = remembered


class ContentUnknown(RequestError):
    """The upstream does not have it. `remembered`: it said so a while ago, and was not asked again."""

    def __init__(self, message: str, *, remembered: bool = False) -> None:
        super().__init__(message)
        self.remembered = remembered


class ManifestUnknown(ContentUnknown):
    """The upstream does not have this tag or manifest."""

    reference = "PT206"


class BlobUnknown(ContentUnknown):
    """The upstream does not have this blob in this repository."""

    reference = "PT207"


class Denied(RequestError):
    """A rule's allow or deny list, or a policy, refuses this."""

    reference = "PT208"


class UpstreamError(PullthroughError):
    """Another registry did not give what was asked of it."""

    reference = "PT300"

    def __init__(self, message: str, *, upstream: str, status: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.upstream = upstream
        self.status = status


class UpstreamNotFound(UpstreamError):
    """The upstream answers 404: it does not have this."""

    reference = "PT301"


class UpstreamDenied(UpstreamError):
    """The upstream answers 401 or 403: it does not let us."""

    reference = "PT302"


class UpstreamThrottled(UpstreamError):
    """The upstream answers 429, or its budget of requests is used up. `retry_after_seconds` says when to ask again."""

    reference = "PT303"
    temporary = True

    def __init__(
        self,
        message: str,
        *,
        upstream: str,
        retry_after_seconds: float,
        status: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, upstream=upstream, status=status, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class UpstreamUnavailable(UpstreamError):
    """The upstream gives no connection, no answer in time, or a 5xx; or it was not asked because it just did."""

    reference = "PT304"
    temporary = True


class UpstreamRefused(UpstreamError):
    """We refuse to follow where the upstream points, or to trust its certificate."""

    reference = "PT305"


class UpstreamInvalid(UpstreamError):
    """The upstream's answer cannot be right: HTML for JSON, too large, a wrong digest."""

    reference = "PT306"


class ContentError(PullthroughError):
    """Bytes are not what they claim to be."""

    reference = "PT400"


class DigestMismatch(ContentError):
    """The bytes have another digest than they should. `expected` and `actual` are digests in text form."""

    reference = "PT401"

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class SizeMismatch(ContentError):
    """There are more or fewer bytes than the descriptor says."""

    reference = "PT402"


class ManifestInvalid(ContentError):
    """The manifest is not one that the OCI image specification or Docker's schema 2 describes."""

    reference = "PT403"


class StorageError(PullthroughError):
    """Our own disk or catalog failed."""

    reference = "PT500"


class DiskFull(StorageError):
    """No space is left, and nothing can be evicted."""

    reference = "PT501"
    temporary = True


class FolderLocked(StorageError):
    """Another engine, or an offline command, holds the data folder."""

    reference = "PT502"


class FolderNotWritable(StorageError):
    """The data folder cannot be made or written."""

    reference = "PT503"


class FolderNewer(StorageError):
    """The data folder was written by a newer version of pullthrough."""

    reference = "PT504"


class CatalogBroken(StorageError):
    """The catalog cannot be read."""

    reference = "PT505"
