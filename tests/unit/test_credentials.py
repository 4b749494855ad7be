from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.credentials import (
    COMMAND_SECONDS,
    MAX_SECRET_BYTES,
    RENEWAL_PAUSE_SECONDS,
    Credentials,
    CredentialUnreadable,
    Secret,
    run_bounded,
)
from pullthrough.declaration import CredentialSource, InlineToken, SecretCredential
from pullthrough.errors import SecretUnknown


def test_the_environment_is_read() -> None:
    source = CredentialSource("acme", access_token_env="TOKEN")
    assert Credentials({"TOKEN": " s3cret\n"}).read(source) == Secret("acme", "s3cret")
    with pytest.raises(CredentialUnreadable, match="not set"):
        Credentials({}).read(source)


def test_a_token_that_is_held_here_is_taken_as_it_is() -> None:
    source = CredentialSource("acme", access_token=InlineToken(" s3cret\n"))
    credentials = Credentials({})
    assert credentials.read(source) == credentials.read(source, renew=True) == Secret("acme", "s3cret")
    with pytest.raises(CredentialUnreadable, match="several lines") as caught:
        credentials.read(CredentialSource("acme", access_token=InlineToken("s3cret\ns3cret2")))
    assert "s3cret" not in str(caught.value)


def test_a_file_is_read_again_when_it_changes_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    source = CredentialSource("acme", access_token_file=file)
    credentials = Credentials({})
    assert credentials.read(source).token == "old"
    file.write_text("renewed\n")
    assert credentials.read(source).token == "renewed"


def test_a_secret_that_is_swapped_by_a_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("one")
    (tmp_path / "2").write_text("two")
    os.utime(tmp_path / "1", (1, 1))
    os.utime(tmp_path / "2", (1, 1))
    link = tmp_path / "token"
    link.symlink_to("1")
    source = CredentialSource("acme", access_token_file=link)
    credentials = Credentials({})
    assert credentials.read(source).token == "one"
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(link)
    assert credentials.read(source).token == "two"


