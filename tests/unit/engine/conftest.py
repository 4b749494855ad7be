"""A house of workers, for tests of fills."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pullthrough.storage.folder import DataFolder
from tests.unit.engine.house import FakeCatalog, House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with DataFolder.open(tmp_path / "data") as folder:
        house = House(folder, FakeCatalog())
        yield house
        for worker in house.workers:
            worker.upstream.gate.set()
            if worker.upstream.open:
                worker.upstream.open.set()
            await worker.tasks.close()
            worker.fills.close()
