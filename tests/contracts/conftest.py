"""The backends that the contract suites run against; like unit tests, they reach no network and never sleep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.files.generation import Generation
from tests.unaided import unaided


@pytest.fixture(autouse=True)
def _unaided() -> Iterator[None]:
    with unaided():
        yield


class Clock:
    """Time that stands until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


OpenCatalog = Callable[[], Catalog]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def generation(tmp_path: Path) -> Iterator[Generation]:
    generation = Generation(tmp_path / "generation", 0, 2)
    yield generation
    generation.close()


@pytest.fixture(params=["sqlite"])
def open_catalog(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, generation: Generation
) -> Iterator[OpenCatalog]:
    """Opens the same catalog as often as it is called, as workers do; each backend in its turn."""
    assert request.param == "sqlite"
    opened: list[Catalog] = []

    def open_() -> Catalog:
        opened.append(Catalog.open(tmp_path / "catalog.sqlite", generation, clock))
        return opened[-1]

    yield open_
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(open_catalog: OpenCatalog) -> Catalog:
    return open_catalog()
