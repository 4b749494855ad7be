"""`pullthrough` without the time that its imports take: a process that has made them forks one for each command.

What a test starts is a process of its own all the same, with its arguments, environment, folder, output, signals and exit
code. `Fork` is as much of `subprocess.Popen` as tests use. The end-to-end tests' engines are started from nothing.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import prometheus_client.values

import pullthrough
from pullthrough.cli.main import run
from pullthrough.server.process import import_aiohttp

_MOST_BYTES = 1 << 20
#: For other programs.
_NOT_IMPORTED = ("pullthrough.__main__", "pullthrough.cdk", "pullthrough.pulumi", "pullthrough.storage.sql.migrations")


class Fork:
    """One command, forked; `output` and `errors` are file descriptors."""

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], folder: Path, output: int, errors: int
    ) -> None:
        self._parent = _parent()
        self.pid = self._parent.fork({"arguments": arguments, "env": dict(env), "folder": str(folder)}, output, errors)

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._parent.code_of(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._parent.code_of(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("pullthrough", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # It may have ended without our having been told yet.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The process that forks, and which of its children have ended."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.warm", str(theirs.fileno())],
            cwd=Path(__file__).resolve().parents[2],
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket = ours
        self._changed = threading.Condition()
        self._pids: list[int] = []
        self._codes: dict[int, int] = {}
        self._forking = threading.Lock()
        threading.Thread(target=self._listen, name="forked commands", daemon=True).start()
        atexit.register(self.close)

    def fork(self, command: Mapping[str, object], output: int, errors: int) -> int:
        with self._forking:
            socket.send_fds(self._socket, [json.dumps(command).encode()], [output, errors])
            with self._changed:
                assert self._changed.wait_for(lambda: self._pids, 60), "nothing was forked"
                return self._pids.pop()

    def code_of(self, pid: int, timeout: float | None) -> int | None:
        """As `Popen.wait` gives it; None where it has not ended within `timeout`."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._codes, timeout)
            return self._codes.get(pid)

    def _listen(self) -> None:
        while message := self._socket.recv(_MOST_BYTES):
            pid, code = json.loads(message)
            with self._changed:
                if code is None:
                    self._codes.pop(pid, None)  # of one that had the number before
                    self._pids.append(pid)
                else:
                    self._codes[pid] = code
                self._changed.notify_all()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait()


@functools.cache
def _parent() -> _Parent:
    return _Parent()


# -- in the process that forks


def _next_command(connection: socket.socket) -> Sequence[str] | None:
    """Forks until the other side hangs up: None then, and in each forked process the arguments it is for."""
    waker, wakened = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    selector.register(wakened, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is wakened:
                wakened.recv(4096)
                _tell_ended(connection)
                continue
            message, fds, _, _ = socket.recv_fds(connection, _MOST_BYTES, 2)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                # Whoever collected them later would close files of the command that have their numbers by then.
                selector.close()
                for ended in (connection, waker, wakened):
                    ended.detach()
                return _become(json.loads(message), *fds)
            for fd in fds:
                os.close(fd)
            connection.send(json.dumps([pid, None]).encode())


def _tell_ended(connection: socket.socket) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            connection.send(json.dumps([ended[0], os.waitstatus_to_exitcode(ended[1])]).encode())


def _become(command: Mapping[str, Any], output: int, errors: int) -> Sequence[str]:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.closerange(3, 1024)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["env"])
    time.tzset()
    tempfile.tempdir = None
    arguments: Sequence[str] = command["arguments"]
    return arguments


def _import_all() -> None:
    """Whatever a command loads late, too."""
    import_aiohttp()
    for module in pkgutil.walk_packages(pullthrough.__path__, "pullthrough."):
        if not module.name.startswith(_NOT_IMPORTED):
            importlib.import_module(module.name)
    # It decides at its import whether counters are shared by several workers, which a command says later.
    choose = functools.cache(prometheus_client.values.get_value_class)
    prometheus_client.values.ValueClass = lambda *arguments, **keywords: choose()(*arguments, **keywords)


if __name__ == "__main__":
    _import_all()
    gc.collect()
    gc.freeze()
    arguments = _next_command(socket.socket(fileno=int(sys.argv[1])))
    if arguments is not None:
        sys.argv = list(arguments)
        run()
