"""Composition root of the engine: settings in, a running server out.

workers = 1     one process: this one
workers = N     this process binds the sockets, holds the folder's lock and looks after N forked workers, which
                share the sockets and the folder; they die with it, and one that dies alone is replaced
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import functools
import logging
import os
import resource
import shlex
import shutil
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pullthrough.engine import outcomes
from pullthrough.engine.webhook import check_secret
from pullthrough.errors import ConfigurationError, PullthroughError
from pullthrough.settings import EcrAuth, ListenAddress, Loaded, Loop, ServeSettings, Settings, parse_listen
from pullthrough.storage.folder import DataFolder
from pullthrough.storage.generation import Generation
from pullthrough.units import format_bytes

if TYPE_CHECKING:
    from pullthrough.distribution.access_log import AccessLogger
    from pullthrough.ecr.face import Exchange as ApiExchange
    from pullthrough.engine.blobs import Patience
    from pullthrough.engine.engine import Engine

_log = logging.getLogger("pullthrough")

#: How long answers in flight may go on after SIGTERM; systemd waits 90 s by default, Kubernetes 30 s.
_GRACE_SECONDS = 25.0
#: Ctrl-C, and systemd, signal every process of the group, and the parent tells its workers as well: one wish, twice.
_SAME_SIGNAL_SECONDS = 1.0
_BACKLOG = 1024
#: Of the control socket: commands that somebody runs on this machine.
_MAX_CONTROL_CONNECTIONS = 64
_STANDARD_OUTPUT = 1
#: The kind of an API request in log lines and metrics.
_API = "api"
#: Of the HMAC that signs download URLs: as long as its digest.
_URL_KEY_BYTES = 32
_MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PR_SET_PDEATHSIG = 1
#: A worker that dies sooner than this after its start was not killed by chance: wait before the next one.
_RESTART_PAUSE_SECONDS = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


# --- sockets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listener:
    """Bound sockets of one address. `mirror` is the prefix of the rule they are bound to; None for the main listener."""

    address: ListenAddress
    sockets: tuple[socket.socket, ...]
    mirror: str | None

    @property
    def port(self) -> int:
        """The one that was really bound."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    def url(self, scheme: str) -> str:
        return f"{scheme}://{ListenAddress(self.address.host, self.port)}"


def _bind(address: ListenAddress, mirror: str | None) -> Listener:
    """Exclusively: a second engine on the port must fail, not share it. Raises ConfigurationError."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = address.port
        for family, kind, protocol, _, where in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((where[0], port, *where[2:]))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            port = port or listening.getsockname()[1]
    except OSError as error:
        for listening in sockets:
            listening.close()
        reasons = {
            errno.EADDRINUSE: (
                f"{address} is in use",
                "stop what listens there, or choose another address with --listen",
            ),
            errno.EACCES: (f"this user may not listen on {address}", "choose a port above 1023 with --listen"),
            errno.EADDRNOTAVAIL: (f"{address} is no address of this machine", "choose another one with --listen"),
        }
        message, hint = reasons.get(error.errno or 0, (f"cannot listen on {address}: {error}", "check serve.listen"))
        raise ConfigurationError(message, hint=hint) from error
    return Listener(address, tuple(sockets), mirror)


def _bind_control(path: Path) -> socket.socket:
    """Only while holding the folder's lock: what stands there is then a dead engine's."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Through the folder's descriptor, since sun_path holds 107 bytes only: unix(7).
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    mask = os.umask(0o177)
    try:
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.umask(mask)
        os.close(folder)
    listening.listen(_BACKLOG)
    listening.setblocking(False)
    return listening


def _tls(serve: ServeSettings) -> ssl.SSLContext | None:
    if serve.tls_cert is None or serve.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, serve)
    return context


