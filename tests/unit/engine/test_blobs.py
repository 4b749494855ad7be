"""Blobs whose file is damaged, while somebody pushes them again."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.pull.blobs.blobs import Blobs, Patience
from pullthrough.engine.pull.blobs.records import BlobRecords
from pullthrough.engine.pull.memory import Memory
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.engine.rules import OWN_RULE, RuleBook, Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import BlobUnknown
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import parse_repository_name
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.files.locks import FileLocks
from pullthrough.storage.registry.repositories import Repositories
from tests.owners import OWNER

TEAM = Target(OWN_RULE, parse_repository_name("team/app"), "")
BODY = b"layer"
DIGEST = digest_of(BODY)


class WatchedFiles(BlobFiles):
    """`opened` is called once, right after a file was opened."""

    opened: Callable[[], None] | None = None

    def open(self, digest: Digest) -> int | None:
        descriptor = super().open(digest)
        if self.opened:
            once, self.opened = self.opened, None
            once()
        return descriptor


class Store:
    def __init__(self, folder: DataFolder, generation: Generation) -> None:
        self.folder, self.generation = folder, generation
        self.catalog = Catalog.open(folder.catalog_path, generation=generation)
        self.pushed = Pushed(self.catalog.database)
        self.files = WatchedFiles(folder)

    def push(self, body: bytes = BODY, boot_id: str = "boot") -> None:
        partial = self.files.partial_path(DIGEST, OWNER)
        partial.write_bytes(body)
        self.files.publish(partial, DIGEST)
        self.pushed.publish_blob(TEAM.repository, DIGEST, len(BODY), boot_id=boot_id, now=1)

    def blobs(self) -> Blobs:
        # An own repository asks neither fills nor upstreams.
        nothing: Any = None
        bodies = Bodies(
            FileBodies(self.files, call),
            self.catalog.blobs,
            FileLocks(self.folder.locks_path),
            run=call,
            run_slow=call,
            make_room=nothing,
        )
        return Blobs(
            records=BlobRecords(
                self.catalog.blobs, self.catalog.answers, self.pushed, call, Memory(self.generation), bodies
            ),
            bodies=bodies,
            fills=nothing,
            presence=nothing,
            ahead=nothing,
            passing=nothing,
            prefetches=None,
            pull_times=PullTimes(self.catalog.inventory, lambda: 1.0),
            own=OwnRepositories(
                repositories=Repositories(self.catalog.database),
                call=call,
                rules=lambda: RuleBook([]),
                account="000000000000",
            ),
            tasks=Tasks(),
            patience=Patience(),
        )


def call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    work = functools.partial(function, *arguments, **keywords)
    return asyncio.get_running_loop().run_in_executor(None, work)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    generation = Generation(tmp_path / "generation", 0, 1)
    with DataFolder.open(tmp_path / "data", boot_id="boot") as folder:
        opened = Store(folder, generation)
        yield opened
        opened.catalog.close()
    generation.close()


@pytest.mark.parametrize(("body", "boot_id"), [(b"wrong", "old boot"), (b"cut", "boot")], ids=["damaged", "cut"])
async def test_a_damaged_blob_goes_unless_it_is_pushed_again_meanwhile(store: Store, body: bytes, boot_id: str) -> None:
    blobs = store.blobs()
    store.push(body, boot_id)
    store.files.opened = store.push
    answer = await blobs.get(TEAM, DIGEST, whole=True)
    answer.close()
    assert store.files.path(DIGEST).read_bytes() == BODY
    store.push(body, boot_id)
    with pytest.raises(BlobUnknown):
        await blobs.get(TEAM, DIGEST, whole=True)
    assert not store.files.path(DIGEST).exists()
