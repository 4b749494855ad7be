"""One worker: it serves on the sockets until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pullthrough.errors import ConfigurationError
from pullthrough.server.certificate import load_certificate, make_tls
from pullthrough.server.opening import Opened, opened
from pullthrough.server.process import import_aiohttp, max_connections
from pullthrough.settings import Settings

if TYPE_CHECKING:
    from pullthrough.engine.pull.blobs.blobs import Patience
    from pullthrough.server.compose import Worker
    from pullthrough.server.faces import ServedFaces

_log = logging.getLogger("pullthrough")

#: How long answers in flight may go on after SIGTERM; systemd waits 90 s by default, Kubernetes 30 s.
_GRACE_SECONDS = 25.0
#: Ctrl-C, and systemd, signal every process of the group, and the parent tells its workers as well: one wish, twice.
_SAME_SIGNAL_SECONDS = 1.0
#: The interpreter's default.
_OBJECTS_PER_COLLECTION = 700
#: Of the control socket: commands that somebody runs on this machine.
_MAX_CONTROL_CONNECTIONS = 64


@dataclass(frozen=True)
class Running:
    """An engine that serves, or one worker of it."""

    worker: Worker
    url: str
    reload: Callable[[], None]


@asynccontextmanager
async def running(settings: Settings, *, patience: Patience | None = None) -> AsyncIterator[Running]:
    """An engine in this process and event loop, with one worker; for the demo, and for tests, which have less patience."""
    with opened(settings) as shared:
        async with _working(settings, shared, slot=1, slots=2, patience=patience) as engine:
            yield engine


@asynccontextmanager
async def _working(
    settings: Settings, shared: Opened, *, slot: int, slots: int, patience: Patience | None = None
) -> AsyncIterator[Running]:
    """Serve on the sockets until the block ends; then answers in flight finish."""
    # Here, not above: the parent of several workers needs none of it, and the command line's start should not wait.
    from pullthrough.metrics import Metrics
    from pullthrough.server.compose import compose
    from pullthrough.server.faces import make_faces

    tls = make_tls(settings.serve)
    async with AsyncExitStack() as stack:
        worker = compose(settings, shared.folder, slot=slot, slots=slots, metrics=Metrics(), patience=patience)
        stack.push_async_callback(worker.close)
        faces = make_faces(worker, shared, stack, has_tls=tls is not None)
        _listen(faces, shared, tls, stack)
        worker.start()

        def reload() -> None:
            if tls is not None:
                try:
                    load_certificate(tls, settings.serve)
                    _log.info("the certificate was read again")
                except ConfigurationError as error:
                    _log.error("the old certificate stays in use: %s", error)

        yield Running(worker, shared.listeners[0].url("https" if tls else "http"), reload)


def _listen(faces: ServedFaces, shared: Opened, tls: ssl.SSLContext | None, stack: AsyncExitStack) -> None:
    """Begin to answer. `stack` ends it, with all listeners at once, and lets answers in flight finish."""
    from pullthrough.faces.http.acceptor import Notices
    from pullthrough.faces.http.admission import Admission
    from pullthrough.faces.http.listener import HttpServer

    servers: list[HttpServer] = []

    async def stop() -> None:
        await asyncio.gather(*(server.cleanup() for server in servers))

    stack.push_async_callback(stop)
    admission, notices = Admission(max_connections()), Notices(time.monotonic)
    for listener in shared.listeners:
        answering = faces.main if listener.mirror is None else faces.mirrors[listener.mirror]
        servers.append(server := HttpServer(answering, admission, notices, shutdown_timeout_seconds=_GRACE_SECONDS))
        for listening in listener.sockets:
            server.listen(listening, tls=tls)
    control_admission = Admission(_MAX_CONTROL_CONNECTIONS)
    servers.append(control := HttpServer(faces.control, control_admission, notices, shutdown_timeout_seconds=1.0))
    control.listen(shared.control)


async def work(settings: Settings, shared: Opened, *, slot: int, slots: int, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second one, later, ends at once."""
    import_aiohttp()
    from pullthrough.faces.http.acceptor import without_handshakes

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

    async with _working(settings, shared, slot=slot, slots=slots) as engine:
        loop.add_signal_handler(signal.SIGTERM, asked_to_stop)
        loop.add_signal_handler(signal.SIGINT, asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, engine.reload)
        # All that is here by now stays: collections look at what comes from here on, and soon, so that each is short.
        gc.freeze()
        gc.set_threshold(_OBJECTS_PER_COLLECTION)
        ready()
        await stop.wait()
