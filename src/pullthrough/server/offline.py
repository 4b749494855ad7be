"""The operations of the control socket, without an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pullthrough.errors import ConfigurationError
from pullthrough.server.process import keep_private
from pullthrough.settings import Loaded, Settings
from pullthrough.storage.folder import DataFolder

if TYPE_CHECKING:
    from pullthrough.engine.engine import Engine


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
    keep_private()
    if not loaded.settings.serve.data.exists():
        raise ConfigurationError(
            f"there is no data folder {loaded.settings.serve.data}, and no engine that uses it",
            hint="name the engine's folder with --data, or its configuration with --config",
        )
    with DataFolder.open(loaded.settings.serve.data) as folder:
        yield _Offline(loaded.settings, folder)
