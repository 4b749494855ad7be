"""The demo keeps its promises, counts what it says, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pullthrough.demo import run
from pullthrough.demo.requests import RequestKind
from pullthrough.demo.rows import DemoRow
from pullthrough.demo.scenario import CLIENTS, play
from tests.e2e.processes import environment, wait_for


def _asked(row: DemoRow) -> Counter[str]:
    """Requests to the upstream by kind and status."""
    return Counter(f"{record.method} {record.kind} {record.status}" for record in row.measured.requests)


async def test_every_row_keeps_its_promise_with_exactly_these_requests(tmp_path: Path) -> None:
    played = await play(tmp_path)
    assert played.broken == []
    rows = {row.pull: row for row in played.rows}
    silent = Counter[str]()
    assert {name: _asked(row) for name, row in rows.items()} == {
        "cold": Counter(
            {"GET manifest 401": 1, "GET token 200": 1, "GET manifest 200": 2, "GET blob 200": 5},
        ),
        "warm": silent,
        "by digest": silent,
        "another tag of it": Counter({"GET manifest 200": 1}),
        f"cold, {CLIENTS} clients at once": Counter({"GET token 200": 1, "GET manifest 200": 2, "GET blob 200": 4}),
        "upstream cut off": silent,
        "upstream cut off, tag due for a check": silent,
        "over the rate limit, cold": Counter({"GET token 200": 1, "GET manifest 429": 1}),
        "over the rate limit, warm": silent,
    }
    assert len(rows[f"cold, {CLIENTS} clients at once"].measured.reports) == CLIENTS
    (refusal,) = rows["over the rate limit, cold"].measured.errors
    assert "TOOMANYREQUESTS" in refusal.message
    tokens = [record for row in played.rows for record in row.measured.requests if record.kind is RequestKind.TOKEN]
    assert [record.query["scope"] for record in tokens] == [
        f"repository:library/{name}:pull" for name in ("app", "popular", "late")
    ]


def test_json_has_every_row_and_the_exit_code_says_whether_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(json_output=True) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["ok"], document["broken"], len(document["rows"])) == (True, [], 9)
    assert all(row["seconds"] > 0 for row in document["rows"])
    assert printed.err == ""


#: Whoever runs the tests may have SIGINT ignored, which a program inherits.
_DEMO = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pullthrough.cli.main import run
run(["demo"])
"""


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, which: signal.Signals) -> None:
    env = environment(tmp_path)
    folder = Path(env["TMPDIR"])
    with subprocess.Popen(
        [sys.executable, "-c", _DEMO],
        env=env | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as demo:
        wait_for(lambda: any(folder.glob("*/data/catalog.sqlite")), "the demo's engine to start")
        demo.send_signal(which)
        output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130, errors
    assert (output, errors) == (b"", b"")
    assert list(folder.iterdir()) == []
