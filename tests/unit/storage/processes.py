"""Other processes for tests of what processes share: forked, so that a round takes milliseconds."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Child:
    """A forked process. `output` is what it tells; it ends when the block of `child` does, at the latest."""

    pid: int
    output: int
    ended: bool = False

    def read_line(self) -> str:
        """What it tells next; empty once it has ended."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.output, 1)
            if not byte:
                break
            line += byte
        return line.decode().strip()

    def kill(self) -> None:
        os.kill(self.pid, 9)
        self.wait()

    def wait(self) -> int:
        """Its exit status; negative for a signal."""
        if self.ended:
            return 0
        self.ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def child(work: Callable[[Callable[[str], None]], None]) -> Iterator[Child]:
    """Run `work` in a forked process; it gets a function that tells a line to this one."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            work(lambda line: (os.write(writing, line.encode() + b"\n"), None)[1])
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writing)
    forked = Child(pid, reading)
    try:
        yield forked
    finally:
        if not forked.ended:
            forked.kill()
        os.close(reading)
