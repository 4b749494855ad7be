"""What an upstream still lets us ask: its rate-limit headers, and the pauses that it orders.

Docker Hub sends `RateLimit-Remaining: 76;w=21600` to some callers and nothing to those who pay; both are fine. Nothing
is paused for a remaining count of 0 alone unless the upstream says when it is reset: it may well answer.
"""

from __future__ import annotations

import email.utils
import re
import threading
import time
from collections.abc import Callable, Mapping

#: Longer orders are cut to this: a wrong clock upstream must not silence a cache for a day.
MAX_PAUSE_SECONDS = 3600.0
#: For 429 without a usable Retry-After: doubled for each further one in a row.
DEFAULT_PAUSE_SECONDS = 10.0
MAX_DEFAULT_PAUSE_SECONDS = 300.0

_MIN_PAUSE_SECONDS = 1.0
#: Numbers from here on are Unix times, not seconds to wait; some registries send those.
_EARLIEST_UNIX_TIME = 1_000_000_000
_COUNT = re.compile(r"\s*([0-9]{1,12})(?:\.[0-9]*)?\s*(?:[;,].*)?", re.ASCII | re.DOTALL)


def parse_count(text: str) -> int | None:
    """The number in `76`, `76;w=21600` or `100, 100;w=60`; None for anything else."""
    match = _COUNT.fullmatch(text)
    return int(match[1]) if match else None


def parse_wait(text: str, now: float) -> float | None:
    """Seconds to wait by a Retry-After or RateLimit-Reset header: seconds, a Unix time, or an HTTP date.

    At most MAX_PAUSE_SECONDS, at least one; None where the text is none of these.
    """
    number = parse_count(text)
    if number is not None:
        seconds = number - now if number >= _EARLIEST_UNIX_TIME else float(number)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(_MIN_PAUSE_SECONDS, min(seconds, MAX_PAUSE_SECONDS))


class Budget:
    """Thread-safe. `changed` is called after each change with what is left and the Unix time the pause ends (0: none)."""

    def __init__(
        self,
        changed: Callable[[int | None, float], None],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._in_a_row = 0
        self._reported: tuple[int | None, float] = (None, 0.0)
        self.remaining: int | None = None
        self.limit: int | None = None

    @property
    def paused_seconds(self) -> float:
        """How long the upstream must not be asked; 0 where it may be."""
        return max(0.0, self._paused_until - self._monotonic())

    @property
    def paused_until(self) -> float | None:
        """The Unix time of the pause's end; None where there is no pause."""
        seconds = self.paused_seconds
        return self._clock() + seconds if seconds else None

    def answered(self, headers: Mapping[str, str]) -> None:
        """An answer other than 429 came, with these headers (names in lower case)."""
        with self._lock:
            self._in_a_row = 0
            self._read(headers)
            reset = headers.get("ratelimit-reset", "")
            if self.remaining == 0 and reset:
                seconds = parse_wait(reset, self._clock())
                if seconds is not None:
                    self._pause(seconds)
        self._report()

    def throttled(self, headers: Mapping[str, str]) -> float:
        """429 came. The seconds to wait before the next request."""
        with self._lock:
            self._read(headers)
            seconds: float | None = None
            for name in ("retry-after", "ratelimit-reset"):
                if seconds is None and headers.get(name):
                    seconds = parse_wait(headers[name], self._clock())
            if seconds is None:
                seconds = min(DEFAULT_PAUSE_SECONDS * 2 ** min(self._in_a_row, 10), MAX_DEFAULT_PAUSE_SECONDS)
            self._in_a_row += 1
            self._pause(seconds)
            seconds = self.paused_seconds
        self._report()
        return seconds

    def _read(self, headers: Mapping[str, str]) -> None:
        remaining = parse_count(headers.get("ratelimit-remaining", ""))
        limit = parse_count(headers.get("ratelimit-limit", ""))
        self.remaining = remaining if remaining is not None else self.remaining
        self.limit = limit if limit is not None else self.limit

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)

    def _report(self) -> None:
        # By the pause's fixed end, not the Unix time computed from it, which differs in each reading.
        state = (self.remaining, self._paused_until if self.paused_seconds else 0.0)
        with self._lock:
            if state == self._reported:
                return
            self._reported = state
        self._changed(self.remaining, self.paused_until or 0.0)
