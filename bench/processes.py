"""Programs started for a measurement: pinned, logged to a file, waited for, ended by their own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.machine import cpu_seconds, pinned

#: No program here needs longer to start, or to stop.
START_SECONDS = 30.0
STOP_SECONDS = 15.0


class Failed(Exception):
    """A program did not do what the measurement needs; the message has the end of its log."""


class Process:
    """A running program; `log` holds what it wrote. Started in a session of its own, so that no signal reaches others."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        *,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = command
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._popen = subprocess.Popen(
                pinned(core, command) if core is not None else command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def failed(self, what: str) -> Failed:
        return Failed(f"{self.command[0]}: {what}\n{self.text()[-1500:]}")

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Poll until `ready`. Raises Failed where the program ends first, or does not get there in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise self.failed(f"ended with exit code {self.exit_code} before {what}")
            if time.monotonic() > deadline:
                raise self.failed(f"no {what} within {seconds:.0f} s")
            time.sleep(0.005)

    def settle(self, seconds: float = START_SECONDS) -> None:
        """Wait until the program uses next to no CPU (its work behind the last answer is done)."""
        deadline = time.monotonic() + seconds
        before = cpu_seconds(self.pid)
        quiet = 0
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(0.15)
            after = cpu_seconds(self.pid)
            quiet = quiet + 1 if after - before < 0.008 else 0
            before = after

    def kill(self) -> None:
        """kill -9 and wait."""
        self._popen.kill()
        self._popen.wait()

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None where it still runs after that time."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for it and whatever of its session is left."""
        if self.running:
            self._popen.terminate()
            self.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    """Stops the program at the end of the block."""
    try:
        yield process
    finally:
        process.stop()
