"""The operations without an engine: done by this process, under the lock of the data folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from pullthrough.errors import ConfigurationError
from pullthrough.operations.check import CheckOperations
from pullthrough.operations.operation import AnswerT, CacheOperation, GroupT, RequestT
from pullthrough.operations.table import Operations
from pullthrough.server.process import keep_private
from pullthrough.settings import Loaded, Settings
from pullthrough.storage.files.folder import DataFolder


class Offline:
    """Performs each operation with parts of its own, which it gives back."""

    def __init__(self, settings: Settings, folder: DataFolder) -> None:
        self._settings = settings
        self._folder = folder

    def perform(self, operation: CacheOperation[GroupT, RequestT, AnswerT], request: RequestT) -> AnswerT:
        async def run() -> AnswerT:
            # An engine cannot begin on a damaged catalog, and a check has to.
            compose = self._checking if operation.group is CheckOperations else self._whole
            async with compose() as operations:
                return await operations.perform(operation, request)

        return asyncio.run(run())

    @asynccontextmanager
    async def _whole(self) -> AsyncIterator[Operations]:
        """All operations, by a worker that does nothing by itself."""
        from pullthrough.metrics import Metrics
        from pullthrough.server.compose import compose
        from pullthrough.server.operations import make_operations

        worker = compose(self._settings, self._folder, slot=1, slots=2, metrics=Metrics())
        try:
            yield make_operations(worker)
        finally:
            await worker.close()

    @asynccontextmanager
    async def _checking(self) -> AsyncIterator[Operations]:
        """A check alone. It repairs, since nobody else uses the folder."""
        from pullthrough.engine.keep.check import StoreCheck
        from pullthrough.server.storage import Upkeep
        from pullthrough.storage.catalog.catalog import Catalog

        catalog = Catalog.open(self._folder.catalog_path)
        try:
            upkeep = Upkeep(self._folder, catalog.blobs)
            yield Operations(
                CheckOperations(
                    lambda pause: StoreCheck(
                        catalog.database,
                        catalog.blobs,
                        catalog.manifests,
                        upkeep.store,
                        upkeep.growing,
                        upkeep.uploads,
                        upkeep.bodies,
                        run=upkeep.run,
                        repair=True,
                        pause=pause,
                    ).run(),
                    pause_seconds=0.0,
                )
            )
        finally:
            catalog.close()


@contextmanager
def offline(loaded: Loaded) -> Iterator[Offline]:
    """The folder's operations. Raises ConfigurationError where there is no folder, FolderLocked where an engine has it."""
    keep_private()
    data = loaded.settings.serve.data
    if not data.exists():
        raise ConfigurationError(
            f"there is no data folder {data}, and no engine that uses it",
            hint="name the engine's folder with --data, or its configuration with --config",
        )
    with DataFolder.open(data) as folder:
        yield Offline(loaded.settings, folder)