def _load_certificate(context: ssl.SSLContext, serve: ServeSettings) -> None:
    assert serve.tls_cert is not None
    try:
        context.load_cert_chain(serve.tls_cert, serve.tls_key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"the certificate {serve.tls_cert} with the key {serve.tls_key} cannot be used: {error}",
            hint="tls_cert and tls_key must be PEM files that belong together, the key without a pass phrase",
        ) from error


def _no_password() -> NoReturn:
    raise ValueError("the key has a pass phrase")


# --- one worker ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A worker that serves."""

    engine: Engine
    url: str
    reload: Callable[[], None]


@asynccontextmanager
async def _working(
    settings: Settings,
    folder: DataFolder,
    listeners: list[Listener],
    control_socket: socket.socket,
    *,
    slot: int,
    slots: int,
    url_key: bytes,
    patience: Patience | None = None,
) -> AsyncIterator[Running]:
    """Serve on the sockets until the block ends; then answers in flight finish. `url_key` is the same in all workers."""
    # Here, not above: the parent of several workers needs none of it, and the command line's start should not wait.
    from aiohttp import web

    from pullthrough.access.assembly import make_access, make_key_administration
    from pullthrough.control import Control
    from pullthrough.distribution.acceptor import Notices
    from pullthrough.distribution.access_log import AccessLogger
    from pullthrough.distribution.admission import Admission
    from pullthrough.distribution.face import SERVER_NAME, Face
    from pullthrough.distribution.listener import Runner
    from pullthrough.ecr.calls import registry_identity
    from pullthrough.ecr.face import LARGE_AT_ONCE, EcrFace
    from pullthrough.engine.engine import Engine
    from pullthrough.metrics import Metrics

    serve = settings.serve
    tls = _tls(serve)
    async with AsyncExitStack() as stack:
        engine = Engine(settings, folder, slot=slot, slots=slots, metrics=Metrics(), patience=patience)
        stack.push_async_callback(engine.close)
        access = make_access(engine, url_key=url_key)
        stack.callback(access.close)
        api_threads = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="api")
        stack.callback(api_threads.shutdown)
        log_thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")
        locks = engine.locks if serve.workers > 1 else None
        access_log = AccessLogger(serve.access_log, _STANDARD_OUTPUT, log_thread, locks)
        stack.callback(access_log.close)
        stack.callback(log_thread.shutdown)
        face, control = Face(engine, access_log, access), Control(engine, make_key_administration(engine))
        stopping: list[Runner] = []

        async def stop() -> None:
            await asyncio.gather(*(runner.cleanup() for runner in stopping))

        stack.push_async_callback(stop)
        scheme = "https" if tls else "http"
        main = ListenAddress(listeners[0].address.host, listeners[0].port)
        registry = registry_identity(settings.ecr, main, has_tls=tls is not None)
        record = functools.partial(_record_api, engine, access_log)
        apis = EcrFace(engine, access, registry, record, SERVER_NAME, api_threads)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            """The main listener's requests: the APIs have its address too."""
            return await (apis if apis.is_api_request(request) else face).handle(request)

        admission, notices = Admission(_max_connections()), Notices(time.monotonic)
        for listener in listeners:
            runner = Runner(
                functools.partial(face.handle, mirror=listener.mirror) if listener.mirror is not None else handle,
                admission,
                notices,
                shutdown_timeout_seconds=_GRACE_SECONDS,
                fast=functools.partial(face.fast, mirror=listener.mirror),
            )
            stopping.append(runner)
            for listening in listener.sockets:
                runner.listen(listening, tls=tls)
        control_admission = Admission(_MAX_CONTROL_CONNECTIONS)
        control_runner = Runner(control.handle, control_admission, notices, shutdown_timeout_seconds=1.0)
        stopping.append(control_runner)
        control_runner.listen(control_socket)
        engine.start()

        def reload() -> None:
            if tls is not None:
                try:
                    _load_certificate(tls, serve)
                    _log.info("the certificate was read again")
                except ConfigurationError as error:
                    _log.error("the old certificate stays in use: %s", error)

        yield Running(
            engine,
            listeners[0].url(scheme),
            reload,
        )


