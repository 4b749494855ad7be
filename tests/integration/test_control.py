"""The commands beside a running engine, by its control socket, and on its folder when it is stopped."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import stat
from contextlib import closing
from typing import Any

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream, Status
from tests.integration.conftest import StartEngine

OLD, NEW = make_image("old", layer_sizes=(50_000,)), make_image("new", layer_sizes=(60_000,))
IMAGE = "docker-hub/library/app:1"
PATH = "/v2/docker-hub/library/app/manifests/1"


def said_by(engine: Engine, *arguments: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(engine.command(*arguments, "--json"))
    return said


def pull(engine: Engine, name: str = "docker-hub/library/app", tag: str = "1") -> None:
    manifest = json.loads(engine.get(f"/v2/{name}/manifests/{tag}").body)
    for blob in (manifest["config"], *manifest["layers"]):
        assert engine.get(f"/v2/{name}/blobs/{blob['digest']}").status == 200


def test_refresh_asks_now_once_in_a_while_and_says_why_it_could_not(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    upstream.add("library/app", OLD, "1")
    engine = start_engine(reach="retries = 0")
    pull(engine)
    upstream.add("library/app", NEW, "1")
    said = said_by(engine, "refresh", IMAGE)
    assert (said["changed"], said["digest"]) == (True, NEW.digest)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["checked_at"])
    assert {engine.get(PATH).body for _ in range(4)} == {NEW.manifest.body}
    again = said_by(engine, "refresh", "docker-hub/app:1")
    assert (again["changed"], again["digest"]) == (False, NEW.digest)
    assert upstream.requests.count(kind="manifest", method="HEAD") == 1, "one in ten seconds"

    # Of a tag that was missing a moment ago: the operator knows better than what is remembered.
    missing = "docker-hub/library/app:2"
    assert engine.get(PATH[:-1] + "2").status == 404
    upstream.add("library/app", NEW, "2")
    assert engine.get(PATH[:-1] + "2").outcome == "negative"
    assert said_by(engine, "refresh", missing)["digest"] == NEW.digest

    upstream.add("library/app", OLD, "3")
    assert engine.get(PATH[:-1] + "3").status == 200
    upstream.script(Status(500), kind="manifest")
    for reason in ("answered 500", "a moment ago, in vain"):
        with pytest.raises(AssertionError, match=rf"exit 3(?s:.*){reason}"):
            engine.command("refresh", "docker-hub/library/app:3")
    with pytest.raises(AssertionError, match=r"exit 1(?s:.*)no rule covers"):
        engine.command("refresh", "nowhere/app:1")
    with pytest.raises(AssertionError, match="exit 2"):
        engine.command("refresh", "docker-hub/Not A Name")


@pytest.mark.slow
def test_pin_evict_and_check_beside_an_engine_and_without_one(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    upstream.add("library/app", OLD, "1")
    upstream.add("acme/other", NEW, "1")
    other = "docker-hub/acme/other"
    engine = start_engine(serve='max_size = "70KiB"\nmin_free = "never"\nevict_interval = "1h"')
    pull(engine)
    pull(engine, other)
    engine.stop()
    _age(engine)
    assert said_by(engine, "pin", IMAGE) == {"image": IMAGE, "pinned": True}
    assert said_by(engine, "check")["problems"] == []

    # The first look at the limits comes with the start; a pinned image stays, though it is the older one.
    engine.start()
    wait_for(lambda: _control(engine, "GET", "/status")["tags"] == 1, "the eviction")
    assert {engine.get(PATH).outcome for _ in range(4)} == {"hit"}
    pull(engine, other)
    would = said_by(engine, "evict", "--dry-run")
    assert (would["dry_run"], would["evicted"]) == (True, []), "it was pulled just now"
    assert said_by(engine, "check")["problems"] == []
    assert said_by(engine, "unpin", IMAGE)["pinned"] is False

    # Without an engine, and with a body that rotted meanwhile.
    engine.stop()
    assert not (engine.data / "control.sock").exists()
    _age(engine)
    evicted = said_by(engine, "evict")
    assert evicted["evicted"], evicted
    assert evicted["stored_bytes"] <= evicted["limit_bytes"] == 70 * 1024
    victim = max((engine.data / "blobs").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    os.chmod(victim, 0o600)  # noqa: PTH101 - it may be read-only
    victim.write_bytes(b"x" * victim.stat().st_size)
    engine.start()
    with pytest.raises(AssertionError, match="exit 4"):
        engine.command("check", "--json")
    engine.stop()
    assert [problem["repaired"] for problem in said_by(engine, "check")["problems"]] == [True]
    engine.start()
    pull(engine)
    pull(engine, other)


def test_the_control_socket_is_the_owners_and_refuses_nonsense(start_engine: StartEngine) -> None:
    engine = start_engine()
    assert stat.S_IMODE((engine.data / "control.sock").stat().st_mode) == 0o600
    for method, path, body, expected in (
        ("GET", "/nothing", None, 400),
        ("POST", "/refresh", b"[]", 400),
        ("POST", "/refresh", b'{"image": 1}', 400),
        ("POST", "/pin", b"{" * 70_000, 400),
        ("POST", "/evict", b'{"dry_run": "no"}', 400),
        ("POST", "/unpin", b'{"image": "docker-hub/acme/never:1"}', 404),
        ("POST", "/pin", b'{"image": "nowhere/app:1"}', 400),
        ("DELETE", "/status", None, 400),
    ):
        answered, document = _ask_control(engine, method, path, body)
        assert (answered, set(document["error"])) == (expected, {"reference", "message", "hint"})
    assert _control(engine, "GET", "/status")["tags"] == 0


def _age(engine: Engine) -> None:
    """As if an hour had passed since all that is stored was stored and pulled. The engine must be stopped."""
    with closing(sqlite3.connect(engine.data / "catalog.sqlite")) as catalog:
        for table in ("repository_manifests", "blobs"):
            catalog.execute(f"UPDATE {table} SET stored_at = stored_at - 3600, pulled_at = pulled_at - 3600")
        catalog.commit()


def _control(engine: Engine, method: str, path: str) -> dict[str, Any]:
    status, document = _ask_control(engine, method, path, None)
    assert status == 200
    return document


def _ask_control(engine: Engine, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        folder = os.open(engine.data, os.O_RDONLY)  # the path may be too long for sun_path
        try:
            connection.connect(f"/proc/self/fd/{folder}/control.sock")
        finally:
            os.close(folder)
        head = f"{method} {path} HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Length: {len(body or b'')}\r\n\r\n"
        connection.sendall(head.encode() + (body or b""))
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass  # a body that was not read to its end
    head_bytes, _, answer = received.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), json.loads(answer)
