"""Operations on a folder that no engine holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pullthrough.errors import CatalogBroken, ContentUnknown
from pullthrough.operations.check import CHECK
from pullthrough.operations.images import PIN, UNPIN, ImageRequest, PinAnswer
from pullthrough.operations.operation import NoInput
from pullthrough.operations.room import EVICT, EvictRequest
from pullthrough.server.offline import Offline
from pullthrough.storage.files.folder import DataFolder
from tests.unit.settings.support import load

IMAGE = ImageRequest("docker-hub/nginx:1")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    with DataFolder.open(tmp_path / "data") as folder:
        yield folder


@pytest.fixture
def offline(tmp_path: Path, folder: DataFolder) -> Offline:
    return Offline(load(tmp_path, "", {"PULLTHROUGH_SERVE_DATA": str(folder.path)}).settings, folder)


def test_what_one_operation_leaves_the_next_one_finds(offline: Offline) -> None:
    assert offline.perform(PIN, IMAGE) == PinAnswer("docker-hub/library/nginx:1", True)
    assert offline.perform(UNPIN, IMAGE) == PinAnswer("docker-hub/library/nginx:1", False)
    with pytest.raises(ContentUnknown, match="is not pinned"):
        offline.perform(UNPIN, IMAGE)
    assert offline.perform(EVICT, EvictRequest(True)).evicted == ()


def test_a_catalog_that_is_too_damaged_for_an_engine_can_be_checked(offline: Offline, folder: DataFolder) -> None:
    assert offline.perform(CHECK, NoInput()).problems == ()
    with closing(sqlite3.connect(folder.catalog_path)) as catalog:
        pages = catalog.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'cache_rules'").fetchall()
        (size,) = catalog.execute("PRAGMA page_size").fetchone()
    content = bytearray(folder.catalog_path.read_bytes())
    for (page,) in pages:
        content[(page - 1) * size : page * size] = b"\xa5" * size
    folder.catalog_path.write_bytes(content)
    with pytest.raises(CatalogBroken):
        offline.perform(PIN, IMAGE)
    assert "catalog" in {problem.kind for problem in offline.perform(CHECK, NoInput()).problems}
