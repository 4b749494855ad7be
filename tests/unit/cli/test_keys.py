"""`pullthrough keys`: what it asks for, and what it prints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullthrough.errors import AlreadyExists
from tests.unit.cli.support import Command, FakeOperations, Offline

MADE = {"name": "bob", "access_key_id": "AKIABOB", "role": "pull", "created_at": "2026-01-31T12:00:00Z"}
SHOWN = {**MADE, "secret_access_key": "hunter2"}


def cache(answer: dict[str, Any] | AlreadyExists) -> tuple[FakeOperations, Offline]:
    operations = FakeOperations({"keys": answer})
    return operations, Offline(operations)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("show",), {"action": "show"}),
        (("create", "bob"), {"action": "create", "name": "bob", "role": "pull"}),
        (("create", "bob", "--role", "admin"), {"action": "create", "name": "bob", "role": "admin"}),
        (("renew", "bob"), {"action": "renew", "name": "bob"}),
    ],
)
def test_a_new_secret_half_is_printed_as_a_shell_takes_it(
    run: Command, arguments: tuple[str, ...], asked: dict[str, str]
) -> None:
    operations, offline = cache(SHOWN)
    outcome = run("keys", *arguments, offline=offline)
    assert operations.asked == [("keys", asked)]
    assert outcome.out == "export AWS_ACCESS_KEY_ID=AKIABOB\nexport AWS_SECRET_ACCESS_KEY=hunter2\n"
    assert outcome.err == "the key bob, role pull; its secret half is not shown again\n"
    assert run("keys", *arguments, "--json", offline=offline).json == SHOWN


def test_a_policy_document_stands_instead_of_a_role(run: Command) -> None:
    (run.folder / "policy.json").write_text('{"Statement": []}')
    operations, offline = cache(SHOWN)
    assert run("keys", "create", "bob", "--policy", str(run.folder / "policy.json"), offline=offline).code == 0
    assert operations.asked == [("keys", {"action": "create", "name": "bob", "role": '{"Statement": []}'})]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "No such file"), (b"\xff", "is not UTF-8 text"), (b"x" * 10_241, "is larger than a policy may be")],
)
def test_a_policy_that_cannot_be_read_is_named(run: Command, content: bytes | None, sentence: str) -> None:
    path = run.folder / "policy.json"
    if content is not None:
        path.write_bytes(content)
    operations, offline = cache(SHOWN)
    outcome = run("keys", "create", "bob", "--policy", str(path), offline=offline)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert operations.asked == []


def test_an_unknown_role_is_refused(run: Command) -> None:
    operations, offline = cache(SHOWN)
    outcome = run("keys", "create", "bob", "--role", "root", offline=offline)
    assert outcome.code == 2
    assert "the roles are admin and pull" in outcome.err
    assert operations.asked == []


def test_keys_are_listed_without_secrets(run: Command) -> None:
    keys = [MADE, {**MADE, "name": "ci", "access_key_id": "AKIACI", "created_at": None}]
    _, offline = cache({"keys": keys})
    outcome = run("keys", "list", offline=offline)
    assert [line.split() for line in outcome.out.splitlines() if "AKIA" in line] == [
        ["bob", "AKIABOB", "pull", "2026-01-31T12:00:00Z"],
        ["ci", "AKIACI", "pull", "in", "the", "settings"],
    ]
    assert run("keys", "list", "--json", offline=offline).json == {"keys": keys}
    _, none = cache({"keys": []})
    assert "there are no API keys" in run("keys", "list", offline=none).out


def test_a_key_is_removed(run: Command) -> None:
    operations, offline = cache({"name": "bob", "removed": True})
    assert run("keys", "remove", "bob", offline=offline).out == "bob is removed\n"
    assert operations.asked == [("keys", {"action": "remove", "name": "bob"})]
    assert run("keys", "remove", "bob", "--json", offline=offline).json == {"name": "bob", "removed": True}


def test_a_refusal_is_an_error(run: Command) -> None:
    _, offline = cache(AlreadyExists("a secret half is shown once", hint="renew it"))
    outcome = run("keys", "show", "--json", offline=offline)
    assert outcome.code == 1
    assert json.loads(outcome.err)["error"]["message"] == "a secret half is shown once"
