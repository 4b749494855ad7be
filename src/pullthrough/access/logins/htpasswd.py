"""Users of an htpasswd file: name and bcrypt hash, a line each.

https://httpd.apache.org/docs/2.4/misc/password_encryptions.html
A check costs tens of milliseconds of a processor by design. So few run at once, in threads of their own, and clients take
turns: one that sends many does not keep the others waiting. A right login is remembered for a while, since clients send it
with every request. A wrong one is remembered too, for the client that sent it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pullthrough.access.watched_files import WatchedFile
from pullthrough.errors import TooManyLogins
from pullthrough.fairness.asker import client_of
from pullthrough.fairness.gate import Gate
from pullthrough.fairness.queue import FairQueue, QueueFull

_log = logging.getLogger(__name__)

#: bcrypt reads no further, and newer versions of its library refuse to.
MAX_PASSWORD_BYTES = 72
#: 2^12 rounds take a quarter of a second; each more doubles it.
MAX_COST = 14
#: Checks at once and waiting, in one worker. Waiting takes nothing but a connection.
CHECKS_AT_ONCE = 2
CHECKS_WAITING = 1024
REMEMBERED_SECONDS = 300.0
#: A client that repeats what is wrong costs nothing.
WRONG_SECONDS = 30.0
#: Of each kind; the oldest go first.
_MAX_REMEMBERED = 4096
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)
#: How other hashes begin, to refuse them by name.
_OTHERS = {
    "$apr1$": "Apache's MD5",
    "{SHA}": "SHA-1",
    "{SSHA}": "SHA-1",
    "$1$": "MD5",
    "$5$": "SHA-256",
    "$6$": "SHA-512",
    "$y$": "yescrypt",
    "$argon2": "Argon2",
}
#: The cost of a check where there is no such user, and no other to take it from.
_USUAL_COST = "10"

#: Whether the password has the hash; blocks.
CheckPassword = Callable[[bytes, bytes], bool]
#: Runs a blocking function in a thread.
Call = Callable[..., Awaitable[bool]]


def _check_password(password: bytes, hashed: bytes) -> bool:
    import bcrypt  # here: a start should not wait for it

    return bcrypt.checkpw(password, hashed)


class _Remembered:
    """Keyed hashes of logins, for so long, never the logins themselves."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def add(self, proof: bytes) -> None:
        self._ends.pop(proof, None)
        self._ends[proof] = self._monotonic() + self._seconds
        if len(self._ends) > _MAX_REMEMBERED:
            self._ends.popitem(last=False)

    def __contains__(self, proof: bytes) -> bool:
        return self._ends.get(proof, float("-inf")) > self._monotonic()


@dataclass(slots=True, eq=False)
class _Check:
    """A check of one client's login. Whoever sends the same login meanwhile waits for the same check."""

    waiting: int = 0
    has_begun: bool = False


class Htpasswd:
    """Belongs to an event loop."""

    def __init__(
        self,
        path: Path,
        *,
        call: Call | None = None,
        check_password: CheckPassword = _check_password,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigurationError where the file cannot be read. `call` takes the place of its own threads."""
        self._users = watch_users(path)
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="password")
        self._call = call or self._in_thread
        self._check_password = check_password
        self._turns = Gate(FairQueue(CHECKS_AT_ONCE, places=CHECKS_WAITING, displaces=True, newest_by_turns=True))
        self._checks: dict[bytes, tuple[_Check, asyncio.Task[bool]]] = {}
        self._key = os.urandom(32)
        self._right = _Remembered(REMEMBERED_SECONDS, monotonic)
        self._wrong = _Remembered(WRONG_SECONDS, monotonic)

    def close(self) -> None:
        """Wait for the checks that run."""
        self._threads.shutdown()

    async def accepts(self, user: str, password: str, address: str | None) -> bool:
        """`address` is the client's. Raises TooManyLogins where more are waiting than may be.

        Nothing here may take longer, or be answered sooner, because there is such a user.
        """
        secret = password.encode(errors="replace")
        if len(secret) > MAX_PASSWORD_BYTES or b"\0" in secret:
            return False
        users, client = self._users.value(), client_of(address)
        hashed = users.get(user)
        known = hashed or _nobody(users)
        proof = self._proof(user.encode(errors="replace"), known.encode(), secret)
        if hashed is not None and proof in self._right:
            return True
        attempt = self._proof(client.encode(errors="replace"), proof)
        if attempt in self._wrong:
            return False
        is_right = await self._checked(attempt, client, secret, known.encode())
        if not is_right or hashed is None:
            self._wrong.add(attempt)
            return False
        self._right.add(proof)
        return True

    def _proof(self, *parts: bytes) -> bytes:
        """Of the file's hash too: what is remembered ends with it."""
        return hmac.digest(self._key, b"\0".join(parts), "sha256")

    async def _checked(self, attempt: bytes, client: str, secret: bytes, hashed: bytes) -> bool:
        if attempt not in self._checks:
            check = _Check()
            task = asyncio.ensure_future(self._check(check, client, secret, hashed))
            self._checks[attempt] = check, task
            task.add_done_callback(lambda _: self._forget(attempt, check))
        check, task = self._checks[attempt]
        check.waiting += 1
        try:
            return await asyncio.shield(task)
        except QueueFull:
            raise TooManyLogins("too many logins are being checked; try again in a moment") from None
        finally:
            check.waiting -= 1
            # What has begun goes on to its end, and holds its turn, as its thread does.
            if not check.waiting and not check.has_begun:
                self._forget(attempt, check)
                task.cancel()

    async def _check(self, check: _Check, client: str, secret: bytes, hashed: bytes) -> bool:
        async with self._turns.hold(client):
            check.has_begun = True
            return await self._call(self._check_password, secret, hashed)

    def _forget(self, attempt: bytes, check: _Check) -> None:
        if attempt in self._checks and self._checks[attempt][0] is check:
            del self._checks[attempt]

    async def _in_thread(self, function: CheckPassword, password: bytes, hashed: bytes) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, password, hashed)


def _nobody(users: Mapping[str, str]) -> str:
    """A hash that no password has, as costly as the costliest: an answer's time must not tell who is a user."""
    cost = max((hashed[4:6] for hashed in users.values()), default=_USUAL_COST)
    return f"$2b${cost}${'.' * 53}"


def watch_users(path: Path) -> WatchedFile[Mapping[str, str]]:
    """User -> hash, by the file. Raises ConfigurationError where it cannot be read."""
    return WatchedFile(path, "ecr.htpasswd_file", parse_htpasswd)


def parse_htpasswd(content: bytes) -> Mapping[str, str]:
    """User -> hash. Users with a hash that is not taken are left out, with a line in the log; others can log in."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        user, colon, hashed = text.partition(":")
        if not colon or not user:
            raise ValueError(f"has no user and hash in line {number}; a line is `name:$2y$...`")
        bcrypt = _BCRYPT.fullmatch(hashed)
        if bcrypt is None:
            kind = next((name for start, name in _OTHERS.items() if hashed.startswith(start)), "no bcrypt")
            _log.error("ecr.htpasswd_file: %r cannot log in: %s hash; make it with `htpasswd -B`", user, kind)
        elif int(bcrypt[1]) > MAX_COST:
            _log.error("ecr.htpasswd_file: %r cannot log in: the cost %s is above %d", user, bcrypt[1], MAX_COST)
        else:
            users[user] = hashed
    return users
