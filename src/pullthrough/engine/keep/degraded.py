"""Why the engine serves less than it should: known to all of its workers, whichever of them found out.

A small file that is mapped by each of them. It is made at the engine's start: on a full disk there is no room for one.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)
_FILE_BYTES = 4096
_MAX_SENTENCE = 500


class Degraded:
    """Reasons with a sentence each. Two workers that tell at the same moment may lose one; it is told again soon."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < _FILE_BYTES:
                # Written, not only made long: a hole has no room on the disk yet.
                os.pwrite(descriptor, b"\0" * _FILE_BYTES, 0)
            self._map = mmap.mmap(descriptor, _FILE_BYTES)
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, str]:
        text = self._map[:].partition(b"\0")[0]
        try:
            document = json.loads(text) if text else {}
        except ValueError:
            return {}  # another worker is writing
        return {str(reason): str(sentence) for reason, sentence in document.items()}

    def add(self, reason: str, sentence: str) -> bool:
        """Whether that is news."""
        reasons = self.read()
        self._write(reasons | {reason: sentence[:_MAX_SENTENCE]})
        return reason not in reasons

    def remove(self, reason: str) -> bool:
        """Whether it was there."""
        if self._map[:1] == b"\0":
            return False
        reasons = self.read()
        there = reasons.pop(reason, None) is not None
        if there:
            self._write(reasons)
        return there

    def clear(self) -> None:
        """At the engine's start: nothing is known yet."""
        self._write({})

    def _write(self, reasons: dict[str, str]) -> None:
        text = json.dumps(reasons).encode() if reasons else b""
        self._map[:] = text[: _FILE_BYTES - 1].ljust(_FILE_BYTES, b"\0")

    def close(self) -> None:
        self._map.close()


class Degradation:
    """One worker's word on it. The log is told of what is news, and `told` of each reason and whether it holds."""

    def __init__(self, degraded: Degraded, told: Callable[[str, bool], None]) -> None:
        self._degraded = degraded
        self._told = told

    @property
    def reasons(self) -> dict[str, str]:
        """Reason -> sentence, of all workers."""
        return self._degraded.read()

    def begin(self, reason: str, sentence: str) -> None:
        if self._degraded.add(reason, sentence):
            _log.error("degraded: %s: %s", reason, sentence)
        self._told(reason, True)

    def end(self, reason: str) -> None:
        if self._degraded.remove(reason):
            _log.info("no longer degraded: %s", reason)
            self._told(reason, False)