def test_renewing_reads_a_file_that_looks_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    os.utime(file, (1, 1))
    source = CredentialSource("acme", access_token_file=file)
    credentials = Credentials({})
    credentials.read(source)
    file.write_text("two")
    os.utime(file, (1, 1))
    assert credentials.read(source).token == "one"
    assert credentials.read(source, renew=True).token == "two"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"s3cret\ns3cret2", "several lines"),
        (b"s3cret\x00", "control"),
        (b"\xff\xfes3cret", "UTF-8"),
        (b"s3cret" * 20_000, "bytes"),
    ],
)
def test_a_file_that_holds_no_token_is_an_error_that_does_not_repeat_it(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(CredentialUnreadable, match=message) as caught:
        Credentials({}).read(CredentialSource("acme", access_token_file=file))
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_an_error_without_its_name(tmp_path: Path) -> None:
    source = CredentialSource("acme", access_token_file=tmp_path / "s3cret")
    with pytest.raises(CredentialUnreadable) as caught:
        Credentials({}).read(source)
    assert "s3cret" not in str(caught.value)


class Commands:
    """A clock, and a command that gives another token each time; None makes it fail."""

    def __init__(self, *outputs: bytes | None) -> None:
        self.now = 0.0
        self.outputs = list(outputs)
        self.ran: list[tuple[str, ...]] = []
        self.credentials = Credentials({}, run_command=self.run, monotonic=lambda: self.now)

    def run(self, command: Sequence[str]) -> bytes:
        self.ran.append(tuple(command))
        output = self.outputs.pop(0)
        if output is None:
            raise CredentialUnreadable("the command failed")
        return output


SOURCE = CredentialSource("acme", access_token_command=("get-token", "--quiet"))


def test_a_commands_token_is_kept_for_the_documented_time() -> None:
    commands = Commands(b"one\n", b"two\n")
    assert commands.credentials.read(SOURCE).token == "one"
    commands.now = COMMAND_SECONDS - 1
    assert commands.credentials.read(SOURCE).token == "one"
    commands.now = COMMAND_SECONDS
    assert commands.credentials.read(SOURCE).token == "two"
    assert commands.ran == [("get-token", "--quiet")] * 2


def test_renewing_runs_a_command_again_but_not_for_everybody_who_was_refused() -> None:
    commands = Commands(b"one", b"two")
    commands.credentials.read(SOURCE)
    commands.now = RENEWAL_PAUSE_SECONDS
    assert [commands.credentials.read(SOURCE, renew=True).token for _ in range(5)] == ["two"] * 5
    assert len(commands.ran) == 2


def test_a_failing_command_is_not_run_for_every_request() -> None:
    commands = Commands(None, b"one")
    for _ in range(3):
        with pytest.raises(CredentialUnreadable):
            commands.credentials.read(SOURCE)
    assert len(commands.ran) == 1
    commands.now = RENEWAL_PAUSE_SECONDS
    assert commands.credentials.read(SOURCE).token == "one"


def test_a_commands_output_is_its_standard_output_alone() -> None:
    script = "import sys; sys.stderr.write('noise'); print('token', sys.argv[1])"
    assert run_bounded([sys.executable, "-c", script, "$HOME;x"]) == b"token $HOME;x\n"


def test_a_command_that_fails_or_is_missing_says_so() -> None:
    with pytest.raises(CredentialUnreadable, match="exit code 3"):
        run_bounded([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(CredentialUnreadable, match="cannot be run"):
        Credentials({}).read(CredentialSource("acme", access_token_command=("/nonexistent/s3cret",)))


def test_a_command_that_hangs_is_killed_with_its_children() -> None:
    script = "import os, time; os.fork(); time.sleep(600)"
    with pytest.raises(CredentialUnreadable, match="did not end"):
        run_bounded([sys.executable, "-c", script], limit_seconds=0.3)


def test_a_command_that_floods_is_stopped() -> None:
    script = "import os\nwhile True: os.write(1, b'x' * 65536)"
    assert len(run_bounded([sys.executable, "-c", script])) > MAX_SECRET_BYTES


def test_a_secret_is_in_no_repr_and_basic_is_what_rfc_7617_says() -> None:
    secret = Secret("Aladdin", "open sesame")
    assert "sesame" not in repr(secret)
    assert secret.basic == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


# --- the engine's own secrets


STORED = SecretCredential("arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/hub-AbCdEf")


def test_a_stored_secret_is_read_each_time() -> None:
    values = {STORED.arn: b'{"username": "acme", "accessToken": "one", "more": 1}'}
    credentials = Credentials({}, read_secret=values.__getitem__)
    assert credentials.read(STORED) == Secret("acme", "one")
    values[STORED.arn] = b'{"username": "acme", "accessToken": "two"}'
    assert credentials.read(STORED) == Secret("acme", "two")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"s3cret",
        b"\xff\xfe",
        b'"s3cret"',
        b'["s3cret"]',
        b'{"username": "s3cret"}',
        b'{"username": "acme", "token": "s3cret"}',
        b"[" * 100_000,
        b'{"username": "acme", "accessToken": 3}',
        b'{"username": "acme", "accessToken": ""}',
        b'{"username": "", "accessToken": "s3cret"}',
        b'{"username": "acme", "accessToken": "s3cret\\n"}',
        b'{"username": "acme", "accessToken": "s3cret\\ud800"}',
        b'{"username": "ac:me", "accessToken": "s3cret"}',
        b'{"username": null, "accessToken": "s3cret"}',
    ],
)
def test_a_stored_secret_of_another_form_is_explained_without_its_value(content: bytes) -> None:
    with pytest.raises(CredentialUnreadable, match="its secret") as raised:
        Credentials({}, read_secret=lambda arn: content).read(STORED)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


@given(
    st.binary(max_size=100)
    | st.recursive(st.text() | st.none() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_content_of_a_secret_breaks_its_reader(content: bytes) -> None:
    with pytest.raises(CredentialUnreadable):
        Credentials({}, read_secret=lambda arn: content).read(STORED)


def test_why_a_stored_secret_cannot_be_read_is_passed_on() -> None:
    def gone(arn: str) -> bytes:
        raise SecretUnknown("Secrets Manager can't find the specified secret.")

    with pytest.raises(CredentialUnreadable, match="cannot be read: Secrets Manager can't find the specified secret"):
        Credentials({}, read_secret=gone).read(STORED)
    with pytest.raises(CredentialUnreadable, match="no secrets here"):
        Credentials({}).read(STORED)
