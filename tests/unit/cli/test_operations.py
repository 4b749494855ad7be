"""The commands on a cache: what they ask, what they print, and who does it: a live engine or this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pullthrough.cli.engine.session import image_in_cache
from pullthrough.cli.exit_codes import ExitCode
from pullthrough.errors import FolderLocked
from tests.unit.cli.support import Command, ControlSocket, FakeOperations, Offline

DIGEST = "sha256:" + "a" * 64
IMAGE = "docker-hub/library/nginx:1.27"
REFRESHED = {"image": IMAGE, "digest": DIGEST, "changed": True, "checked_at": "2026-01-02T03:04:05Z"}
EVICTED: dict[str, Any] = {
    "dry_run": True,
    "evicted": [
        {
            "image": IMAGE,
            "digest": DIGEST,
            "bytes": 1536,
            "last_pulled": "2026-01-02T03:04:05Z",
            "reason": "least recently pulled [bold]",
        },
        {"image": "quay/a/b", "digest": DIGEST, "bytes": 1, "last_pulled": None, "reason": "never pulled"},
    ],
    "freed_bytes": 1537,
    "stored_bytes": 4096,
    "limit_bytes": 2048,
}
CHECKED: dict[str, Any] = {
    "blobs": 3,
    "manifests": 2,
    "bytes": 2048,
    "problems": [{"kind": "digest", "subject": DIGEST, "detail": "removed", "repaired": True}],
    "repaired": 1,
}


@pytest.fixture
def offline() -> Offline:
    answers: dict[str, Any] = {
        "refresh": REFRESHED,
        "pin": {"image": IMAGE, "pinned": True},
        "unpin": {"image": IMAGE, "pinned": False},
        "evict": EVICTED,
        "check": CHECKED,
    }
    return Offline(FakeOperations(answers))


def asked(offline: Offline) -> list[tuple[str, dict[str, Any]]]:
    assert isinstance(offline.operations, FakeOperations)
    return offline.operations.asked


@pytest.mark.parametrize(
    ("arguments", "request_", "line"),
    [
        (["refresh", IMAGE], ("refresh", {"image": IMAGE}), f"{IMAGE} now is {DIGEST} (checked 2026-01-02T03:04:05Z)"),
        (["pin", IMAGE], ("pin", {"image": IMAGE}), f"{IMAGE} is pinned"),
        (["unpin", IMAGE], ("unpin", {"image": IMAGE}), f"{IMAGE} is not pinned"),
        (["evict"], ("evict", {"dry_run": False}), "1.5 KiB would be freed; 4.0 KiB stored, a limit of 2.0 KiB"),
        (["evict", "--dry-run"], ("evict", {"dry_run": True}), "would be freed"),
        (["check"], ("check", {}), "3 blobs and 2 manifests, 2.0 KiB read: 1 problem, 1 repaired"),
    ],
)
def test_without_an_engine_the_folder_is_taken_and_given_back(
    run: Command, offline: Offline, arguments: list[str], request_: tuple[str, dict[str, Any]], line: str
) -> None:
    outcome = run(*arguments, offline=offline)
    assert (outcome.code, outcome.err) == (0, "")
    assert line in outcome.out
    assert asked(offline) == [request_]
    assert len(offline.taken) == offline.given_back == 1


def test_with_json_the_answer_is_printed_as_it_came(run: Command, offline: Offline) -> None:
    for command, answer in (
        ("refresh", REFRESHED),
        ("pin", None),
        ("unpin", None),
        ("evict", EVICTED),
        ("check", CHECKED),
    ):
        outcome = run(command, *([IMAGE] if command in ("refresh", "pin", "unpin") else []), "--json", offline=offline)
        assert outcome.json == (answer or {"image": IMAGE, "pinned": command == "pin"})


def test_what_would_be_evicted_is_a_table_with_the_reasons(run: Command, offline: Offline) -> None:
    out = run("evict", "--dry-run", offline=offline).out
    assert "least recently pulled [bold]" in out
    assert "never pulled" in out
    assert DIGEST[:19] in out


def test_an_unchanged_tag_is_said_to_be_so(run: Command) -> None:
    offline = Offline(FakeOperations({"refresh": {**REFRESHED, "changed": False}}))
    assert f"{IMAGE} is still {DIGEST}" in run("refresh", IMAGE, offline=offline).out


def test_a_cache_without_a_limit_says_so(run: Command) -> None:
    empty = {"dry_run": False, "evicted": [], "freed_bytes": 0, "stored_bytes": 0, "limit_bytes": None}
    out = run("evict", offline=Offline(FakeOperations({"evict": empty}))).out
    assert out == "0 B freed; 0 B stored, no limit\n"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_problem_that_is_left_fails_the_check(run: Command, as_json: list[str]) -> None:
    left = {**CHECKED, "problems": [*CHECKED["problems"], {**CHECKED["problems"][0], "repaired": False}]}
    outcome = run("check", *as_json, offline=Offline(FakeOperations({"check": left})))
    assert outcome.code == ExitCode.CONTENT
    clean = {**CHECKED, "problems": []}
    outcome = run("check", *as_json, offline=Offline(FakeOperations({"check": clean})))
    assert outcome.code == ExitCode.OK


def test_an_error_of_the_operation_is_the_commands(run: Command) -> None:
    offline = Offline(FakeOperations({"check": FolderLocked("held by a command")}))
    outcome = run("check", offline=offline)
    assert (outcome.code, offline.given_back) == (ExitCode.FAILED, 1)
    assert "PT502" in outcome.err


def test_a_live_engine_is_asked_instead(run: Command, offline: Offline, short_path: Path) -> None:
    control = ControlSocket(
        short_path / "control.sock",
        {
            ("POST", "/refresh"): (200, json.dumps(REFRESHED).encode()),
            ("POST", "/pin"): (200, b'{"image": "i", "pinned": true}'),
            ("POST", "/unpin"): (200, b'{"image": "i", "pinned": false}'),
            ("POST", "/evict"): (200, json.dumps(EVICTED).encode()),
            ("POST", "/check"): (200, json.dumps(CHECKED).encode()),
        },
    )
    with control.serving():
        for command in (["refresh", IMAGE], ["pin", IMAGE], ["unpin", IMAGE], ["evict", "--dry-run"], ["check"]):
            assert run(*command, "--data", str(short_path), offline=offline).code == 0
    assert offline.taken == []
    assert control.asked == [
        ("POST", "/refresh", {"image": IMAGE}),
        ("POST", "/pin", {"image": IMAGE}),
        ("POST", "/unpin", {"image": IMAGE}),
        ("POST", "/evict", {"dry_run": True}),
        ("POST", "/check", {}),
    ]


def test_the_token_of_an_account_is_missed_only_where_no_engine_has_it(
    run: Command, offline: Offline, short_path: Path
) -> None:
    environ = {"PULLTHROUGH_DOCKER_HUB_USERNAME": "acme"}
    outcome = run("check", environ=environ, offline=offline)
    assert outcome.code == 0
    assert outcome.err.startswith(
        "warning: environment PULLTHROUGH_DOCKER_HUB_USERNAME gives a username without a token"
    )
    control = ControlSocket(short_path / "control.sock", {("POST", "/check"): (200, json.dumps(CHECKED).encode())})
    with control.serving():
        assert run("check", "--data", str(short_path), environ=environ, offline=offline).err == ""


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("docker-hub/library/nginx:1.27", "docker-hub/library/nginx:1.27"),
        ("docker-hub/library/nginx", "docker-hub/library/nginx:latest"),
        ("127.0.0.1:5000/docker-hub/nginx:1", "docker-hub/nginx:1"),
        ("cache.example.com/docker-hub/nginx:1", "docker-hub/nginx:1"),
        ("[::1]:5000/docker-hub/nginx:1", "docker-hub/nginx:1"),
        (f"docker-hub/nginx@{DIGEST}", f"docker-hub/nginx@{DIGEST}"),
        (f"docker-hub/nginx:1.27@{DIGEST}", f"docker-hub/nginx@{DIGEST}"),
    ],
)
def test_an_image_is_sent_without_the_caches_host_and_with_its_reference(
    run: Command, offline: Offline, typed: str, sent: str
) -> None:
    assert run("refresh", typed, offline=offline).code == 0
    assert asked(offline) == [("refresh", {"image": sent})]


@pytest.mark.parametrize("typed", ["Docker-hub/nginx", "docker-hub/nginx:", "docker-hub/nginx@sha256:1", "", "../x"])
def test_what_is_no_image_is_a_usage_error_and_asks_nothing(run: Command, offline: Offline, typed: str) -> None:
    assert run("pin", typed, offline=offline).code == ExitCode.USAGE
    assert asked(offline) == []


def test_a_host_that_a_rule_is_called_after_is_a_prefix() -> None:
    assert image_in_cache("quay.io/a/b:1", ["quay.io"]).repository == "quay.io/a/b"
    assert image_in_cache("quay.io/a/b:1", ["quay.io/team"]).repository == "quay.io/a/b"
    assert image_in_cache("quay.io/a/b:1", ["quay"]).repository == "a/b"
