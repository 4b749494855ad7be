"""Every call of AWS's APIs that the module makes, and the only importer of the AWS SDK.

`Aws.call` takes an operation by the API's own name and repeats it where that is safe: throttling, errors of the server,
and lost connections, after which the caller cannot know whether the call took effect. Whoever makes something settles
that by looking again (`apply`). Errors are translated to ours, with every known secret taken out of their texts.

botocore is imported when a session is made: `pullthrough --help` and exports do without.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import urlsplit

from pullthrough.errors import ActionDenied, AwsRefused, AwsUnreachable, ProvisionError, TargetUnusable
from pullthrough.provision.model.target import DeploymentTarget, region_without_caches
from pullthrough.version import __version__

CONNECT_TIMEOUT_SECONDS = 5.0
#: Validating a rule, and the first pull of an image, wait for another registry.
READ_TIMEOUT_SECONDS = 60.0
#: The region an engine is in unless its settings say otherwise.
ENGINE_REGION = "us-east-1"

_THROTTLED = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
        *("TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "PriorRequestNotComplete"),
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"})
_ACTION_DENIED = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
#: Whoever asks is not known, or not any more.
_UNKNOWN_CALLER = frozenset(
    {
        *("InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException"),
        *("ExpiredToken", "ExpiredTokenException", "RequestExpired", "AuthFailure", "IncompleteSignature"),
        *("MissingAuthenticationToken", "MissingAuthenticationTokenException", "InvalidAccessKeyId", "OptInRequired"),
    }
)
_CREDENTIALS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --profile; for an engine "
    '`eval "$(pullthrough keys show)"` sets them once'
)
_THROTTLED_TRIES = 8
_FAILED_TRIES = 4
_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 0.25, 8.0
#: Reads that go out at once; AWS allows far more, and a plan has about ten.
READERS = 8

P = ParamSpec("P")
T = TypeVar("T")


class Refused(Exception):
    """Raised by `Send` for an error that AWS answered. `Aws` decides what it means, and raises an error of ours."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Lost(Exception):
    """Raised by `Send` where no whole answer came: the call may have taken effect or not."""


class Send(Protocol):
    """Makes one call, once, and returns the SDK's answer with its `ResponseMetadata`.

    Raises Refused and Lost, and ProvisionError for what cannot be sent at all.
    """

    def __call__(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]: ...


@dataclass
class Aws:
    """Thread-safe."""

    send: Send
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    #: Texts that no message may hold, such as access tokens. Grows as they become known.
    secrets: set[str] = field(default_factory=set, repr=False)

    def call(self, service: str, operation: str, /, *, retry: Collection[str] = (), **params: Any) -> dict[str, Any]:
        """One operation such as `("ecr", "CreatePullThroughCacheRule", ecrRepositoryPrefix=...)`.

        `retry` names further codes to try again for, such as AWS's read-after-create races. Raises ActionDenied,
        AwsRefused, AwsUnreachable, TargetUnusable.
        """
        attempt = 0
        while True:
            attempt += 1
            problem: ProvisionError | None = None
            try:
                return self.send(service, operation, params)
            except Refused as refused:
                throttled = refused.code in _THROTTLED or refused.status == 429
                passing = throttled or refused.code in retry or refused.status >= 500
                if not passing or attempt >= (_FAILED_TRIES if refused.status >= 500 else _THROTTLED_TRIES):
                    problem = self._error(service, operation, refused, gave_up=throttled or refused.status >= 500)
            except Lost as lost:
                if attempt >= _FAILED_TRIES:
                    problem = AwsUnreachable(
                        f"{service} gave no answer to {operation}: {self._clean(str(lost))}",
                        hint="is the region, or the endpoint, right, and can this machine reach it?",
                    )
            if problem is not None:
                # Out here, so that the answer, which may quote a secret, does not hang on it as its context.
                raise problem
            most = min(_MOST_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2 ** (attempt - 1))
            self.sleep(most * (0.5 + self.jitter() / 2))

    def pages(self, service: str, operation: str, key: str, /, **params: Any) -> list[dict[str, Any]]:
        """Everything that a paged operation lists under `key`."""
        token_name = "nextToken" if service == "ecr" else "NextToken"
        found: list[dict[str, Any]] = []
        while True:
            answer = self.call(service, operation, **params)
            found += answer.get(key, [])
            token = answer.get(token_name)
            if not token:
                return found
            params[token_name] = token

    def _error(self, service: str, operation: str, refused: Refused, *, gave_up: bool) -> ProvisionError:
        message = self._clean(refused.message)
        if refused.code in _DENIED:
            # A call may need more than the action of its name: iam:PassRole, a TagResource.
            named = _ACTION_DENIED.search(refused.message)
            action = named[1] if named else f"{service}:{operation}"
            return ActionDenied(
                f"AWS does not let this caller do {action}: {message}",
                action=action,
                hint=f"allow {action}; `pullthrough policy operator` prints all that plan and apply need",
            )
        if refused.code in _UNKNOWN_CALLER:
            return TargetUnusable(
                f"the AWS credentials are not taken ({refused.code}): {message}", hint=_CREDENTIALS_HINT
            )
        if gave_up:
            return AwsUnreachable(f"{service} refuses {operation} for too long ({refused.code}): {message}")
        return AwsRefused(
            f"{service} refuses {operation} ({refused.code}): {message}", code=refused.code, operation=operation
        )

    def _clean(self, text: str) -> str:
        # A copy, since other threads add to it; the longest first, since one may be a part of another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            if secret:
                text = text.replace(secret, "…").replace(json.dumps(secret)[1:-1], "…")
        return text


