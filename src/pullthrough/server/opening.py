"""Before the workers: the folder, locked and swept of what a crash left, and all sockets, bound."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pullthrough.server.sockets import BoundAddress, bind, bind_control
from pullthrough.settings import Settings, parse_listen
from pullthrough.storage.files.folder import DataFolder
from pullthrough.units import format_bytes

_log = logging.getLogger("pullthrough")
#: Of the HMAC that signs download URLs: as long as its digest.
_URL_KEY_BYTES = 32


@dataclass(frozen=True)
class Opened:
    """What all workers of an engine have in common."""

    folder: DataFolder
    #: The main listener's first.
    listeners: tuple[BoundAddress, ...]
    control: socket.socket
    #: Signs download URLs.
    url_key: bytes


@contextmanager
def opened(settings: Settings) -> Iterator[Opened]:
    """Raises ConfigurationError and StorageError for what keeps the engine from starting."""
    with DataFolder.open(settings.serve.data) as folder, ExitStack() as stack:
        listeners = tuple(_bind_all(settings, stack))
        _look_after_crash(settings, folder)
        control = bind_control(folder.control_socket_path)
        try:
            yield Opened(folder, listeners, control, os.urandom(_URL_KEY_BYTES))
        finally:
            control.close()
            folder.control_socket_path.unlink(missing_ok=True)


def _bind_all(settings: Settings, stack: ExitStack) -> Iterator[BoundAddress]:
    """The stack closes them."""
    serve = settings.serve
    addresses: list[tuple[str, str | None]] = [(serve.listen, None), *serve.mirrors.items()]
    for listen, mirror in addresses:
        bound = bind(parse_listen(listen), mirror)
        for listening in bound.sockets:
            stack.callback(listening.close)
        yield bound


def _look_after_crash(settings: Settings, folder: DataFolder) -> None:
    """Sweep up what the last run left, and see whose is what it had."""
    # Here, not above: the command line's start should not wait. Nothing of it may import the metrics: several workers share
    # theirs only where PROMETHEUS_MULTIPROC_DIR is set before that.
    from pullthrough.engine.keep.check import sweep
    from pullthrough.engine.keep.degraded import Degraded
    from pullthrough.engine.owners import look_at_owners
    from pullthrough.server.storage import Upkeep, on_a_loop_of_its_own
    from pullthrough.storage.catalog.catalog import Catalog

    degraded = Degraded(folder.degraded_path)
    degraded.clear()
    degraded.close()
    catalog = Catalog.open(folder.catalog_path)
    try:
        upkeep = Upkeep(folder, catalog.blobs)
        swept = on_a_loop_of_its_own(sweep(upkeep.bodies, upkeep.growing))
        look_at_owners(settings, catalog.database)
    finally:
        catalog.close()
    if swept.removed_files or swept.adopted_blobs:
        _log.info(
            "after the last run: removed %d leftover files (%s), took up %d blobs",
            swept.removed_files,
            format_bytes(swept.removed_bytes),
            swept.adopted_blobs,
        )
