"""Users of an htpasswd file: bcrypt only, few checks at once, nothing kept of a password."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from pullthrough.access.logins.htpasswd import (
    CHECKS_AT_ONCE,
    CHECKS_WAITING,
    REMEMBERED_SECONDS,
    WRONG_SECONDS,
    Htpasswd,
    parse_htpasswd,
)
from pullthrough.errors import ConfigurationError, TooManyLogins

HASHED = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
CLIENT, OTHER = "192.0.2.1", "192.0.2.2"
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
    assert await users.accepts("bob", "hunter2", CLIENT)
    assert await users.accepts("alice", "hunter2", CLIENT)
    assert not await users.accepts("bob", "hunter3", CLIENT)
    assert not await users.accepts("eve", "hunter2", CLIENT)
    assert not await users.accepts("", "hunter2", CLIENT)
    assert not await users.accepts("bob", "", CLIENT)


async def test_what_bcrypt_does_not_read_is_refused_unasked(file: Path) -> None:
    checks = Checks()
    users = Htpasswd(file, call=call, check_password=checks)
    assert not await users.accepts("bob", "x" * 73, CLIENT)
    assert not await users.accepts("bob", "é" * 37, CLIENT)
    assert not await users.accepts("bob", "hunter2\0x", CLIENT)
    assert checks.asked == []


async def test_an_unknown_user_costs_as_much_as_a_known_one(file: Path) -> None:
    checks = Checks()
    users = Htpasswd(file, call=call, check_password=checks)
    assert not await users.accepts("eve", "hunter2", CLIENT)
    assert [hashed for _, hashed in checks.asked] == [b"$2b$11$" + b"." * 53]
    file.write_text("")
    assert not await users.accepts("eve", "hunter2", CLIENT)
    assert checks.asked[-1][1] == b"$2b$10$" + b"." * 53


async def test_a_login_that_was_right_is_remembered_for_a_while(file: Path) -> None:
    checks, now = Checks(), [0.0]
    users = Htpasswd(file, call=call, check_password=checks, monotonic=lambda: now[0])
    for client in (CLIENT, OTHER, None):
        assert await users.accepts("bob", "hunter2", client)
    assert len(checks.asked) == 1
    now[0] = REMEMBERED_SECONDS
    assert await users.accepts("bob", "hunter2", CLIENT)
    assert len(checks.asked) == 2


@pytest.mark.parametrize("user", ["bob", "eve"])
async def test_a_login_that_was_wrong_is_remembered_for_a_short_while(file: Path, user: str) -> None:
    """Alike for users that there are and that there are not; and for the client that sent it, not for others."""
    checks, now = Checks(), [0.0]
    users = Htpasswd(file, call=call, check_password=checks, monotonic=lambda: now[0])
    for _ in range(3):
        assert not await users.accepts(user, "hunter3", CLIENT)
    assert len(checks.asked) == 1
    assert not await users.accepts(user, "hunter3", OTHER)
    assert not await users.accepts(user, "hunter4", CLIENT)
    assert len(checks.asked) == 3
    now[0] = WRONG_SECONDS
    assert not await users.accepts(user, "hunter3", CLIENT)
    assert len(checks.asked) == 4


async def test_what_is_remembered_is_bounded_and_holds_no_login(file: Path) -> None:
    users = Htpasswd(file, call=call, check_password=Checks())
    assert await users.accepts("bob", "hunter2", CLIENT)
    for number in range(5_000):
        assert not await users.accepts("bob", f"hunter {number}", CLIENT)
    right, wrong = (vars(users)[name]._ends for name in ("_right", "_wrong"))
    assert (len(right), len(wrong)) == (1, 4096)
    assert not any(b"hunter" in proof or b"bob" in proof for proof in (*right, *wrong))
    assert vars(users)["_checks"] == {}
    # The oldest were forgotten.
    assert await users.accepts("bob", "hunter2", CLIENT)


async def test_a_user_who_was_wrong_before_the_file_changed_is_not_so_for_ever(file: Path) -> None:
    users = Htpasswd(file, call=call, check_password=Checks())
    assert not await users.accepts("alice", "hunter2", CLIENT)
    file.write_text(f"alice:{FORM}\n")
    assert await users.accepts("alice", "hunter2", CLIENT)


async def test_a_changed_file_counts_at_once(file: Path) -> None:
    checks = Checks()
    users = Htpasswd(file, call=call, check_password=checks)
    assert await users.accepts("bob", "hunter2", CLIENT)
    file.write_text(f"alice:{FORM}\n")
    assert not await users.accepts("bob", "hunter2", CLIENT)
    assert await users.accepts("alice", "hunter2", CLIENT)
    file.unlink()
    assert await users.accepts("alice", "hunter2", CLIENT)


class Thread:
    """Checks take a turn of the event loop each, or as long as `gate` is closed; some number of them at once."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.running = self.most = self.done = 0
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    def __call__(self, function: Callable[..., bool], *arguments: Any) -> asyncio.Future[bool]:
        work = asyncio.ensure_future(self._run(function, *arguments))
        outer: asyncio.Future[bool] = asyncio.shield(work)  # like a thread, it goes on when nobody waits for it
        return outer

    async def _run(self, function: Callable[..., bool], *arguments: Any) -> bool:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.running -= 1
        self.done += 1
        return function(*arguments)


