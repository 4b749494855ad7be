"""The face of the AWS APIs: requests in, answers out. Thin: what happens is the handlers' business.

    which operation -> who says to ask -> the body -> who asks -> parse and validate -> may they -> handler -> answer
    -> log line and metric

No byte of a body is taken before the request's head has named a key that there is. Whatever is wrong is answered as AWS
does, in the protocol that the request speaks. Nothing of a request's content reaches the log.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from aiohttp import web

from pullthrough.access.authentication import Authenticator, Claimed
from pullthrough.access.authorization import Authorizer
from pullthrough.access.logins.canonical_requests import SignedRequest
from pullthrough.access.logins.signatures import ApiDenied
from pullthrough.access.principals import Principal
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import PullthroughError
from pullthrough.faces.ecr.calls import Call, Handler, Handlers, Input, Output, RegistryIdentity, check_registry
from pullthrough.faces.ecr.resources import request_tags_of, resources_of
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire import protocol
from pullthrough.faces.ecr.wire.bodies import SMALL_BYTES, RequestBodies, is_left
from pullthrough.faces.ecr.wire.errors import ApiError, api_error
from pullthrough.faces.ecr.wire.inputs import parse_json, read_input
from pullthrough.faces.ecr.wire.models import Operation, Service, service_model
from pullthrough.faces.ecr.wire.outputs import OutputMismatch, is_large
from pullthrough.faces.ecr.wire.room import BodyOwner
from pullthrough.faces.face import FastAnswer
from pullthrough.fairness.asker import ASKER, client_of
from pullthrough.threads import Runner, wait_out

_log = logging.getLogger(__name__)
#: Bodies above SMALL_BYTES are hashed and parsed in so many threads; each takes several times its size meanwhile.
LARGE_AT_ONCE = 2
#: Operations that every caller may use, as on AWS.
_OPEN_TO_ALL = frozenset({("sts", "GetCallerIdentity")})
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class ApiRequest:
    """One request on its way through, for its log line and metric."""

    request: web.BaseRequest
    started_at: float
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    asked: protocol.RequestedOperation = protocol.NO_OPERATION
    service: Service | None = None
    #: The codes of errors that the operation's model has.
    declared: frozenset[str] = frozenset()
    status: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def path(self) -> str:
        """Without the query, which in a presigned request holds the signature."""
        return self.request.raw_path.partition("?")[0]

    @property
    def reason(self) -> str:
        """`ecr:CreateRepository`, and the error's code behind it."""
        if self.service is None or self.asked.operation not in self.service.operation_names:
            return self.error
        return f"{self.asked.service}:{self.asked.operation} {self.error}".rstrip()


@dataclass(frozen=True, slots=True)
class _Found:
    """An operation that can be called."""

    service: Service
    operation: Operation
    handler: Handler


#: Told of every request when it has been answered.
Record = Callable[[ApiRequest], None]


