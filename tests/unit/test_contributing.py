"""What CONTRIBUTING.md sends people to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pullthrough.settings.tables import TABLES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PATHS = sorted(set(re.findall(r"`([a-z_./-]+(?:/|\.py|\.md|\.toml))`", TEXT)))
TARGETS = sorted(set(re.findall(r"make ([a-z-]+)", TEXT)) & set(re.findall(r"`make ([a-z-]+)", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_it_names_is_there(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "src" / "pullthrough" / path).exists()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_it_names_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_its_setting_is_one() -> None:
    assert "    workers: int = setting(Number(1, 256), default=1)\n" in TEXT
    serve = next(table for table in TABLES if table.path == ("serve",))
    assert '"""Processes that serve, sharing one data folder and each transfer.' in TEXT
    assert serve.model.__annotations__["workers"] == "int"
