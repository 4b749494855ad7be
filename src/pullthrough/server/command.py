"""The command `serve`."""

from __future__ import annotations

import asyncio
import logging
import sys

from pullthrough.engine.tell.webhook import check_secret
from pullthrough.server.announcement import announce
from pullthrough.server.opening import opened
from pullthrough.server.parent import Parent
from pullthrough.server.process import allow_open_files, keep_private, loop_factory
from pullthrough.server.worker import work
from pullthrough.settings import Loaded

_log = logging.getLogger("pullthrough")


def serve(loaded: Loaded) -> int:
    """Run the engine until a signal ends it. Prints and logs by itself; returns the exit code.

    Raises ConfigurationError and StorageError for what keeps it from starting.
    """
    keep_private()
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
    allow_open_files()
    with opened(settings) as shared:
        if settings.serve.workers > 1:
            return Parent(settings, shared).run()
        with asyncio.Runner(loop_factory=loop_factory(settings.serve.loop)) as runner:
            runner.run(work(settings, shared, slot=1, slots=2, ready=lambda: announce(settings, shared.listeners)))
        return 0