class EcrFace:
    """Answers all API requests of one worker's main listener."""

    at_once: FastAnswer | None = None

    def __init__(
        self,
        registry: RegistryIdentity,
        authenticator: Authenticator,
        authorizer: Authorizer,
        *,
        make_handlers: Callable[[], Handlers],
        configuration: Configuration,
        tasks: Tasks,
        call: Runner,
        clock: Callable[[], float],
        record: Record,
        server_name: str,
        threads: ThreadPoolExecutor,
    ) -> None:
        """`make_handlers` is called in a thread, at the first request. `threads`: LARGE_AT_ONCE of them, for large bodies,
        which are not to hold up the catalog's."""
        self._registry = registry
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._make_handlers = make_handlers
        self._configuration = configuration
        self._tasks = tasks
        self._call = call
        self._clock = clock
        self._record = record
        self._server_name = server_name
        self._handlers: Handlers | None = None
        self._found: dict[tuple[str, str], _Found] = {}
        self._bodies = RequestBodies()
        self._rights = Rights(authorizer)
        self._threads = threads

    def takes(self, request: web.BaseRequest) -> bool:
        return protocol.is_api_request(request.method, request.raw_path, request.headers)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        api = ApiRequest(request, self._clock())
        ASKER.set(client_of(request.remote))
        try:
            response = await self._answer(api)
            api.status = response.status
            api.sent_bytes = len(response.body) if isinstance(response.body, bytes) else 0
            response.headers["x-amzn-RequestId"] = api.request_id
            response.headers["Server"] = self._server_name
            return response
        finally:
            api.seconds = time.perf_counter() - started
            self._record(api)

    async def _answer(self, api: ApiRequest) -> web.Response:
        request = api.request
        # An error of a request that is in no protocol of ours is told in the one that it resembles.
        dialect = protocol.Dialect.JSON
        try:
            dialect = protocol.dialect_of(request.method, request.headers)
            body = await self._dispatch(api, dialect)
            return web.Response(body=body, headers={"Content-Type": protocol.content_type(dialect)})
        except ApiError as raised:
            error = raised
        except ApiDenied as denied:
            error = ApiError(denied.code, denied.message, denied.status)
        except PullthroughError as ours:
            error = api_error(ours, api.asked.service or "ecr", api.declared)
        except (ConnectionError, asyncio.CancelledError):
            raise  # the client has gone
        except Exception as unexpected:
            _log.error(
                "request %s (%s) failed: %s\n%s",
                api.request_id,
                api.reason or "no operation",
                # Without the error's own text, but for ours: a database's quotes values.
                repr(unexpected) if isinstance(unexpected, OutputMismatch) else type(unexpected).__name__,
                "".join(traceback.format_tb(unexpected.__traceback__)),
            )
            code = {"ecr": "ServerException", "secretsmanager": "InternalServiceError"}.get(api.asked.service)
            error = ApiError(code or "InternalFailure", "the engine failed; its log says why", 500)
        api.error = error.code
        status, body = protocol.error_answer(dialect, error, api.service, api.request_id)
        response = web.Response(status=status, body=body, headers={"Content-Type": protocol.content_type(dialect)})
        if is_left(request):
            response.force_close()  # what comes of the body is thrown away for a while, so that the answer is seen
        return response

    async def _dispatch(self, api: ApiRequest, dialect: protocol.Dialect) -> bytes:
        request, signed = api.request, _signed(api.request)
        if dialect is protocol.Dialect.JSON:
            api.asked = protocol.json_operation(request.headers)
            found = await self._find(api)
            claimed = await self._authenticator.read_api_claim(signed, api.asked.service)
            limit = api.asked.max_body_bytes
            if (body := self._bodies.read_now(request, limit)) is not None:
                principal = await self._authenticator.authenticate_api(
                    claimed, signed, _sha256(body), api.asked.service, is_late=False
                )
                return await self._perform(api, found, principal, _input(found, body))
            async with self._bodies.read(request, limit, _sender(request, claimed)) as body:
                principal, input = await self._read(api, found, claimed, signed, body)
                del body
        else:
            # A form's operation is in its body; a GET's is in its head, and may be refused first, as on AWS.
            api.asked = protocol.RequestedOperation(dialect, protocol.QUERY_SERVICE, "")
            if request.method == "GET":
                api.asked = protocol.query_operation(signed.raw_query, b"")
            claimed = await self._authenticator.read_api_claim(signed, protocol.QUERY_SERVICE)
            async with self._bodies.read(request, protocol.MAX_FORM_BYTES, _sender(request, claimed)) as body:
                api.asked = protocol.query_operation(signed.raw_query, body)
                found = await self._find(api)
                principal, input = await self._read(api, found, claimed, signed, body)
        return await self._perform(api, found, principal, input)

    async def _read(
        self, api: ApiRequest, found: _Found, claimed: Claimed | None, signed: SignedRequest, body: bytes
    ) -> tuple[Principal, Input]:
        """Who asks, and for what."""
        service = api.asked.service
        call = _at_once if len(body) <= SMALL_BYTES else self._in_thread
        principal = await self._authenticator.authenticate_api(claimed, signed, await call(_sha256, body), service)
        return principal, await call(_input, found, body)

    async def _in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """To its end, though the client goes away: until then the body is held, and counts as held."""
        work = functools.partial(function, *args, **kwargs)
        return await wait_out(asyncio.get_running_loop().run_in_executor(self._threads, work))

    async def _perform(self, api: ApiRequest, found: _Found, principal: Principal, input: Input) -> bytes:
        if not self._configuration.is_current:
            await self._configuration.refresh()
        await self._authorizer.prepare(principal)
        call = Call(self._registry, principal, self._clock(), api.request.remote, request_tags_of(input))
        self._authorize(found.operation, call, input)
        # To its end, though the client goes away in the middle: what was begun is not left half done.
        work = self._tasks.spawn(_outcome(found.handler(call, input)), name=api.reason)
        output = await asyncio.shield(work)
        if isinstance(output, Exception):
            raise output
        write = protocol.output_body
        if is_large(output):
            return await self._call(write, found.service, found.operation, output, api.request_id)
        return write(found.service, found.operation, output, api.request_id)

    def _authorize(self, operation: Operation, call: Call, input: Input) -> None:
        """Raises ApiError for another registry than ours, and AccessDenied."""
        if "registryId" in operation.input.members or "registryIds" in operation.input.members:
            check_registry(self._registry, input, knows_repositories="RepositoryNotFoundException" in operation.errors)
        if (operation.service, operation.name) in _OPEN_TO_ALL:
            return
        action = f"{operation.service}:{operation.name}"
        for resource in resources_of(operation, input, self._registry):
            self._rights.check(call, action, resource.arn, repository=resource.repository, resource_tags=resource.tags)

    async def _find(self, api: ApiRequest) -> _Found:
        """Raises ApiError for an operation that AWS does not have, or this engine does not offer."""
        asked = api.asked
        found = self._found.get((asked.service, asked.operation))
        if found is None:
            # Loads the models, and imports what the APIs need, at the first request.
            api.service = service = await self._call(service_model, asked.service)
            if asked.operation not in service.operation_names:
                protocol.unknown_operation(asked, f"in version {service.api_version} of {service.name}")
            if self._handlers is None:
                self._handlers = await self._call(self._make_handlers)
            handler = self._handlers[asked.service].get(asked.operation)
            if handler is None:
                protocol.unknown_operation(asked, f"here: {service.name} has it, but this engine does not offer it")
            operation = await self._call(service.operation, asked.operation)
            found = self._found[asked.service, asked.operation] = _Found(service, operation, handler)
        api.service = found.service
        api.declared = found.operation.errors
        return found


async def _outcome(work: Awaitable[Output]) -> Output | Exception:
    """An error as a value: a refused operation is not logged as a failed task."""
    try:
        return await work
    except Exception as error:
        return error


async def _at_once(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _sender(request: web.BaseRequest, claimed: Claimed | None) -> BodyOwner:
    return BodyOwner(client_of(request.remote), claimed.key.access_key_id if claimed is not None else "")


def _signed(request: web.BaseRequest) -> SignedRequest:
    path, _, query = request.raw_path.partition("?")
    headers = [
        (name.decode(errors="surrogateescape"), value.decode(errors="surrogateescape"))
        for name, value in request.raw_headers
    ]
    return SignedRequest(request.method, path, query, headers)


def _input(found: _Found, body: bytes) -> Input:
    """The one operation of the query protocol that is offered takes no input."""
    return read_input(found.operation, parse_json(body) if found.service.xml_namespace is None else {})
