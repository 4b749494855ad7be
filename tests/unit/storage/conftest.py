from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.generation import Generation
from tests.unit.storage.parts import RegistryParts


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    with DataFolder.open(tmp_path / "data", boot_id="boot") as folder:
        yield folder


@pytest.fixture
def store(folder: DataFolder) -> BlobFiles:
    return BlobFiles(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for 1 MiB in 64 files and folders."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount can make a small disk")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Generation]:
    generation = Generation(tmp_path / "configuration", 0, 2)
    yield generation
    generation.close()


@pytest.fixture
def catalog(tmp_path: Path, configuration: Generation) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path / "catalog.sqlite", clock=lambda: 100.0, configuration=configuration)
    yield catalog
    catalog.close()


@pytest.fixture
def registry(catalog: Catalog) -> RegistryParts:
    return RegistryParts(catalog.database)
