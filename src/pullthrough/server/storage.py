"""The data folder, opened: for a worker, and for work on what is stored without an engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.keep.planning import Limits
from pullthrough.settings import Settings
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.catalog.referrers import Referrers
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.files.growing import GrowingFiles
from pullthrough.storage.files.locks import FileLocks
from pullthrough.storage.files.pushing import FileUploads
from pullthrough.storage.files.uploads import Uploads
from pullthrough.storage.registry.cache_rules import CacheRules
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.exclusions import PullTimeExclusions
from pullthrough.storage.registry.images import Images
from pullthrough.storage.registry.lifecycles import Lifecycles
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.storage.secrets.master_keys import MasterKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Storage:
    """Bodies, the catalog with a reader and writer for each noun of it, and what tells other workers of changes."""

    generation: Generation
    configuration_generation: Generation
    locks: FileLocks
    store: FileBodies
    growing: GrowingFiles
    uploads: FileUploads
    total_bytes: int
    #: What is stored may take so much.
    limits: Limits
    catalog: Catalog
    cache_rules: CacheRules
    documents: DocumentRows
    exclusions: PullTimeExclusions
    repositories: Repositories
    images: Images
    pushed: Pushed
    referrers: Referrers
    lifecycles: Lifecycles
    #: Encrypts secrets and API keys at rest. Without its key it raises SealingKeyMissing, and all else goes on.
    sealer: Sealer
    secrets: Secrets

    def close(self) -> None:
        """After the threads have ended."""
        self.catalog.close()
        self.generation.close()
        self.configuration_generation.close()


def open_storage(
    settings: Settings,
    folder: DataFolder,
    *,
    slot: int,
    slots: int,
    threads: Threads,
    clock: Callable[[], float],
) -> Storage:
    """`slot` is the worker's among `slots`, of which the parent has one. Raises StorageError."""
    generation = Generation(folder.generation_path, slot, slots)
    configuration_generation = Generation(folder.configuration_path, slot, slots)
    files = BlobFiles(folder)
    total_bytes = files.disk().total_bytes
    limits = Limits(settings.serve.max_size, settings.serve.min_free)
    catalog = Catalog.open(
        folder.catalog_path,
        generation=generation,
        clock=clock,
        configuration=configuration_generation,
        max_content_bytes=limits.most_catalog_bytes(total_bytes),
    )
    database = catalog.database
    sealer = Sealer(MasterKeys(settings.encryption_key_path, os.environ))
    ecr = settings.ecr
    return Storage(
        generation=generation,
        configuration_generation=configuration_generation,
        locks=FileLocks(folder.locks_path),
        store=FileBodies(files, threads.body),
        growing=GrowingFiles(files, threads.catalog),
        uploads=FileUploads(Uploads(folder.uploads_path), files, threads.catalog, threads.body),
        total_bytes=total_bytes,
        limits=limits,
        catalog=catalog,
        cache_rules=CacheRules(database),
        documents=DocumentRows(database),
        exclusions=PullTimeExclusions(database),
        repositories=Repositories(database),
        images=Images(database),
        pushed=Pushed(database),
        referrers=Referrers(database),
        lifecycles=Lifecycles(database),
        sealer=sealer,
        secrets=Secrets(database, sealer, account=ecr.account, region=ecr.region, clock=clock),
    )


class Upkeep:
    """The bodies of one data folder, under its lock and without an engine, one step after another. Nobody waits for the event
    loop, so that all is done on it.
    """

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