def _record_api(engine: Engine, access_log: AccessLogger, exchange: ApiExchange) -> None:
    """The log line and the metric of an API request, in the registry requests' form."""
    from pullthrough.distribution.access_log import Entry

    engine.metrics.request(_API, outcomes.CacheResult.NONE.value, "", exchange.sent_bytes)
    request = exchange.request
    access_log.add(
        Entry(
            exchange.started_at,
            request.remote or "",
            request.method,
            exchange.path,
            exchange.status,
            exchange.sent_bytes,
            exchange.seconds,
            _API,
            outcomes.CacheResult.NONE.value,
            "",
            exchange.reason,
            request.headers.get("User-Agent", ""),
        )
    )


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[DataFolder, list[Listener], socket.socket]]:
    """The folder, locked and swept of what a crash left, and all sockets, bound."""
    from pullthrough.engine.check import sweep
    from pullthrough.engine.degraded import Degraded
    from pullthrough.engine.owners import look_at_owners
    from pullthrough.storage.blobs import BlobStore
    from pullthrough.storage.catalog import Catalog

    serve = settings.serve
    with DataFolder.open(serve.data) as folder:
        listeners: list[Listener] = []
        try:
            listeners.append(_bind(parse_listen(serve.listen), None))
            listeners += [_bind(parse_listen(listen), prefix) for listen, prefix in serve.mirrors.items()]
            degraded = Degraded(folder.degraded_path)
            degraded.clear()
            degraded.close()
            catalog = Catalog.open(folder.catalog_path)
            try:
                swept = sweep(catalog, BlobStore(folder))
                look_at_owners(settings, catalog)
            finally:
                catalog.close()
            if swept.removed_files or swept.adopted_blobs:
                _log.info(
                    "after the last run: removed %d leftover files (%s), took up %d blobs",
                    swept.removed_files,
                    format_bytes(swept.removed_bytes),
                    swept.adopted_blobs,
                )
            control = _bind_control(folder.control_socket_path)
            try:
                yield folder, listeners, control
            finally:
                control.close()
                folder.control_socket_path.unlink(missing_ok=True)
        finally:
            for listener in listeners:
                for listening in listener.sockets:
                    listening.close()


@asynccontextmanager
async def running(settings: Settings, *, patience: Patience | None = None) -> AsyncIterator[Running]:
    """An engine in this process and event loop, with one worker; for the demo, and for tests, which have less patience."""
    with _opened(settings) as (folder, listeners, control):
        url_key = os.urandom(_URL_KEY_BYTES)
        async with _working(
            settings, folder, listeners, control, slot=1, slots=2, url_key=url_key, patience=patience
        ) as worker:
            yield worker


