"""Log lines for what may happen any number of times a second, because strangers make it happen."""

from __future__ import annotations

from collections.abc import Callable

_SECONDS = 60.0


class Notice:
    """Says when it is time for a line: at once, and then once in a while, with how often it happened since."""

    def __init__(self, clock: Callable[[], float], seconds: float = _SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._quiet_until = float("-inf")
        self._count = 0

    def count(self) -> int:
        """It has happened once more. How often since the last line, where it is time for another; else 0."""
        self._count += 1
        now = self._clock()
        if now < self._quiet_until:
            return 0
        self._quiet_until = now + self._seconds
        count, self._count = self._count, 0
        return count