class ReadingPool:
    """Reads that go out together. Use as a context; what was begun is waited for."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="aws")

    def __enter__(self) -> ReadingPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, read: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
        return self._pool.submit(read, *arguments, **keywords)


@dataclass(frozen=True)
class AwsConnection:
    aws: Aws
    target: DeploymentTarget


def connect(
    environ: Mapping[str, str],
    *,
    profile: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
) -> AwsConnection:
    """A session by AWS's usual chain of credentials, and what it leads to. Asks STS who we are; nothing else.

    `endpoint_url` goes before `AWS_ENDPOINT_URL` and the profile's. Raises TargetUnusable.
    """
    send = _Botocore(environ, profile, region, endpoint_url)
    return connected(Aws(send), send.region, send.endpoint, separate_iam="AWS_ENDPOINT_URL_IAM" in environ)


def connected(aws: Aws, region: str, endpoint: str, *, separate_iam: bool = False) -> AwsConnection:
    """The target behind `aws`. `separate_iam`: IAM has an endpoint of its own, so that there is IAM beside an engine."""
    if not endpoint and (where := region_without_caches(region)):
        raise TargetUnusable(
            f"AWS does not offer pull-through caches in {where}, where {region} is",
            hint="an engine can run there: `pullthrough serve`, and --endpoint-url",
        )
    identity = aws.call("sts", "GetCallerIdentity")
    headers = identity.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    is_engine = bool(endpoint) and str(headers.get("server", "")).startswith("pullthrough/")
    target = DeploymentTarget(
        account=identity["Account"],
        region=region,
        endpoint=endpoint,
        is_engine=is_engine,
        has_iam=not is_engine or separate_iam,
        caller=identity["Arn"],
    )
    return AwsConnection(aws, target)


class _Botocore:
    """`Send` by the SDK. Clients are made when they are first used; the SDK's own retries are off."""

    def __init__(
        self, environ: Mapping[str, str], profile: str | None, region: str | None, endpoint_url: str | None
    ) -> None:
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import ProfileNotFound

        self._session = botocore.session.Session(profile=profile)
        self._endpoint_url = endpoint_url
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        try:
            # AWS_REGION is what everything but the SDK of Python reads.
            self.region = region or environ.get("AWS_REGION") or self._session.get_config_variable("region") or ""
        except ProfileNotFound as error:
            raise TargetUnusable(
                f"there is no AWS profile {profile or environ.get('AWS_PROFILE', '')!r}",
                hint="`aws configure list-profiles` lists those that are there",
            ) from error
        if not self.region and (endpoint_url or environ.get("AWS_ENDPOINT_URL")):
            self.region = ENGINE_REGION
        if not self.region:
            raise TargetUnusable("no AWS region is named", hint="use --region, AWS_REGION, or a profile that has one")
        self._config = Config(
            region_name=self.region,
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=READERS,
            user_agent_extra=f"pullthrough/{__version__}",
        )
        url: str = self._client("ecr").meta.endpoint_url
        #: Empty for AWS's own.
        self.endpoint = "" if _is_of_aws(url) else url

    def __call__(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError
        from botocore.exceptions import ConnectionError as ConnectionFailed
        from botocore.parsers import ResponseParserError

        problem: Exception
        try:
            method = getattr(self._client(service), xform_name(operation))
            answer: dict[str, Any] = method(**params)
            return answer
        except ClientError as error:
            told = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            problem = Refused(str(told.get("Code", "Unknown")), str(told.get("Message", "")), status)
        except (HTTPClientError, ConnectionFailed) as error:
            problem = Lost(f"{type(error).__name__} at {_host(self._client(service).meta.endpoint_url)}")
        except ResponseParserError:
            # A proxy's page, say: whether the call reached AWS is not known.
            problem = Lost(f"what answers at {_host(self._client(service).meta.endpoint_url)} does not speak AWS's API")
        except ParamValidationError:
            # Its text quotes values.
            problem = AwsRefused(
                f"the SDK does not send {operation}: a parameter is not as AWS's model of {service} wants it",
                code="ParamValidation",
                operation=operation,
            )
        except BotoCoreError as error:
            # No credentials, a profile that is wrong, a token of SSO that has run out.
            problem = TargetUnusable(f"AWS cannot be asked: {error}", hint=_CREDENTIALS_HINT)
        # Out here, without the SDK's error as its context, whose text may hold what was sent.
        raise problem

    def _client(self, service: str) -> Any:
        from botocore.exceptions import BotoCoreError

        with self._lock:
            if service not in self._clients:
                try:
                    self._clients[service] = self._session.create_client(
                        service, region_name=self.region, endpoint_url=self._endpoint_url, config=self._config
                    )
                except (BotoCoreError, ValueError) as error:
                    raise TargetUnusable(
                        f"AWS cannot be asked: {error}", hint="check --endpoint-url and --region"
                    ) from None
            return self._clients[service]


def _is_of_aws(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"))


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
