"""What each listener answers: here a face is added."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pullthrough.access.assembly import make_authenticator
from pullthrough.access.authentication import Authenticator
from pullthrough.access.authorization import Authorizer
from pullthrough.engine import outcomes
from pullthrough.faces.access_log import AccessLogger, Entry
from pullthrough.faces.control.face import ControlFace
from pullthrough.faces.distribution.face import SERVER_NAME, MirrorFace, RegistryFace
from pullthrough.faces.distribution.fast_path import FastPath
from pullthrough.faces.distribution.health import HealthFace
from pullthrough.faces.distribution.permissions import Permissions
from pullthrough.faces.distribution.pulls import PullFace
from pullthrough.faces.distribution.pushes import PushFace
from pullthrough.faces.distribution.request_log import RequestLog
from pullthrough.faces.ecr.calls import Handlers, registry_identity
from pullthrough.faces.ecr.face import LARGE_AT_ONCE, ApiRequest, EcrFace
from pullthrough.faces.face import Faces
from pullthrough.metrics import Metrics
from pullthrough.server.compose import Worker
from pullthrough.server.opening import Opened
from pullthrough.server.operations import make_operations
from pullthrough.settings import ListenAddress
from pullthrough.storage.catalog.templates import CreationTemplates

_STANDARD_OUTPUT = 1
#: The kind of an API request in log lines and metrics.
_API = "api"


@dataclass(frozen=True)
class ServedFaces:
    """By listener."""

    main: Faces
    #: By the prefix of the rule that the listener is bound to.
    mirrors: Mapping[str, Faces]
    control: Faces


def make_faces(worker: Worker, shared: Opened, stack: AsyncExitStack, *, has_tls: bool) -> ServedFaces:
    """`stack` closes what they need.

    Raises ConfigurationError where a file that the settings name cannot be used.
    """
    basis, storage = worker.basis, worker.basis.storage
    settings = basis.settings
    authenticator = make_authenticator(
        settings,
        database=storage.catalog.database,
        sealer=storage.sealer,
        generation=storage.configuration_generation,
        call=basis.threads.catalog,
        clock=basis.clock,
        url_key=shared.url_key,
    )
    stack.callback(authenticator.close)
    authorizer = Authorizer(settings, basis.configuration, clock=basis.clock)
    access_log = _make_access_log(worker, stack)
    registry = _make_registry_face(worker, authenticator, authorizer, access_log)
    api_threads = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="api")
    stack.callback(api_threads.shutdown)
    main = shared.listeners[0]
    identity = registry_identity(settings.ecr, ListenAddress(main.address.host, main.port), has_tls=has_tls)
    record = functools.partial(_record_api, basis.metrics, access_log)
    apis = EcrFace(
        identity,
        authenticator,
        authorizer,
        make_handlers=functools.partial(_make_handlers, worker, authenticator, authorizer),
        configuration=basis.configuration,
        tasks=basis.tasks,
        call=basis.threads.catalog,
        clock=basis.clock,
        record=record,
        server_name=SERVER_NAME,
        threads=api_threads,
    )
    return ServedFaces(
        main=Faces(apis, registry),
        mirrors={prefix: Faces(MirrorFace(registry, prefix)) for prefix in settings.serve.mirrors.values()},
        control=Faces(ControlFace(make_operations(worker))),
    )


def _make_registry_face(
    worker: Worker, authenticator: Authenticator, authorizer: Authorizer, access_log: AccessLogger
) -> RegistryFace:
    basis, pulling, storage = worker.basis, worker.pulling, worker.basis.storage
    ecr = basis.settings.ecr
    permissions = Permissions(
        authenticator,
        authorizer,
        storage.repositories,
        storage.catalog.manifests,
        basis.threads.catalog,
        region=ecr.region,
        account=ecr.account,
    )
    log = RequestLog(basis.metrics, access_log)
    return RegistryFace(
        configuration=basis.configuration,
        permissions=permissions,
        pulls=PullFace(
            pulls=pulling.pulls,
            manifests=pulling.manifests,
            blobs=pulling.blobs,
            repositories=storage.repositories,
            configuration=basis.configuration,
            pull_times=basis.pull_times,
            permissions=permissions,
            threads=basis.threads,
            server_name=SERVER_NAME,
        ),
        pushes=PushFace(
            blobs=worker.pushing.blobs,
            manifests=worker.pushing.manifests,
            configuration=basis.configuration,
            tasks=basis.tasks,
            permissions=permissions,
        ),
        health=HealthFace(
            degradation=worker.keeping.degradation,
            upstreams=basis.upstreams,
            metrics=basis.metrics,
            tasks=basis.tasks,
            call=basis.threads.catalog,
        ),
        fast_path=FastPath(
            configuration=basis.configuration,
            manifests=pulling.manifests,
            pull_times=basis.pull_times,
            authorizer=authorizer,
            server_name=SERVER_NAME,
            record=log.add,
            clock=time.time,
        ),
        log=log,
    )


def _make_handlers(worker: Worker, authenticator: Authenticator, authorizer: Authorizer) -> Handlers:
    # Here, not above: a start should not wait for what only the APIs need.
    from pullthrough.faces.ecr.handlers import make_handlers
    from pullthrough.faces.ecr.registry.cache_rules import written_rules

    basis, pulling, storage = worker.basis, worker.pulling, worker.basis.storage
    return make_handlers(
        strict=basis.settings.ecr.strict,
        written=written_rules(basis.settings.rules),
        authenticator=authenticator,
        authorizer=authorizer,
        run=basis.threads.catalog,
        cache_rules=storage.cache_rules,
        configuration=basis.configuration,
        document_rows=storage.documents,
        events=basis.events,
        exclusions=storage.exclusions,
        images=storage.images,
        lifecycle_runs=worker.keeping.lifecycle_runs,
        lifecycles=storage.lifecycles,
        listings=pulling.listings,
        manifest_rows=storage.catalog.manifests,
        manifests=pulling.manifests,
        pull_times=basis.pull_times,
        pushed=storage.pushed,
        push_admission=worker.pushing.admission,
        blob_pushes=worker.pushing.blobs,
        manifest_pushes=worker.pushing.manifests,
        referrers=storage.referrers,
        repositories=storage.repositories,
        secrets=storage.secrets,
        templates=CreationTemplates(storage.catalog.database),
        upstreams=basis.upstreams,
    )


def _make_access_log(worker: Worker, stack: AsyncExitStack) -> AccessLogger:
    serve = worker.basis.settings.serve
    thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")
    locks = worker.basis.storage.locks if serve.workers > 1 else None
    access_log = AccessLogger(serve.access_log, _STANDARD_OUTPUT, thread, locks)
    stack.callback(access_log.close)
    stack.callback(thread.shutdown)
    return access_log


def _record_api(metrics: Metrics, access_log: AccessLogger, api: ApiRequest) -> None:
    """The log line and the metric of an API request, in the registry requests' form."""
    metrics.request(_API, outcomes.CacheResult.NONE.value, "", api.sent_bytes)
    request = api.request
    access_log.add(
        Entry(
            api.started_at,
            request.remote or "",
            request.method,
            api.path,
            api.status,
            api.sent_bytes,
            api.seconds,
            _API,
            outcomes.CacheResult.NONE.value,
            "",
            api.reason,
            request.headers.get("User-Agent", ""),
        )
    )