def _loop_factory(which: Loop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop alone has no sendfile: it is used with aiofastnet's transports, which have, or not at all."""
    if which is Loop.ASYNCIO:
        return None
    try:
        import aiofastnet
        import uvloop
    except ImportError:
        return None
    fast = aiofastnet.loop_factory(uvloop.new_event_loop)

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = fast()
        # The one way to a transport that its factory leaves as uvloop has it.
        loop.connect_accepted_socket = functools.partial(aiofastnet.connect_accepted_socket, loop)  # type: ignore[method-assign]
        return loop

    return make


async def _work(
    settings: Settings,
    folder: DataFolder,
    listeners: list[Listener],
    control: socket.socket,
    *,
    slot: int,
    slots: int,
    url_key: bytes,
    ready: Callable[[Running], None],
) -> None:
    """Serve until SIGTERM or SIGINT; a second one, later, ends at once."""
    import_aiohttp()
    from pullthrough.distribution.acceptor import without_handshakes

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(without_handshakes)
    stop = asyncio.Event()
    asked_at = 0.0

    def asked_to_stop() -> None:
        nonlocal asked_at
        if not stop.is_set():
            asked_at = loop.time()
            _log.info("stopping: answers in flight have %d s to finish", _GRACE_SECONDS)
            stop.set()
        elif loop.time() - asked_at > _SAME_SIGNAL_SECONDS:
            os._exit(130)

    async with _working(settings, folder, listeners, control, slot=slot, slots=slots, url_key=url_key) as worker:
        loop.add_signal_handler(signal.SIGTERM, asked_to_stop)
        loop.add_signal_handler(signal.SIGINT, asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, worker.reload)
        ready(worker)
        await stop.wait()


def import_aiohttp() -> None:
    """Without the system's certificates, which its client, that serves nobody here, reads as it is imported: 2 MB, 50 ms.

    https://docs.openssl.org/master/man3/SSL_CTX_set_default_verify_paths/
    """
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        import aiohttp  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- the command -----------------------------------------------------------------------------------------------------


def serve(loaded: Loaded) -> int:
    """Run the engine until a signal ends it. Prints and logs by itself; returns the exit code.

    Raises ConfigurationError and StorageError for what keeps it from starting.
    """
    _keep_private()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # They warn of each write to a connection that the client has left.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("aiofastnet").setLevel(logging.ERROR)
    for warning in loaded.warnings:
        _log.warning("%s", warning)
    settings = loaded.settings
    if settings.ecr.webhook_secret_file is not None:
        check_secret(settings.ecr.webhook_secret_file)
    _allow_open_files()
    with _opened(settings) as (folder, listeners, control):
        if settings.serve.workers == 1:
            with asyncio.Runner(loop_factory=_loop_factory(settings.serve.loop)) as runner:
                runner.run(
                    _work(
                        settings,
                        folder,
                        listeners,
                        control,
                        slot=1,
                        slots=2,
                        url_key=os.urandom(_URL_KEY_BYTES),
                        ready=lambda _: _announce(settings, listeners),
                    )
                )
            return 0
        return _Parent(settings, folder, listeners, control).run()


def _keep_private() -> None:
    """What this process writes, and those that it starts, is for its owner alone, whatever it was started with; and where
    it crashes, it leaves no core, which would hold keys and tokens."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _allow_open_files() -> None:
    """As many as the system lets us have: the usual soft limit of 1,024 is for programs that use select(2), and each
    client takes a socket, most of them a file as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _max_connections() -> int:
    """Of a worker, whatever listeners they come in by: half of the files it may open, for each client may want one beside
    its socket; but for an eighth of them, which fills, the catalog, logs and upstreams want."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (limit - limit // 8) // 2)


def _announce(settings: Settings, listeners: list[Listener]) -> None:
    """What a person needs first, then the log line that means ready."""
    from pullthrough.access.access import pulls_are_open

    scheme = "https" if settings.serve.tls_cert else "http"
    url = listeners[0].url(scheme)
    host = url.partition("://")[2]
    lines = [f"pullthrough serves {url}, data in {settings.serve.data}", ""]
    width = max((len(rule.prefix) for rule in settings.rules), default=0)
    lines += [f"  {host}/{rule.prefix:<{width}}  {rule.upstream}" for rule in settings.rules if rule.prefix != "ROOT"]
    lines += [f"  {host:<{len(host) + width + 1}}  {rule.upstream}" for rule in settings.rules if rule.prefix == "ROOT"]
    lines += [
        f"  {listener.url(scheme).partition('://')[2]}  mirror of {listener.mirror}"
        for listener in listeners
        if listener.mirror
    ]
    example = _example(settings)
    command = "pullthrough" if shutil.which("pullthrough") else sys.argv[0]
    is_open = pulls_are_open(settings, settings.serve.listen)
    if example:
        insecure = "" if settings.serve.tls_cert else "--src-tls-verify=false "
        lines += ["", "Try it:" if is_open else "Try it, once logged in (`skopeo login`; see docs/clients.md):"]
        lines += [f"  skopeo copy {insecure}docker://{host}/{example} dir:/tmp/image"]
        if is_open:  # the built-in client does not log in
            lines += [f"  {command} pull {host}/{example}"]
    if settings.ecr.auth is EcrAuth.KEYS and not settings.ecr_keys:
        keys = f"{command} keys show --data {shlex.quote(str(settings.serve.data))}"
        what = "Pushes" if is_open else "Pulls, pushes"
        lines += ["", f"{what} and the AWS APIs need an API key. The first one, once:", f"  {keys}"]
    sys.stderr.write("\n".join(lines) + "\n\n")
    sys.stderr.flush()
    _log.info("listening on %s", url)


_EXAMPLES = {
    "registry-1.docker.io": "library/busybox:latest",
    "registry.k8s.io": "pause:3.10",
    "quay.io": "prometheus/busybox:latest",
    "public.ecr.aws": "docker/library/busybox:latest",
    "ghcr.io": "stefanprodan/podinfo:latest",
}


def _example(settings: Settings) -> str:
    for rule in settings.rules:
        if rule.upstream in _EXAMPLES and not rule.upstream_repository_prefix:
            inner = _EXAMPLES[rule.upstream]
            return inner if rule.prefix == "ROOT" else f"{rule.prefix}/{inner}"
    return ""


# --- several workers -------------------------------------------------------------------------------------------------


class _Parent:
    """Looks after the workers. Runs no event loop and no thread, so that it may fork."""

    def __init__(
        self, settings: Settings, folder: DataFolder, listeners: list[Listener], control: socket.socket
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._listeners = listeners
        self._control = control
        self._slots = settings.serve.workers + 1
        self._url_key = os.urandom(_URL_KEY_BYTES)
        self._slot_of: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._stopping = False

    def run(self) -> int:
        metrics_folder = self._folder.path / "metrics"
        shutil.rmtree(metrics_folder, ignore_errors=True)
        metrics_folder.mkdir(mode=0o700)
        os.environ[_MULTIPROCESS_VARIABLE] = str(metrics_folder)
        generations = [
            Generation(path, 0, self._slots) for path in (self._folder.generation_path, self._folder.configuration_path)
        ]
        handled = {*_SIGNALS, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        try:
            for slot in range(1, self._slots):
                self._wait_until_ready(self._fork(slot))
            _announce(self._settings, self._listeners)
            while self._slot_of:
                match signal.sigwait(handled):
                    case signal.SIGCHLD:
                        self._bury(generations, metrics_folder)
                    case signal.SIGHUP:
                        self._signal_all(signal.SIGHUP)
                    case other:
                        self._stopping = True
                        self._signal_all(signal.Signals(other))
            return 0 if self._stopping else 1
        finally:
            self._signal_all(signal.SIGKILL)
            for generation in generations:
                generation.close()

    def _signal_all(self, which: signal.Signals) -> None:
        for pid in self._slot_of:
            try:
                os.kill(pid, which)
            except ProcessLookupError:
                pass  # it has just ended; SIGCHLD says so

    def _fork(self, slot: int) -> int:
        """Returns the read end of a pipe that the worker writes to when it is ready."""
        reading, writing = os.pipe()
        parent = os.getpid()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(writing)
            self._slot_of[pid] = slot
            self._started[pid] = time.monotonic()
            return reading
        code = 1
        try:
            os.close(reading)
            # If the parent goes, however it goes, the workers must: another engine may then take the folder.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_SIGNALS, signal.SIGCHLD})
            self._be_worker(slot, writing)
            code = 0
        except PullthroughError as error:
            _log.error("worker %d: %s", slot, error)
        except BaseException:
            _log.exception("worker %d failed", slot)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _be_worker(self, slot: int, ready: int) -> None:
        folder = DataFolder.attach(self._folder.path)
        with asyncio.Runner(loop_factory=_loop_factory(self._settings.serve.loop)) as runner:
            runner.run(
                _work(
                    self._settings,
                    folder,
                    self._listeners,
                    self._control,
                    slot=slot,
                    slots=self._slots,
                    url_key=self._url_key,
                    ready=lambda _: _say_ready(ready),
                )
            )

    def _wait_until_ready(self, reading: int) -> None:
        try:
            if os.read(reading, 1) != b"1":
                raise ConfigurationError("a worker could not start", hint="its log lines above say why")
        finally:
            os.close(reading)

    def _bury(self, generations: list[Generation], metrics_folder: Path) -> None:
        """Replace workers that died, unless all are to end."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = self._slot_of.pop(pid)
            # It may have died between a commit and telling of it.
            for generation in generations:
                generation.bump()
            for gauge in metrics_folder.glob(f"gauge_live*_{pid}.db"):
                gauge.unlink(missing_ok=True)
            if self._stopping:
                continue
            _log.error("worker %d ended with status %d and is started again", slot, os.waitstatus_to_exitcode(status))
            if time.monotonic() - self._started.pop(pid) < _RESTART_PAUSE_SECONDS:
                time.sleep(_RESTART_PAUSE_SECONDS)
            os.close(self._fork(slot))


def _say_ready(pipe: int) -> None:
    try:
        os.write(pipe, b"1")
    except BrokenPipeError:
        pass  # a worker that replaces another: nobody waits for it
    finally:
        os.close(pipe)


# --- without an engine -----------------------------------------------------------------------------------------------


class _Offline:
    """The operations of the control socket, done by this process under the folder's lock."""

    def __init__(self, settings: Settings, folder: DataFolder) -> None:
        self._settings = settings
        self._folder = folder

    def refresh(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(lambda engine: engine.refresh(request["image"]))

    def pin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(lambda engine: engine.pin(request["image"]))

    def unpin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(lambda engine: engine.unpin(request["image"]))

    def evict(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(lambda engine: engine.evict(dry_run=request["dry_run"]))

    def lifecycle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(lambda engine: engine.lifecycle(request["repository"], dry_run=request["dry_run"]))

    def events(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._run(lambda engine: engine.newest_events(request["limit"]))

    def keys(self, request: Mapping[str, Any]) -> dict[str, Any]:
        from pullthrough.access.assembly import make_key_administration

        return self._run(lambda engine: engine.call(make_key_administration(engine).do, request))

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Repairs, since nobody else uses the folder."""
        from pullthrough.engine.check import check
        from pullthrough.storage.blobs import BlobStore
        from pullthrough.storage.catalog import Catalog
        from pullthrough.storage.uploads import Uploads

        catalog = Catalog.open(self._folder.catalog_path)
        try:
            return check(catalog, BlobStore(self._folder), Uploads(self._folder.uploads_path), repair=True).to_dict()
        finally:
            catalog.close()

    def _run(self, work: Callable[[Engine], Any]) -> dict[str, Any]:
        from pullthrough.engine.engine import Engine
        from pullthrough.metrics import Metrics

        async def run() -> dict[str, Any]:
            engine = Engine(self._settings, self._folder, slot=1, slots=2, metrics=Metrics())
            try:
                result: dict[str, Any] = await work(engine)
                return result
            finally:
                await engine.close()

        return asyncio.run(run())


@contextmanager
def offline(loaded: Loaded) -> Iterator[_Offline]:
    """The folder's operations without an engine. Raises FolderLocked where one is running."""
    _keep_private()
    if not loaded.settings.serve.data.exists():
        raise ConfigurationError(
            f"there is no data folder {loaded.settings.serve.data}, and no engine that uses it",
            hint="name the engine's folder with --data, or its configuration with --config",
        )
    with DataFolder.open(loaded.settings.serve.data) as folder:
        yield _Offline(loaded.settings, folder)
