"""A house of workers, for tests of fills."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pullthrough.storage.files.folder import DataFolder
from tests.unit.engine.house import FakeCatalog, House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with DataFolder.open(tmp_path / "data") as folder:
        house = House(folder, FakeCatalog())
        yield house
        for worker in house.workers:
            for upstream in worker.upstreams.all():
                upstream.gate.set()
                if upstream.open:
                    upstream.open.set()
            await worker.tasks.close()
            worker.fills.close()
