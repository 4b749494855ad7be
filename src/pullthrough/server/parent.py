"""The process that looks after several workers."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from pullthrough.errors import ConfigurationError, PullthroughError
from pullthrough.server.announcement import announce
from pullthrough.server.opening import Opened
from pullthrough.server.process import loop_factory
from pullthrough.server.worker import work
from pullthrough.settings import Settings
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.generation import Generation

_log = logging.getLogger("pullthrough")

_MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PR_SET_PDEATHSIG = 1
#: A worker that dies sooner than this after its start was not killed by chance: wait before the next one.
_RESTART_PAUSE_SECONDS = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Parent:
    """Looks after the workers. Runs no event loop and no thread, so that it may fork."""

    def __init__(self, settings: Settings, shared: Opened) -> None:
        self._settings = settings
        self._shared = shared
        self._slots = settings.serve.workers + 1
        self._slot_of: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._stopping = False

    def run(self) -> int:
        folder = self._shared.folder
        metrics_folder = folder.path / "metrics"
        shutil.rmtree(metrics_folder, ignore_errors=True)
        metrics_folder.mkdir(mode=0o700)
        os.environ[_MULTIPROCESS_VARIABLE] = str(metrics_folder)
        generations = [Generation(path, 0, self._slots) for path in (folder.generation_path, folder.configuration_path)]
        handled = {*_SIGNALS, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        try:
            for slot in range(1, self._slots):
                self._wait_until_ready(self._fork(slot))
            announce(self._settings, self._shared.listeners)
            while self._slot_of:
                match signal.sigwait(handled):
                    case signal.SIGCHLD:
                        self._bury(generations, metrics_folder)
                    case signal.SIGHUP:
                        self._signal_all(signal.SIGHUP)
                    case other:
                        self._stopping = True
                        self._signal_all(signal.Signals(other))
            return 0 if self._stopping else 1
        finally:
            self._signal_all(signal.SIGKILL)
            for generation in generations:
                generation.close()

    def _signal_all(self, which: signal.Signals) -> None:
        for pid in self._slot_of:
            try:
                os.kill(pid, which)
            except ProcessLookupError:
                pass  # it has just ended; SIGCHLD says so

    def _fork(self, slot: int) -> int:
        """Returns the read end of a pipe that the worker writes to when it is ready."""
        reading, writing = os.pipe()
        parent = os.getpid()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(writing)
            self._slot_of[pid] = slot
            self._started[pid] = time.monotonic()
            return reading
        code = 1
        try:
            os.close(reading)
            # If the parent goes, however it goes, the workers must: another engine may then take the folder.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_SIGNALS, signal.SIGCHLD})
            self._be_worker(slot, writing)
            code = 0
        except PullthroughError as error:
            _log.error("worker %d: %s", slot, error)
        except BaseException:
            _log.exception("worker %d failed", slot)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _be_worker(self, slot: int, ready: int) -> None:
        shared = replace(self._shared, folder=DataFolder.attach(self._shared.folder.path))
        with asyncio.Runner(loop_factory=loop_factory(self._settings.serve.loop)) as runner:
            runner.run(
                work(self._settings, shared, slot=slot, slots=self._slots, ready=lambda: _say_ready(ready)),
            )

    def _wait_until_ready(self, reading: int) -> None:
        try:
            if os.read(reading, 1) != b"1":
                raise ConfigurationError("a worker could not start", hint="its log lines above say why")
        finally:
            os.close(reading)

    def _bury(self, generations: list[Generation], metrics_folder: Path) -> None:
        """Replace workers that died, unless all are to end."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = self._slot_of.pop(pid)
            # It may have died between a commit and telling of it.
            for generation in generations:
                generation.bump()
            for gauge in metrics_folder.glob(f"gauge_live*_{pid}.db"):
                gauge.unlink(missing_ok=True)
            if self._stopping:
                continue
            _log.error("worker %d ended with status %d and is started again", slot, os.waitstatus_to_exitcode(status))
            if time.monotonic() - self._started.pop(pid) < _RESTART_PAUSE_SECONDS:
                time.sleep(_RESTART_PAUSE_SECONDS)
            os.close(self._fork(slot))


def _say_ready(pipe: int) -> None:
    try:
        os.write(pipe, b"1")
    except BrokenPipeError:
        pass  # a worker that replaces another: nobody waits for it
    finally:
        os.close(pipe)