async def settle() -> None:
    """Until everything waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_checks_run_at_once_and_many_more_wait(file: Path) -> None:
    thread = Thread(is_open=False)
    users = Htpasswd(file, call=thread, check_password=Checks())
    waiting = [
        asyncio.create_task(users.accepts("bob", f"wrong {number}", CLIENT))
        for number in range(CHECKS_AT_ONCE + CHECKS_WAITING)
    ]
    await settle()
    with pytest.raises(TooManyLogins):
        await users.accepts("bob", "hunter2", CLIENT)
    thread.gate.set()
    assert await asyncio.gather(*waiting) == [False] * len(waiting)
    assert thread.most == CHECKS_AT_ONCE
    assert await users.accepts("bob", "hunter2", CLIENT)


async def test_a_flood_from_one_client_leaves_others_in(file: Path) -> None:
    """Also when it has all the places there are: it loses one of them, and others' turns come in rotation."""
    thread = Thread(is_open=False)
    users = Htpasswd(file, call=thread, check_password=Checks())
    flood = [
        asyncio.create_task(users.accepts("bob", f"wrong {number}", CLIENT))
        for number in range(CHECKS_AT_ONCE + CHECKS_WAITING)
    ]
    await settle()
    others = [asyncio.create_task(users.accepts("bob", "hunter2", f"192.0.2.{number}")) for number in range(10, 20)]
    await settle()
    thread.gate.set()
    assert await asyncio.gather(*others) == [True] * 10
    assert thread.done < 40
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert [type(result) for result in results].count(TooManyLogins) == 10


async def test_a_flood_of_a_client_leaves_its_own_right_password_in(file: Path) -> None:
    """As where all clients come from one proxy: each of the flood comes again as soon as it was refused."""
    thread = Thread()
    users = Htpasswd(file, call=thread, check_password=Checks())

    async def flood(name: int) -> None:
        for number in count():
            assert not await users.accepts("bob", f"wrong {name} {number}", CLIENT)

    floods = [asyncio.create_task(flood(name)) for name in range(50)]
    await settle()
    before = thread.done
    assert await users.accepts("bob", "hunter2", CLIENT)
    assert thread.done - before < 120
    for one in floods:
        one.cancel()
    await asyncio.gather(*floods, return_exceptions=True)


async def test_who_sends_what_is_being_checked_waits_for_that(file: Path) -> None:
    thread, checks = Thread(is_open=False), Checks()
    users = Htpasswd(file, call=thread, check_password=checks)
    same = [asyncio.create_task(users.accepts("bob", "hunter2", CLIENT)) for _ in range(2 * CHECKS_WAITING)]
    other = asyncio.create_task(users.accepts("bob", "hunter2", OTHER))
    await settle()
    # The first of them goes away, which is nothing to the others.
    same[0].cancel()
    thread.gate.set()
    assert await asyncio.gather(*same[1:]) == [True] * (len(same) - 1)
    assert await other
    assert len(checks.asked) == 2


async def test_who_goes_away_leaves_the_check_in_its_turn(file: Path) -> None:
    """Else clients that do not wait for their answers could have any number of checks run at once."""
    thread = Thread(is_open=False)
    users = Htpasswd(file, call=thread, check_password=Checks())
    for number in range(40):
        hasty = asyncio.create_task(users.accepts("bob", f"wrong {number}", CLIENT))
        await settle()
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
    assert thread.running == thread.most == CHECKS_AT_ONCE
    # Those that had not begun have left their places.
    right = asyncio.create_task(users.accepts("bob", "hunter2", CLIENT))
    await settle()
    thread.gate.set()
    assert await right
    assert (thread.most, thread.done) == (CHECKS_AT_ONCE, CHECKS_AT_ONCE + 1)


async def test_checks_run_in_threads_of_their_own(file: Path) -> None:
    names: set[str] = set()

    def check(password: bytes, hashed: bytes) -> bool:
        names.add(threading.current_thread().name)
        return True

    users = Htpasswd(file, check_password=check)
    assert await users.accepts("bob", "hunter2", CLIENT)
    users.close()
    assert {name.partition("_")[0] for name in names} == {"password"}


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
        assert await users.accepts("bob", "hunter2", CLIENT)
        assert await users.accepts("bob", "hunter2", CLIENT)
    assert caplog.text.count("what it held before stays in force") == 1
