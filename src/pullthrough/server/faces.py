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
from pullthrough.distribution.access_log import AccessLogger, Entry
from pullthrough.distribution.face import SERVER_NAME, MirrorFace, RegistryFace
from pullthrough.distribution.fast_path import FastPath
from pullthrough.distribution.health import HealthFace
from pullthrough.distribution.permissions import Permissions
from pullthrough.distribution.pulls import PullFace
from pullthrough.distribution.pushes import PushFace
from pullthrough.distribution.request_log import RequestLog
from pullthrough.ecr.calls import Handlers, registry_identity
from pullthrough.ecr.face import LARGE_AT_ONCE, ApiRequest, EcrFace
from pullthrough.engine import outcomes
from pullthrough.engine.engine import Engine
from pullthrough.faces.control.face import ControlFace
from pullthrough.faces.face import Faces
from pullthrough.metrics import Metrics
from pullthrough.operations.assembly import make_operations
from pullthrough.server.opening import Opened
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


def make_faces(engine: Engine, shared: Opened, stack: AsyncExitStack, *, has_tls: bool) -> ServedFaces:
    """`stack` closes what they need.

    Raises ConfigurationError where a file that the settings name cannot be used.
    """
    settings = engine.settings
    authenticator = make_authenticator(
        settings,
        database=engine.catalog.database,
        sealer=engine.sealer,
        generation=engine.configuration_generation,
        call=engine.threads.catalog,
        clock=engine.clock,
        url_key=shared.url_key,
    )
    stack.callback(authenticator.close)
    authorizer = Authorizer(settings, engine.configuration, clock=engine.clock)
    access_log = _make_access_log(engine, stack)
    registry = _make_registry_face(engine, authenticator, authorizer, access_log)
    api_threads = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="api")
    stack.callback(api_threads.shutdown)
    main = shared.listeners[0]
    identity = registry_identity(settings.ecr, ListenAddress(main.address.host, main.port), has_tls=has_tls)
    record = functools.partial(_record_api, engine.metrics, access_log)
    apis = EcrFace(
        identity,
        authenticator,
        authorizer,
        make_handlers=functools.partial(_make_handlers, engine, authenticator, authorizer),
        configuration=engine.configuration,
        tasks=engine.tasks,
        call=engine.threads.catalog,
        clock=engine.clock,
        record=record,
        server_name=SERVER_NAME,
        threads=api_threads,
    )
    return ServedFaces(
        main=Faces(apis, registry),
        mirrors={prefix: Faces(MirrorFace(registry, prefix)) for prefix in settings.serve.mirrors.values()},
        control=Faces(ControlFace(make_operations(engine))),
    )


def _make_registry_face(
    engine: Engine, authenticator: Authenticator, authorizer: Authorizer, access_log: AccessLogger
) -> RegistryFace:
    ecr = engine.settings.ecr
    permissions = Permissions(
        authenticator,
        authorizer,
        engine.repositories,
        engine.catalog.manifests,
        engine.threads.catalog,
        region=ecr.region,
        account=ecr.account,
    )
    log = RequestLog(engine.metrics, access_log)
    return RegistryFace(
        configuration=engine.configuration,
        permissions=permissions,
        pulls=PullFace(
            pulls=engine.pulls,
            manifests=engine.manifests,
            blobs=engine.blobs,
            repositories=engine.repositories,
            configuration=engine.configuration,
            pull_times=engine.pull_times,
            permissions=permissions,
            threads=engine.threads,
            server_name=SERVER_NAME,
        ),
        pushes=PushFace(
            blobs=engine.blob_pushes,
            manifests=engine.manifest_pushes,
            configuration=engine.configuration,
            tasks=engine.tasks,
            permissions=permissions,
        ),
        health=HealthFace(
            degradation=engine.degradation,
            upstreams=engine.upstreams,
            metrics=engine.metrics,
            tasks=engine.tasks,
            call=engine.threads.catalog,
        ),
        fast_path=FastPath(
            configuration=engine.configuration,
            manifests=engine.manifests,
            pull_times=engine.pull_times,
            authorizer=authorizer,
            server_name=SERVER_NAME,
            record=log.add,
            clock=time.time,
        ),
        log=log,
    )


def _make_handlers(engine: Engine, authenticator: Authenticator, authorizer: Authorizer) -> Handlers:
    # Here, not above: a start should not wait for what only the APIs need.
    from pullthrough.ecr.operations import make_handlers
    from pullthrough.ecr.rules import written_rules

    return make_handlers(
        strict=engine.settings.ecr.strict,
        written=written_rules(engine.settings.rules),
        authenticator=authenticator,
        authorizer=authorizer,
        run=engine.threads.catalog,
        cache_rules=engine.cache_rules,
        configuration=engine.configuration,
        document_rows=engine.document_rows,
        events=engine.events,
        exclusions=engine.exclusions,
        images=engine.images,
        lifecycle_runs=engine.lifecycle_runs,
        lifecycles=engine.lifecycles,
        listings=engine.listings,
        manifest_rows=engine.catalog.manifests,
        manifests=engine.manifests,
        pull_times=engine.pull_times,
        pushed=engine.pushed,
        push_admission=engine.push_admission,
        blob_pushes=engine.blob_pushes,
        manifest_pushes=engine.manifest_pushes,
        referrers=engine.referrers,
        repositories=engine.repositories,
        secrets=engine.secrets,
        templates=CreationTemplates(engine.catalog.database),
        upstreams=engine.upstreams,
    )


def _make_access_log(engine: Engine, stack: AsyncExitStack) -> AccessLogger:
    serve = engine.settings.serve
    thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")
    access_log = AccessLogger(serve.access_log, _STANDARD_OUTPUT, thread, engine.locks if serve.workers > 1 else None)
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
