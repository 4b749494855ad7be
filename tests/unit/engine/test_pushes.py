"""Pushes where the catalog has no room at first."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.push.blobs import BlobPushes
from pullthrough.engine.rules import OWN_RULE, RuleBook, Target
from pullthrough.errors import DiskFull
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName, parse_repository_name
from pullthrough.oci.owners import OWN
from pullthrough.server.storage import Upkeep
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.registry.repositories import Repositories

BODY = b"layer"
DIGEST = digest_of(BODY)


class NarrowPushed(Pushed):
    """Has no room for as many records as `refusals` says."""

    refusals = 0

    def publish_blob(self, repository: RepositoryName, digest: Digest, *args: Any, **kwargs: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DiskFull("no room")
        super().publish_blob(repository, digest, *args, **kwargs)


def call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    work = functools.partial(function, *arguments, **keywords)
    return asyncio.get_running_loop().run_in_executor(None, work)


async def parts(*bodies: bytes) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


async def test_a_push_is_recorded_once_there_is_room_also_of_a_blob_that_is_there(tmp_path: Path) -> None:
    async def room(_: int) -> None:
        pass

    with DataFolder.open(tmp_path / "data", boot_id="boot") as folder:
        catalog = Catalog.open(folder.catalog_path)
        pushed, upkeep = NarrowPushed(catalog.database), Upkeep(folder, catalog.blobs)
        own = OwnRepositories(
            repositories=Repositories(catalog.database),
            call=call,
            rules=lambda: RuleBook([]),
            account="000000000000",
        )
        pushes = BlobPushes(
            admission=PushAdmission(own=own, pushed=pushed, call=call, make_room=room, strict=False),
            uploads=upkeep.uploads,
            bodies=upkeep.bodies,
            pushed=pushed,
            call=call,
            clock=lambda: 1.0,
        )
        for name in ("team/new", "team/again"):  # for the second one, the blob is there already
            target = Target(OWN_RULE, parse_repository_name(name), "")
            upload_id = await pushes.begin(target)
            pushed.refusals = 1
            assert await pushes.finish(target, upload_id, DIGEST, parts(BODY)) == len(BODY)
            assert catalog.blobs.find_blob(target.repository, OWN, DIGEST).granted
            assert await upkeep.bodies.is_stored(DIGEST)
        assert [path.name for path in folder.uploads_path.iterdir()] == []
        catalog.close()
