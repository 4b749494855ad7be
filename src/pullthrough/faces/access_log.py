"""The access log: one JSON line a request, written in batches in a thread.

A line is put together on the event loop: a thread that did it would hold the interpreter for milliseconds at a time, and
requests would wait. The thread only writes.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

from pullthrough.settings import AccessLog
from pullthrough.storage.interfaces import Locks

_text = json.encoder.encode_basestring_ascii
_FLUSH_SECONDS = 0.25
#: Of the lines that may wait while the output is blocked, some 50,000 usual ones; more are dropped and counted, so that
#: logging never stops serving.
_MAX_WAITING_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Entry:
    """One request. Times in seconds; `status` is 0 where the client went away before an answer."""

    time: float
    client: str
    method: str
    path: str
    status: int
    sent_bytes: int
    seconds: float
    kind: str
    outcome: str
    rule: str
    reason: str
    agent: str

    def line(self) -> str:
        """By hand where the text is ours, since this runs for every request; what others chose is encoded."""
        second = int(self.time)
        milliseconds = int((self.time - second) * 1000)
        return (
            f'{{"time": "{_second(second)}.{milliseconds:03d}Z", "client": {_text(self.client)}, '
            f'"method": {_text(self.method)}, "path": {_text(self.path[:1000])}, "status": {self.status}, '
            f'"bytes": {self.sent_bytes}, "seconds": {self.seconds:.6f}, "kind": "{self.kind}", '
            f'"outcome": "{self.outcome}", "rule": "{self.rule}", "reason": {_text(self.reason[:1000])}, '
            f'"agent": {_text(self.agent[:200])}}}'
        )


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class AccessLogger:
    """Collects lines on the loop; a thread of `threads` writes them to the descriptor `output`.

    `locks` keeps the lines of several workers apart where they share a pipe; None where there is one worker.
    """

    def __init__(self, which: AccessLog, output: int, threads: Executor, locks: Locks | None) -> None:
        self._which = which
        self._output = output
        self._threads = threads
        self._locks = locks
        self._waiting: list[str] = []
        self._waiting_bytes = 0
        self._dropped = 0
        self._scheduled = False
        self._closed = False

    def add(self, entry: Entry) -> None:
        if self._which is AccessLog.OFF or (self._which is AccessLog.MISSES and entry.outcome == "hit"):
            return
        if self._waiting_bytes >= _MAX_WAITING_BYTES:
            self._dropped += 1
            return
        line = entry.line()
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._closed:
            return  # the threads have ended, and what waited is written
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._write, self._batch())
        future.add_done_callback(self._flushed)

    def _flushed(self, future: asyncio.Future[None]) -> None:
        future.exception()  # an output that is gone (a closed pipe) must not stop the engine
        self._scheduled = False
        if self._waiting:
            self._schedule()

    def _batch(self) -> bytes:
        lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(json.dumps({"dropped": dropped, "reason": "the log's output was blocked"}))
        return ("\n".join(lines) + "\n").encode("ascii")

    def _write(self, batch: bytes) -> None:
        view = memoryview(batch)
        with self._alone():
            while view:
                view = view[os.write(self._output, view) :]

    def _alone(self) -> AbstractContextManager[object]:
        """Pipes keep only 4 KiB together: pipe(7), PIPE_BUF."""
        return self._locks.held_within("access log", math.inf) if self._locks else nullcontext()

    def close(self) -> None:
        """Write what waits. Blocking; for the engine's end, after the threads'. The loop may go on; nothing is added."""
        self._closed = True
        if self._waiting:
            try:
                self._write(self._batch())
            except OSError:
                pass  # the output is gone
