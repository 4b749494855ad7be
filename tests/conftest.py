"""What holds for every test: neither the environment of whoever runs it nor the speed of the machine changes what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import register_profiles
from tests.unaided import watch_sleep

_TERRAFORM = Path(__file__).parent / "terraform"
_INHERITED = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "state_directory"}

watch_sleep()
register_profiles()


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    """Settings, proxies and service folders of whoever runs the tests are not what the tests mean."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith(("PULLTHROUGH_", "AWS_")) or name.lower() in _INHERITED:
                patch.delenv(name)
        # The AWS SDK reads its files wherever the home folder is.
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the last one to begin would otherwise run alone, on one of several processes."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Terraform's tests run when they are asked for (`make test-terraform`): they need its provider, and minutes."""
    asked = any((config.invocation_params.dir / argument).is_relative_to(_TERRAFORM) for argument in config.args)
    return True if collection_path == _TERRAFORM and not asked else None
