"""Unit tests reach no network and never sleep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unaided import unaided


@pytest.fixture(autouse=True)
def _unaided() -> Iterator[None]:
    with unaided():
        yield
