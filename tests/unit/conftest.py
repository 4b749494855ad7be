"""Unit tests reach no network and never sleep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.unaided import unaided


@pytest.fixture(autouse=True)
def _unaided() -> Iterator[None]:
    with unaided():
        yield


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's in the 107 bytes that a socket's address has."""
    with TemporaryDirectory(prefix="pt-") as folder:
        yield Path(folder)
