"""What is stored, for work on it without an engine: under the folder's lock, one step after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from pullthrough.engine.bodies import Bodies
from pullthrough.storage.blobs import BlobFiles
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.growing import GrowingFiles
from pullthrough.storage.files.pushing import FileUploads
from pullthrough.storage.folder import DataFolder
from pullthrough.storage.locks import FileLocks
from pullthrough.storage.uploads import Uploads

P = ParamSpec("P")
T = TypeVar("T")


class Upkeep:
    """The bodies of one data folder. Nobody waits for the event loop, so that all is done on it."""

    def __init__(self, folder: DataFolder, blob_rows: BlobRows) -> None:
        files = BlobFiles(folder)
        self.store = FileBodies(files, self.run)
        self.growing = GrowingFiles(files, self.run)
        self.uploads = FileUploads(Uploads(folder.uploads_path), files, self.run, self.run)
        self.bodies = Bodies(
            self.store, blob_rows, FileLocks(folder.locks_path), run=self.run, run_slow=self.run, make_room=_no_room
        )

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)


def on_a_loop_of_its_own(work: Coroutine[Any, Any, T]) -> T:
    """In a thread, for the caller may have a loop already; it has ended when this returns, so that the process may fork."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()


async def _no_room(_needed_bytes: int) -> None:
    """Nothing is published here."""
