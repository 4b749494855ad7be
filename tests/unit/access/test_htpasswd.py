"""Users of an htpasswd file: bcrypt only, few checks at once, nothing kept of a password."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from pullthrough.access.htpasswd import (
    CHECKS_AT_ONCE,
    CHECKS_WAITING,
    REMEMBERED_SECONDS,
    Htpasswd,
    parse_htpasswd,
)
from pullthrough.errors import ConfigurationError, TooManyLogins

HASHED = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
FORM = "$2b$11$" + "a" * 53


async def call(function: Callable[..., bool], *arguments: Any) -> bool:
    return function(*arguments)


class Checks:
    """Stands for bcrypt: a password is right if it is `hunter2` and the hash is some user's."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self.asked.append((password, hashed))
        return password == b"hunter2" and not hashed.endswith(b"." * 53)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"# users\n\nbob:{FORM}\n")
    return path


async def test_real_hashes_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(f"bob:{HASHED}\r\nalice:{HASHED.replace('$2b$', '$2y$')}\n")
    users = Htpasswd(path, call=call)
    assert await users.accepts("bob", "hunter2")
    assert await users.accepts("alice", "hunter2")
    assert not await users.accepts("bob", "hunter3")
    assert not await users.accepts("eve", "hunter2")
    assert not await users.accepts("", "hunter2")
    assert not await users.accepts("bob", "")


async def test_what_bcrypt_does_not_read_is_refused_unasked(file: Path) -> None:
    checks = Checks()
    users = Htpasswd(file, call=call, check_password=checks)
    assert not await users.accepts("bob", "x" * 73)
    assert not await users.accepts("bob", "é" * 37)
    assert not await users.accepts("bob", "hunter2\0x")
    assert checks.asked == []


async def test_an_unknown_user_costs_as_much_as_a_known_one(file: Path) -> None:
    checks = Checks()
    users = Htpasswd(file, call=call, check_password=checks)
    assert not await users.accepts("eve", "hunter2")
    assert [hashed for _, hashed in checks.asked] == [b"$2b$11$" + b"." * 53]
    file.write_text("")
    assert not await users.accepts("eve", "hunter2")
    assert checks.asked[-1][1] == b"$2b$10$" + b"." * 53


async def test_a_login_that_was_right_is_remembered_for_a_while(file: Path) -> None:
    checks, now = Checks(), [0.0]
    users = Htpasswd(file, call=call, check_password=checks, monotonic=lambda: now[0])
    for _ in range(3):
        assert await users.accepts("bob", "hunter2")
    assert len(checks.asked) == 1
    assert not await users.accepts("bob", "hunter3")
    now[0] = REMEMBERED_SECONDS
    assert await users.accepts("bob", "hunter2")
    assert len(checks.asked) == 3
    # What is remembered holds no password.
    assert not any(b"hunter2" in proof for proof in vars(users)["_right"])


async def test_a_changed_file_counts_at_once(file: Path) -> None:
    checks = Checks()
    users = Htpasswd(file, call=call, check_password=checks)
    assert await users.accepts("bob", "hunter2")
    file.write_text(f"alice:{FORM}\n")
    assert not await users.accepts("bob", "hunter2")
    assert await users.accepts("alice", "hunter2")
    file.unlink()
    assert await users.accepts("alice", "hunter2")


async def test_few_checks_run_at_once_and_few_more_wait(file: Path) -> None:
    running, most, gate = 0, 0, asyncio.Event()

    async def slow(function: Callable[..., bool], *arguments: Any) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return function(*arguments)

    users = Htpasswd(file, call=slow, check_password=Checks())
    waiting = [
        asyncio.create_task(users.accepts("bob", f"wrong {number}"))
        for number in range(CHECKS_AT_ONCE + CHECKS_WAITING)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(TooManyLogins):
        await users.accepts("bob", "hunter2")
    gate.set()
    assert await asyncio.gather(*waiting) == [False] * len(waiting)
    assert most == CHECKS_AT_ONCE
    assert await users.accepts("bob", "hunter2")


async def test_who_goes_away_leaves_the_check_in_its_turn(file: Path) -> None:
    """Else clients that do not wait for their answers could have any number of checks run at once."""
    running, most, gate = 0, 0, asyncio.Event()

    async def thread() -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return False

    def slow(function: Callable[..., bool], *arguments: Any) -> asyncio.Future[bool]:
        work = asyncio.ensure_future(thread())
        outer: asyncio.Future[bool] = asyncio.shield(work)  # like a thread, it goes on when nobody waits for it
        return outer

    users = Htpasswd(file, call=slow, check_password=Checks())
    for _ in range(CHECKS_WAITING):
        hasty = asyncio.create_task(users.accepts("bob", "wrong"))
        for _ in range(3):
            await asyncio.sleep(0)
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
    assert running == most == CHECKS_AT_ONCE
    gate.set()
    assert not await users.accepts("bob", "wrong")
    assert most == CHECKS_AT_ONCE


@pytest.mark.parametrize(
    ("hashed", "why"),
    [
        ("$apr1$salt$hash", "Apache's MD5"),
        ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "SHA-1"),
        ("$6$salt$hash", "SHA-512"),
        ("$argon2id$v=19$", "Argon2"),
        ("hunter2", "no bcrypt"),
        ("$2b$10$short", "no bcrypt"),
        ("$2b$31$" + "a" * 53, "the cost 31"),
    ],
)
def test_other_hashes_are_refused_by_name(hashed: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        users = parse_htpasswd(f"bob:{hashed}\nalice:{FORM}\n".encode())
    assert list(users) == ["alice"]
    assert "'bob' cannot log in" in caplog.text
    assert why in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"bob", "line 1"), (b"\n\n:hash", "line 3"), (b"\xff:x", "is not UTF-8")],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "htpasswd"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        Htpasswd(path, call=call)
    assert caught.value.message.startswith("ecr.htpasswd_file: the file ")


def test_a_file_that_is_not_there_keeps_the_engine_from_starting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        Htpasswd(tmp_path / "none", call=call)


async def test_a_broken_file_leaves_the_last_good_one_in_force(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    users = Htpasswd(file, call=call, check_password=Checks())
    file.write_text("nonsense")
    os.utime(file, (1, 1))
    with caplog.at_level(logging.ERROR):
        assert await users.accepts("bob", "hunter2")
        assert await users.accepts("bob", "hunter2")
    assert caplog.text.count("what it held before stays in force") == 1
