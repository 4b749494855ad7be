"""The catalog of a data folder, opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import OWN
from pullthrough.storage.catalog.blob_rows import BlobRows
from pullthrough.storage.catalog.inventory import Inventory
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.pins import Pins
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.storage.catalog.usage import Usage
from pullthrough.storage.interfaces import Changes
from pullthrough.storage.sql.database import Database


class Catalog:
    """What the catalog is made of. Whoever opens it hands its parts to those who use them."""

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, max_content_bytes: int | None = None
    ) -> None:
        self.database = database
        self.usage = Usage(database, max_content_bytes)
        self.manifests = ManifestRows(database, self.usage)
        self.blobs = BlobRows(database)
        self.answers = UpstreamAnswers(database, self.usage, clock)
        self.pins = Pins(database)
        self.inventory = Inventory(database)

    @classmethod
    def open(
        cls,
        path: Path,
        generation: Changes | None = None,
        clock: Callable[[], float] = time.time,
        configuration: Changes | None = None,
        max_content_bytes: int | None = None,
    ) -> Self:
        """Makes the catalog, or brings its schema up to date, where need be.

        Raises FolderNewer, CatalogBroken, FolderNotWritable or DiskFull.
        """
        return cls(Database.open(path, generation, configuration), clock, max_content_bytes)

    def close(self) -> None:
        self.database.close()

    def prepare(self) -> None:
        """Asks once what a cold blob asks, of one that is nowhere.

        To compile these statements takes longer than to run them, and the first client would wait for it.
        """
        nowhere = RepositoryName("nowhere")
        digest = Digest("sha256:" + "0" * 64)
        self.blobs.find_blob(nowhere, OWN, digest)
        self.answers.find_negative(nowhere, OWN, digest)
