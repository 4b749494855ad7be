"""What holds for every test: nothing of the developer's environment leaks into the code under test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_INHERITED = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "state_directory"}


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    """Settings, proxies and service folders of whoever runs the tests are not what the tests mean."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith("PULLTHROUGH_") or name.lower() in _INHERITED:
                patch.delenv(name)
        yield
