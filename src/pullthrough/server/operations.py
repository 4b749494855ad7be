"""The groups of operations, put together for one worker."""

from __future__ import annotations

from pullthrough.access.assembly import make_key_administration
from pullthrough.engine.keep.check import StoreCheck
from pullthrough.operations.check import CheckOperations
from pullthrough.operations.events import EventOperations
from pullthrough.operations.images import ImageOperations
from pullthrough.operations.keys import KeyOperations
from pullthrough.operations.room import RoomOperations
from pullthrough.operations.status import StatusOperations
from pullthrough.operations.table import Operations
from pullthrough.server.compose import Worker

#: How long requests go first after each MiB that a check reads.
_CHECK_PAUSE_SECONDS = 0.001


def make_operations(worker: Worker) -> Operations:
    """All of them, for an engine that serves: a check repairs nothing."""
    basis, pulling, keeping, storage = worker.basis, worker.pulling, worker.keeping, worker.basis.storage
    keys = make_key_administration(
        basis.settings, database=storage.catalog.database, sealer=storage.sealer, clock=basis.clock
    )
    return Operations(
        ImageOperations(
            configuration=basis.configuration,
            manifests=pulling.manifests,
            pins=storage.catalog.pins,
            manifest_rows=storage.catalog.manifests,
            call=basis.threads.catalog,
            clock=basis.clock,
        ),
        RoomOperations(
            configuration=basis.configuration,
            room=keeping.room,
            pull_times=basis.pull_times,
            lifecycle_runs=keeping.lifecycle_runs,
            call=basis.threads.catalog,
        ),
        EventOperations(basis.events),
        CheckOperations(
            lambda pause: StoreCheck(
                storage.catalog.database,
                storage.catalog.blobs,
                storage.catalog.manifests,
                storage.store,
                storage.growing,
                storage.uploads,
                pulling.bodies,
                run=basis.threads.body,
                repair=False,
                pause=pause,
            ).run(),
            pause_seconds=_CHECK_PAUSE_SECONDS,
        ),
        KeyOperations(keys, basis.threads.catalog),
        StatusOperations(
            degraded=lambda: keeping.degradation.reasons,
            usage=storage.catalog.usage,
            store=storage.store,
            upstreams=basis.upstreams,
            call=basis.threads.catalog,
        ),
    )
