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
from dataclasses import dataclass, replace

from pullthrough.shared_state import Records, SharedState

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


@dataclass(frozen=True, slots=True)
class Quota:
    """What an upstream has said of its rate limit. Pure: `now` is the clock that `paused_until` is told by, `unix_now` the
    time of day, which headers may speak of. Names of headers are in lower case."""

    remaining: int | None = None
    limit: int | None = None
    paused_until: float = 0.0
    #: Answers of 429 since the last other one.
    in_a_row: int = 0

    def paused_seconds(self, now: float) -> float:
        # Without what floats add: clients are told whole seconds, rounded up, and 600 are not 601.
        return max(0.0, round(self.paused_until - now, 6))

    def answered(self, headers: Mapping[str, str], *, now: float, unix_now: float) -> Quota:
        """An answer other than 429 came."""
        after = self._read(headers, in_a_row=0)
        reset = headers.get("ratelimit-reset", "")
        seconds = parse_wait(reset, unix_now) if after.remaining == 0 and reset else None
        return after if seconds is None else after._paused(seconds, now)

    def throttled(self, headers: Mapping[str, str], *, now: float, unix_now: float) -> Quota:
        """429 came."""
        seconds: float | None = None
        for name in ("retry-after", "ratelimit-reset"):
            if seconds is None and headers.get(name):
                seconds = parse_wait(headers[name], unix_now)
        if seconds is None:
            seconds = min(DEFAULT_PAUSE_SECONDS * 2 ** min(self.in_a_row, 10), MAX_DEFAULT_PAUSE_SECONDS)
        return self._read(headers, in_a_row=self.in_a_row + 1)._paused(seconds, now)

    def _read(self, headers: Mapping[str, str], *, in_a_row: int) -> Quota:
        remaining = parse_count(headers.get("ratelimit-remaining", ""))
        limit = parse_count(headers.get("ratelimit-limit", ""))
        return Quota(
            self.remaining if remaining is None else remaining,
            self.limit if limit is None else limit,
            self.paused_until,
            in_a_row,
        )

    def _paused(self, seconds: float, now: float) -> Quota:
        return replace(self, paused_until=max(self.paused_until, now + seconds))


_UNKNOWN = Quota()


class Budget:
    """That of one upstream, whose quota is shared. Any thread.

    `clock` is the time of day.
    """

    def __init__(
        self,
        state: SharedState,
        upstream: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quotas: Records[str, Quota] = state.records("budgets")
        self._upstream = upstream
        self._now = state.now
        self._listeners: list[Callable[[int | None, float], None]] = []
        self._clock = clock
        self._lock = threading.Lock()
        self._reported: tuple[int | None, float] = (None, 0.0)

    def tell(self, changed: Callable[[int | None, float], None]) -> None:
        """From now on `changed` is called after each change, with what is left and the Unix time the pause ends (0: none)."""
        self._listeners.append(changed)

    @property
    def remaining(self) -> int | None:
        return self._quota.remaining

    @property
    def limit(self) -> int | None:
        return self._quota.limit

    @property
    def paused_seconds(self) -> float:
        """How long the upstream must not be asked; 0 where it may be."""
        return self._quota.paused_seconds(self._now())

    @property
    def paused_until(self) -> float | None:
        """The Unix time of the pause's end; None where there is no pause."""
        seconds = self.paused_seconds
        return self._clock() + seconds if seconds else None

    def answered(self, headers: Mapping[str, str]) -> None:
        """An answer other than 429 came, with these headers (names in lower case)."""
        now, unix_now = self._now(), self._clock()
        self._report(self._change(lambda quota: quota.answered(headers, now=now, unix_now=unix_now)))

    def throttled(self, headers: Mapping[str, str]) -> float:
        """429 came. The seconds to wait before the next request."""
        now, unix_now = self._now(), self._clock()
        quota = self._change(lambda quota: quota.throttled(headers, now=now, unix_now=unix_now))
        self._report(quota)
        return quota.paused_seconds(now)

    @property
    def _quota(self) -> Quota:
        return self._quotas.get(self._upstream) or _UNKNOWN

    def _change(self, change: Callable[[Quota], Quota]) -> Quota:
        def twice(quota: Quota | None) -> tuple[Quota, Quota]:
            after = change(quota or _UNKNOWN)
            return after, after

        return self._quotas.change(self._upstream, twice)

    def _report(self, quota: Quota) -> None:
        # By the pause's fixed end, not the Unix time computed from it, which differs in each reading.
        state = (quota.remaining, quota.paused_until if quota.paused_seconds(self._now()) else 0.0)
        with self._lock:
            if state == self._reported:
                return
            self._reported = state
        for changed in self._listeners:
            changed(quota.remaining, self.paused_until or 0.0)
