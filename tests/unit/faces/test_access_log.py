"""Lines of the access log: JSON whatever clients send, whole, and never in the way."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pullthrough.faces.access_log import AccessLogger, Entry
from pullthrough.settings import AccessLog
from pullthrough.storage.files.locks import FileLocks


def entry(*, path: str = "/v2/", agent: str = "a", reason: str = "", outcome: str = "hit") -> Entry:
    return Entry(1_700_000_000.25, "127.0.0.1", "GET", path, 200, 5, 0.0015, "manifest", outcome, "hub", reason, agent)


def test_a_line_says_everything() -> None:
    assert json.loads(entry().line()) == {
        "time": "2023-11-14T22:13:20.250Z",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/v2/",
        "status": 200,
        "bytes": 5,
        "seconds": 0.0015,
        "kind": "manifest",
        "outcome": "hit",
        "rule": "hub",
        "reason": "",
        "agent": "a",
    }


@given(path=st.text(max_size=50), agent=st.text(max_size=50), reason=st.text(max_size=50))
def test_whatever_is_sent_a_line_is_one_line_of_json(path: str, agent: str, reason: str) -> None:
    line = entry(path=path, agent=agent, reason=reason).line()
    assert "\n" not in line
    read = json.loads(line)
    assert (read["path"], read["agent"], read["reason"]) == (path, agent, reason)


async def write(which: AccessLog, entries: list[Entry], path: Path, locks: FileLocks | None = None) -> list[str]:
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    threads = ThreadPoolExecutor(1)
    log = AccessLogger(which, output, threads, locks)
    for one in entries:
        log.add(one)
    threads.shutdown()
    log.close()
    os.close(output)
    return path.read_text().splitlines()


async def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    lines = await write(AccessLog.ALL, [entry()] * 3, tmp_path / "log", FileLocks(tmp_path / "locks"))
    assert [json.loads(line)["outcome"] for line in lines] == ["hit"] * 3


async def test_less_can_be_logged(tmp_path: Path) -> None:
    both = [entry(), entry(outcome="miss")]
    assert len(await write(AccessLog.MISSES, both, tmp_path / "misses")) == 1
    assert await write(AccessLog.OFF, both, tmp_path / "off") == []


async def test_an_output_that_is_gone_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    threads = ThreadPoolExecutor(1)
    log = AccessLogger(AccessLog.ALL, writing, threads, None)
    log.add(entry())
    log._flush()
    await asyncio.to_thread(threads.shutdown)
    log.add(entry())
    log.close()
    os.close(writing)


async def test_a_timer_that_fires_after_the_end_finds_nothing_to_do(tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = os.open(path, os.O_WRONLY | os.O_CREAT)
    threads = ThreadPoolExecutor(1)
    log = AccessLogger(AccessLog.ALL, output, threads, None)
    log.add(entry())
    threads.shutdown()
    log.close()
    log._flush()
    os.close(output)
    assert path.read_text() == f"{entry().line()}\n"


async def test_lines_that_wait_are_bounded_in_bytes_and_what_is_beyond_is_counted(tmp_path: Path) -> None:
    strange = "\N{SNOWMAN}" * 20_000
    lines = await write(AccessLog.ALL, [entry(path=strange, agent=strange, reason=strange)] * 3000, tmp_path / "log")
    *kept, last = map(json.loads, lines)
    assert last["dropped"] == 3000 - len(kept)
    assert 0 < len(kept) < 3000
    assert (tmp_path / "log").stat().st_size < 17 * 1024 * 1024
