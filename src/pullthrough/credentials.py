"""Reading credentials from where they are: the environment, a file, a command's output, or the engine's own secrets.

Secrets stay in memory, out of messages and reprs. Files are read again when they change; a command's output is kept for
COMMAND_SECONDS; both are read anew after an upstream refused what they gave. The engine's own secrets are read each time,
so that a new value counts from the next question to the upstream.
"""

from __future__ import annotations

import base64
import json
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pullthrough.declaration import Credential, CredentialSource, SecretCredential
from pullthrough.errors import PullthroughError, SecretUnknown

#: Tokens from cloud commands live from 1 h (Google) to 12 h (ECR).
COMMAND_SECONDS = 600.0
COMMAND_LIMIT_SECONDS = 10.0
#: After a refusal each request asks for a fresh secret; the command is run once in this time for all of them.
RENEWAL_PAUSE_SECONDS = 30.0
MAX_SECRET_BYTES = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_POLL_SECONDS = 0.1


class CredentialUnreadable(Exception):
    """A credential's place gave none. The message says which and why, without any part of a secret."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A user name and token as they are now."""

    username: str
    token: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header, RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.token}".encode()).decode()


@dataclass(slots=True)
class _Known:
    lock: threading.Lock = field(default_factory=threading.Lock)
    secret: Secret | None = None
    problem: str = ""
    #: What the file looked like.
    signature: object = None
    read_at: float = float("-inf")


#: Runs a command and gives its standard output; raises OSError or CredentialUnreadable.
RunCommand = Callable[[Sequence[str]], bytes]
#: The current value of the secret with this ARN; raises PullthroughError.
ReadSecret = Callable[[str], bytes]


def no_secrets(arn: str) -> bytes:
    """Where there is no Secrets Manager."""
    raise SecretUnknown("there are no secrets here")


class Credentials:
    """Thread-safe; one reader a source at a time."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        read_secret: ReadSecret = no_secrets,
        run_command: RunCommand | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = environ
        self._read_secret = read_secret
        self._run_command = run_command or run_bounded
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[CredentialSource, _Known] = {}

    def read(self, source: Credential, *, renew: bool = False) -> Secret:
        """The secret as it is now. `renew` after a refusal: do not trust what was read before.

        Blocks for as long as the file or the command takes. Raises CredentialUnreadable.
        """
        if isinstance(source, SecretCredential):
            return self._read_stored(source)
        with self._lock:
            known = self._known.setdefault(source, _Known())
        with known.lock:
            if source.access_token:
                return self._secret(source, source.access_token.token.encode())
            if source.access_token_env:
                return self._secret(source, self._read_variable(source.access_token_env))
            if source.access_token_file is not None:
                return self._read_file(source, source.access_token_file, known, renew=renew)
            return self._read_command(source, known, renew=renew)

    def _read_stored(self, source: SecretCredential) -> Secret:
        try:
            content = self._read_secret(source.arn)
        except PullthroughError as error:
            raise CredentialUnreadable(f"its secret cannot be read: {error.message}") from error
        secret = parse_secret(content)
        if source.account and secret.username != source.account:
            # What is fetched with it would be kept as the former account's. The rules are read anew in a moment.
            raise CredentialUnreadable("its secret has become another account's")
        return secret

    def _read_variable(self, name: str) -> bytes:
        text = self._environ.get(name, "")
        if not text:
            raise CredentialUnreadable("the environment variable of the access token is not set")
        return os.fsencode(text)

    def _read_file(self, source: CredentialSource, path: Path, known: _Known, *, renew: bool) -> Secret:
        try:
            stat = path.stat()
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if known.secret is not None and known.signature == signature and not renew:
                return known.secret
            with path.open("rb") as file:
                content = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise CredentialUnreadable(f"the access token's file cannot be read: {error.strerror}") from error
        known.secret = self._secret(source, content)
        known.signature = signature
        return known.secret

    def _read_command(self, source: CredentialSource, known: _Known, *, renew: bool) -> Secret:
        age = self._monotonic() - known.read_at
        if age < (RENEWAL_PAUSE_SECONDS if renew or known.secret is None else COMMAND_SECONDS):
            if known.secret is None:
                raise CredentialUnreadable(known.problem)
            return known.secret
        known.secret = None
        try:
            known.secret = self._secret(source, self._run_command(source.access_token_command))
        except OSError as error:
            known.problem = f"the access token's command cannot be run: {error.strerror}"
            raise CredentialUnreadable(known.problem) from error
        except CredentialUnreadable as error:
            known.problem = str(error)
            raise
        finally:
            known.read_at = self._monotonic()
        return known.secret

    def _secret(self, source: CredentialSource, content: bytes) -> Secret:
        if len(content) > MAX_SECRET_BYTES:
            raise CredentialUnreadable(f"the access token has more than {MAX_SECRET_BYTES:,} bytes")
        try:
            token = content.decode().strip()
        except UnicodeDecodeError:
            # Without its cause: that one holds the bytes.
            raise CredentialUnreadable("the access token is not text in UTF-8") from None
        if not token:
            raise CredentialUnreadable("the access token is empty")
        if _CONTROL.search(token):
            raise CredentialUnreadable("the access token has several lines or control characters")
        return Secret(source.username, token)


def parse_secret(content: bytes) -> Secret:
    """What a secret of Secrets Manager holds for a rule: a JSON object with `username` and `accessToken`.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html
    Raises CredentialUnreadable.
    """
    try:
        document = json.loads(content)
        username, token = document["username"], document["accessToken"]
    except (ValueError, RecursionError, LookupError, TypeError):
        # Without its cause: that one quotes the value.
        raise CredentialUnreadable("its secret is not a JSON object with `username` and `accessToken`") from None
    for part, name in ((username, "username"), (token, "accessToken")):
        if not isinstance(part, str) or not part or not part.isprintable():
            raise CredentialUnreadable(f"the {name} in its secret is not a text of one line")
    if ":" in username:
        raise CredentialUnreadable("the username in its secret has a colon, which cannot be sent")
    return Secret(username, token)


def run_bounded(command: Sequence[str], limit_seconds: float = COMMAND_LIMIT_SECONDS) -> bytes:
    """Standard output of a command run without a shell: bounded in time and size, its errors unseen.

    The command and what it started are killed past the limit. Raises OSError where it cannot be started,
    CredentialUnreadable where it fails.
    """
    deadline = time.monotonic() + limit_seconds
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # Its complaints may quote the secret.
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        output = bytearray()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while len(output) <= MAX_SECRET_BYTES:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise subprocess.TimeoutExpired("command", limit_seconds)
                    if selector.select(left):
                        part = os.read(process.stdout.fileno(), MAX_SECRET_BYTES)
                        if not part:
                            break
                        output += part
            code = 0 if len(output) > MAX_SECRET_BYTES else process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CredentialUnreadable(f"the access token's command did not end within {limit_seconds:g} s") from None
        finally:
            if process.poll() is None:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it ended in the meantime
    if code:
        raise CredentialUnreadable(f"the access token's command failed with exit code {code}")
    return bytes(output)
