"""The error tree. Imports nothing of ours, so that every layer can raise and catch these.

    PullthroughError
    ├── ConfigurationError           a setting, a flag, or the machine is not as it must be
    ├── RequestError                 what a client asked for cannot be
    │   ├── NameInvalid, TagInvalid, DigestInvalid, RangeNotSatisfiable
    │   ├── RepositoryUnknown, ManifestUnknown, BlobUnknown, Denied
    │   ├── PushRefused, UploadUnknown, UploadInvalid, UploadOutOfOrder, UploadBusy
    │   ├── ManifestRefused (ManifestTooLarge), ManifestBlobUnknown, TagImmutable, StillReferenced
    │   ├── Unauthorized, AccessDenied, TooManyLogins
    │   ├── ImageArchived, LifecyclePolicyInvalid
    │   ├── SecretUnknown, SecretNotUsable
    │   └── AlreadyExists, NotEmpty, LimitReached
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
    ├── StorageError                 our own disk or catalog
    │   ├── DiskFull
    │   ├── FolderLocked, FolderNotWritable, FolderNewer
    │   ├── CatalogBroken
    │   └── SealingKeyMissing
    └── ProvisionError               plan, apply, verify: the account or the engine that is set up
        ├── InputMissing             an account's username or token is missing or malformed
        ├── TargetUnusable           no credentials, no region, or one in which AWS does not offer this
        ├── ActionDenied             the caller lacks a permission; `.action`
        ├── AwsRefused               AWS refuses a call for another reason; `.code`
        ├── AwsUnreachable           no connection, a time-out, throttling without end
        ├── PlanProblem              what is wanted and what is there do not go together
        ├── PlanOutdated             a saved plan is not what would be planned now
        └── ApplyFailed              a step failed; the message says what was done and what was not

A message is for people: where, what, why. `hint` says what to try. `reference` is stable across releases. Neither
message nor hint ever holds a credential or a signed URL.
"""

from __future__ import annotations


class PullthroughError(Exception):
    """Base of all errors this package raises on purpose."""

    reference = "PT000"
    #: True where the same call may succeed later without anybody changing anything. The reference page says so.
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
    """The text is not a sha256 or sha512 digest, or what was pushed has another one."""

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

    def __init__(self, message: str, *, hint: str = "", remembered: bool = False) -> None:
        super().__init__(message, hint=hint)
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


class Unauthorized(RequestError):
    """The client must log in, or its login is wrong. `challenge` is the value of WWW-Authenticate."""

    reference = "PT211"

    def __init__(self, message: str, *, challenge: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.challenge = challenge


class AccessDenied(RequestError):
    """The caller is known and may not do this: no policy allows it, one denies it, or its token has expired."""

    reference = "PT212"


class TooManyLogins(RequestError):
    """More passwords wait to be checked than this engine will spend its processors on."""

    reference = "PT213"
    temporary = True


class AlreadyExists(RequestError):
    """What is to be made is there already."""

    reference = "PT221"


class NotEmpty(RequestError):
    """What is to be removed holds something still."""

    reference = "PT222"


class LimitReached(RequestError):
    """There may be no more of these."""

    reference = "PT223"


class LifecyclePolicyInvalid(RequestError):
    """The text is not a lifecycle policy; the message says why in ECR's words."""

    reference = "PT224"


class ImageArchived(ManifestUnknown):
    """The image is in the archive: it can not be pulled before it is restored."""

    reference = "PT225"


class PushRefused(Denied):
    """Nothing is pushed to this name, nor deleted from it: it is filled from an upstream."""

    reference = "PT231"


class UploadUnknown(RequestError):
    """There is no such upload in this repository: it ended, was cancelled, or is older than a day."""

    reference = "PT232"


class UploadInvalid(RequestError):
    """What was sent for an upload is not what was announced, or too much."""

    reference = "PT233"


class UploadOutOfOrder(RequestError):
    """A chunk does not begin where the upload stands. `size_bytes` is what has arrived."""

    reference = "PT234"

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class UploadBusy(RequestError):
    """Another request is writing to the upload."""

    reference = "PT235"
    temporary = True


class ManifestRefused(RequestError):
    """A pushed manifest is not one that can be stored."""

    reference = "PT236"


class ManifestTooLarge(ManifestRefused):
    """A pushed manifest is larger than registries take."""

    reference = "PT240"


class ManifestBlobUnknown(RequestError):
    """A pushed manifest names blobs, or as an index manifests, that its repository does not have."""

    reference = "PT237"

    def __init__(self, message: str, *, blobs: tuple[str, ...] = (), manifests: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.blobs = blobs
        self.manifests = manifests


class TagImmutable(RequestError):
    """The tag is set, and its repository does not let it name another image."""

    reference = "PT238"


class StillReferenced(RequestError):
    """What is to be deleted is part of an image or an index of the repository."""

    reference = "PT239"


class SecretUnknown(RequestError):
    """There is no such secret, or it has no such version."""

    reference = "PT241"


class SecretNotUsable(RequestError):
    """The secret is there, and this cannot be done with it as it is: it is marked for deletion, for instance."""

    reference = "PT242"


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
    """The upstream gives no connection, no answer in time, or a 5xx; or it was not asked because it just did.

    `is_silence`: the time for the first byte ran out; another try would take as long again.
    """

    reference = "PT304"
    temporary = True

    def __init__(
        self, message: str, *, upstream: str, status: int | None = None, hint: str = "", is_silence: bool = False
    ) -> None:
        super().__init__(message, upstream=upstream, status=status, hint=hint)
        self.is_silence = is_silence


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


class SealingKeyMissing(StorageError):
    """The key that secrets and API keys are encrypted with is not there, is another one, or cannot be used."""

    reference = "PT506"


class ProvisionError(PullthroughError):
    """The module could not plan, apply or verify."""

    reference = "PT600"


class InputMissing(ProvisionError):
    """A user name or token that the declaration needs is missing, malformed, or cannot be read."""

    reference = "PT601"


class TargetUnusable(ProvisionError):
    """There are no AWS credentials, no region, or AWS does not offer pull-through caches there."""

    reference = "PT602"


class ActionDenied(ProvisionError):
    """The caller may not do this. `action` is the IAM action it lacks, such as `ecr:CreatePullThroughCacheRule`."""

    reference = "PT603"

    def __init__(self, message: str, *, action: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.action = action


class AwsRefused(ProvisionError):
    """A call of AWS's API was refused. `code` is AWS's own; `operation` is what was called."""

    reference = "PT604"

    def __init__(self, message: str, *, code: str, operation: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.operation = operation


class AwsUnreachable(ProvisionError):
    """An AWS endpoint gives no connection, no answer in time, or throttles without end."""

    reference = "PT605"
    temporary = True


class PlanProblem(ProvisionError):
    """What is declared and what is there do not go together; the message has every problem."""

    reference = "PT606"


class PlanOutdated(ProvisionError):
    """A saved plan is not what would be planned now: the account, a credential or the declaration has changed."""

    reference = "PT607"


class ApplyFailed(ProvisionError):
    """A step failed. What was done stays done; running it again goes on.

    `done`, `failed` and `not_done` are the steps' ids, such as `rule:docker-hub`.
    """

    reference = "PT608"

    def __init__(
        self,
        message: str,
        *,
        done: tuple[str, ...] = (),
        failed: tuple[str, ...] = (),
        not_done: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.done = done
        self.failed = failed
        self.not_done = not_done
