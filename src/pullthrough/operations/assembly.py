"""The groups of operations, put together for one worker."""

from __future__ import annotations

import functools

from pullthrough.access.assembly import make_key_administration
from pullthrough.engine.check import check
from pullthrough.engine.engine import Engine
from pullthrough.operations.check import CheckOperations
from pullthrough.operations.events import EventOperations
from pullthrough.operations.images import ImageOperations
from pullthrough.operations.keys import KeyOperations
from pullthrough.operations.room import RoomOperations
from pullthrough.operations.status import StatusOperations
from pullthrough.operations.table import Operations

#: How long requests go first after each MiB that a check reads.
_CHECK_PAUSE_SECONDS = 0.001


def make_operations(engine: Engine) -> Operations:
    """All of them, for an engine that serves: a check repairs nothing."""
    return Operations(
        ImageOperations(
            configuration=engine.configuration,
            manifests=engine.manifests,
            pins=engine.catalog.pins,
            manifest_rows=engine.catalog.manifests,
            call=engine.call,
            clock=engine.clock,
        ),
        RoomOperations(
            configuration=engine.configuration,
            room=engine.room,
            pull_times=engine.pull_times,
            lifecycle_runs=engine.lifecycle_runs,
            call=engine.call,
        ),
        EventOperations(engine.events),
        CheckOperations(
            functools.partial(
                check,
                engine.catalog.database,
                engine.catalog.blobs,
                engine.catalog.manifests,
                engine.store,
                engine.growing,
                engine.uploads,
                engine.bodies,
                run=engine.threads.body,
                repair=False,
            ),
            pause_seconds=_CHECK_PAUSE_SECONDS,
        ),
        KeyOperations(
            make_key_administration(
                engine.settings, database=engine.catalog.database, sealer=engine.sealer, clock=engine.clock
            ),
            engine.call,
        ),
        StatusOperations(
            degraded=lambda: engine.degraded,
            usage=engine.catalog.usage,
            store=engine.store,
            upstreams=engine.upstreams,
            call=engine.call,
        ),
    )
