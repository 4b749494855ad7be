"""More clients than there are files to open: those that are there go on, and nothing is said without end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.clients import pullthrough
from tests.e2e.processes import Process, environment, wait_for
from tests.programs import needs

FILES = 300


@pytest.fixture
def served(tmp_path: Path, workers: int) -> Iterator[tuple[Process, int]]:
    """An engine that may open few files, and its port."""
    config = tmp_path / "pullthrough.toml"
    config.write_text(f"[serve]\nworkers = {workers}\n")
    command: list[str | Path] = [
        *(needs("prlimit"), f"--nofile={FILES}:{FILES}", pullthrough(), "serve", "--config", config),
        *("--data", tmp_path / "data", "--listen", "127.0.0.1:0"),
    ]
    with Process("pullthrough serve", command, env=environment(tmp_path), log=tmp_path / "log") as process:
        yield process, int(process.wait_for_line(r"listening on http://127\.0\.0\.1:(\d+)")[1])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def is_answered(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


def test_connections_beyond_the_limit_of_open_files_are_closed_and_the_others_served(
    served: tuple[Process, int], workers: int
) -> None:
    process, port = served
    with ExitStack() as stack:
        first = stack.enter_context(connect(port))
        answered = 0
        for _ in range(2 * workers * FILES):
            connection = connect(port)
            if is_answered(connection):
                answered += 1
                stack.enter_context(connection)
            else:
                connection.close()
        assert FILES // 2 - 1 <= answered <= workers * FILES // 2
        assert is_answered(first)
    assert "Too many open files" not in process.text()
    assert 1 <= process.text().count("further ones are closed") <= workers

    def serves_again() -> bool:
        with connect(port) as again:
            return is_answered(again)

    wait_for(serves_again, "a new client to be served")
