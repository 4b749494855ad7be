from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.support import Command


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, capsys)
