"""Programs under test: started with an environment of their own, stopped by pid, their output kept in a file."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.warm import Fork

#: Long enough for a daemon's start on a busy machine with two cores; reaching it is a failure, never a result.
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 6000


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a program sees: no settings of the user, no proxies, temporary files and state under `home`."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "XDG_RUNTIME_DIR": str(home),
        "LANG": "C.UTF-8",
    } | more


def wait_for(condition: Callable[[], bool], what: str, *, timeout: float = PATIENCE_SECONDS) -> None:
    """Return once `condition` holds; `what` is said when it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(_POLL_SECONDS)


def run(command: Sequence[str | Path], *, env: Mapping[str, str], timeout: float = 120.0) -> str:
    """Run to the end and return what was printed; a failure says the command and all it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-_LOG_TAIL_BYTES:]
        raise AssertionError(f"exit {done.returncode} of {' '.join(str(part) for part in command)}\n{said}")
    return done.stdout


def run_warm(arguments: Sequence[str | Path], *, env: Mapping[str, str], timeout: float = 120.0) -> str:
    """`run` for `pullthrough`, without the time that its imports take."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        command = [str(part) for part in arguments]
        code = Fork(command, env, Path.cwd(), output.fileno(), errors.fileno()).wait(timeout)
        output.seek(0)
        errors.seek(0)
        printed = output.read()
        if code:
            said = (printed + errors.read())[-_LOG_TAIL_BYTES:]
            raise AssertionError(f"exit {code} of {' '.join(command)}\n{said}")
        return printed


class Process:
    """One daemon of a test. Leaving the context stops it and says on standard output what it logged last.

    `warm`: it is `pullthrough`, and need not make its imports first.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str], log: Path, warm: bool = False
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            arguments = [str(part) for part in command]
            self._process = (
                Fork(arguments, env, log.parent, output.fileno(), output.fileno())
                if warm
                else subprocess.Popen(
                    arguments,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=log.parent,
                )
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_line(self, pattern: str, *, after: int = 0, timeout: float = PATIENCE_SECONDS) -> re.Match[str]:
        """The first match of `pattern` in the log beyond `after` characters; the process must live until then."""
        found: list[re.Match[str]] = []

        def logged() -> bool:
            match = re.search(pattern, self.text()[after:])
            if match:
                found.append(match)
            elif not self.running:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
            return bool(match)

        wait_for(logged, f"{pattern!r} from {self.name}", timeout=timeout)
        return found[0]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Like `wait_for`, but gives up at once when the process has ended."""

        def checked() -> bool:
            if not self.running:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
            return condition()

        wait_for(checked, what)

    def tail(self) -> str:
        return self.text()[-_LOG_TAIL_BYTES:]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL only when that is not obeyed in time. Returns the exit code."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        print(f"--- {self.name}, last lines\n{self.tail()}")  # noqa: T201 - pytest shows it for a failed test


def unmount_below(folder: Path) -> None:
    """Undo the mounts that container daemons leave below their folders, deepest first."""
    for mount in sorted(mounts_below(folder), key=len, reverse=True):
        with contextlib.suppress(AssertionError):
            run(["umount", mount], env=os.environ)


def mounts_below(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]


def free_port() -> int:
    """A port that nobody listens on, below those that Linux gives to outgoing connections, so that it stays free."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
