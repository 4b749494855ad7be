"""Users of an htpasswd file: name and bcrypt hash, a line each.

https://httpd.apache.org/docs/2.4/misc/password_encryptions.html
A check costs tens of milliseconds of a processor by design. So few run at once, few more may wait, and a login that was
right is remembered for a while: clients send it with every request.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from pullthrough.access.files import WatchedFile
from pullthrough.errors import TooManyLogins

_log = logging.getLogger(__name__)

#: bcrypt reads no further, and newer versions of its library refuse to.
MAX_PASSWORD_BYTES = 72
#: 2^12 rounds take a quarter of a second; each more doubles it.
MAX_COST = 14
#: Checks at once and waiting, in one worker.
CHECKS_AT_ONCE = 2
CHECKS_WAITING = 32
REMEMBERED_SECONDS = 300.0
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


class Htpasswd:
    """Belongs to an event loop."""

    def __init__(
        self,
        path: Path,
        *,
        call: Call,
        check_password: CheckPassword = _check_password,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigurationError where the file cannot be read."""
        self._users = WatchedFile(path, "ecr.htpasswd_file", parse_htpasswd)
        self._call = call
        self._check_password = check_password
        self._monotonic = monotonic
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._checks: set[asyncio.Future[bool]] = set()
        #: What was right is kept as a keyed hash of user, password and the file's hash, never as itself.
        self._key = os.urandom(32)
        self._right: dict[bytes, float] = {}

    async def accepts(self, user: str, password: str) -> bool:
        """Raises TooManyLogins where more are waiting than may be."""
        secret = password.encode(errors="replace")
        if len(secret) > MAX_PASSWORD_BYTES or b"\0" in secret:
            return False
        users = self._users.value()
        hashed = users.get(user)
        known = hashed or _nobody(users)
        proof = hmac.digest(self._key, b"\0".join((user.encode(errors="replace"), known.encode(), secret)), "sha256")
        if hashed is not None and self._right.get(proof, float("-inf")) > self._monotonic():
            return True
        if len(self._checks) >= CHECKS_AT_ONCE + CHECKS_WAITING:
            raise TooManyLogins("too many logins are being checked; try again in a moment")
        # To its end, though the client goes away: its thread goes on too, and its turn with it.
        check = asyncio.ensure_future(self._check(secret, known.encode()))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)
        is_right = await asyncio.shield(check)
        if not is_right or hashed is None:
            return False
        if len(self._right) >= _MAX_REMEMBERED:
            self._right.clear()
        self._right[proof] = self._monotonic() + REMEMBERED_SECONDS
        return True

    async def _check(self, secret: bytes, hashed: bytes) -> bool:
        async with self._turns:
            return await self._call(self._check_password, secret, hashed)


def _nobody(users: Mapping[str, str]) -> str:
    """A hash that no password has, as costly as the costliest: an answer's time must not tell who is a user."""
    cost = max((hashed[4:6] for hashed in users.values()), default=_USUAL_COST)
    return f"$2b${cost}${'.' * 53}"


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
