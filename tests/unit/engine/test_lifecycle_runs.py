"""What a lifecycle run tells of: each step, though a later one fails."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pullthrough.engine.keep.lifecycle_runs import LifecycleRuns
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import DiskFull
from pullthrough.oci.names import RepositoryName, parse_repository_name
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.files.locks import FileLocks
from pullthrough.storage.registry.images import Filter, Group, Images
from pullthrough.storage.registry.lifecycles import Lifecycles
from tests.contracts.images import image
from tests.owners import OWNER
from tests.unit.engine.house import BriefLocks

APP = parse_repository_name("acme/app")
POLICY = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
                "action": {"type": "expire"},
            }
        ]
    }
)


class NarrowImages(Images):
    """Carries out one step only."""

    steps = 1

    def carry_out(self, repository: RepositoryName, groups: Sequence[Group], *, now: float) -> list[Group]:
        if not self.steps:
            raise DiskFull("no room")
        self.steps -= 1
        return super().carry_out(repository, groups, now=now)


def call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    work = functools.partial(function, *arguments, **keywords)
    return asyncio.get_running_loop().run_in_executor(None, work)


async def test_what_was_deleted_is_told_though_the_run_fails(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    saved = {}
    for number in range(120):
        one = image(b"%d" % number, [b"layer"])
        saved[one.digest] = one
        catalog.manifests.save_manifest(APP, OWNER, one.digest, one.body, one.manifest, tag=None, now=number)
    images, lifecycles = NarrowImages(catalog.database), Lifecycles(catalog.database)
    lifecycles.set_policy(APP, POLICY)
    told: list[tuple[str, str]] = []
    runs = LifecycleRuns(
        images=images,
        lifecycles=lifecycles,
        inventory=catalog.inventory,
        locks=FileLocks(tmp_path / "locks"),
        tasks=Tasks(),
        call=call,
        call_slow=call,
        flush=lambda: None,
        happened=lambda action, repository, digest, **_: told.append((action, digest)),
        clock=lambda: 1000.0,
        interval_seconds=3600,
        pause=lambda: None,
    )
    with pytest.raises(DiskFull):
        await runs.run(APP, dry_run=False)
    left = {detail.digest for detail in images.page(APP, Filter(), after="", limit=1000)}
    assert 0 < len(told) < 119
    assert sorted(told) == sorted(("DELETE", digest) for digest in saved if digest not in left)
    assert lifecycles.policy(APP).evaluated_at is None, "it is tried again"
    catalog.close()


async def test_policies_are_evaluated_again_after_the_system_had_nothing_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    tasks, locks = Tasks(), BriefLocks(tmp_path / "locks")
    runs = LifecycleRuns(
        images=Images(catalog.database),
        lifecycles=Lifecycles(catalog.database),
        inventory=catalog.inventory,
        locks=locks,
        tasks=tasks,
        call=call,
        call_slow=call,
        flush=lambda: None,
        happened=lambda *_, **__: None,
        clock=lambda: 1000.0,
        interval_seconds=0.001,
        pause=lambda: None,
    )
    tasks.spawn(runs.keep(), name="lifecycle policies")
    async with asyncio.timeout(60):
        await locks.asked_again.wait()
    await tasks.close()
    assert "could not be evaluated: [Errno 24]" in caplog.text
    catalog.close()
