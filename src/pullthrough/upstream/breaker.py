"""A circuit breaker an endpoint: after several failures in a row it is left alone for a while.

Only network errors and 5xx are failures; any other answer, 404 and 429 included, shows that somebody is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

OPEN_AFTER = 5
FIRST_OPEN_SECONDS = 15.0
MAX_OPEN_SECONDS = 120.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    #: One probe is under way; what it meets decides.
    HALF_OPEN = "half_open"


class Permit:
    """Leave to make one request. Settled once, by the first of its methods; `release` where nothing was learnt."""

    def __init__(self, breaker: Breaker, *, probe: bool) -> None:
        self._breaker = breaker
        self._probe = probe
        self._settled = False

    def succeeded(self) -> None:
        if self._settle():
            self._breaker._succeeded()

    def failed(self, reason: str) -> None:
        if self._settle():
            self._breaker._failed(reason, probe=self._probe)

    def release(self) -> None:
        if self._settle():
            self._breaker._released(probe=self._probe)

    def _settle(self) -> bool:
        settled, self._settled = self._settled, True
        return not settled


class Breaker:
    """Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._open_seconds = 0.0
        self._open_until = 0.0
        self._probing = False
        self._reason = ""

    @property
    def state(self) -> BreakerState:
        with self._lock:
            if not self._open_seconds:
                return BreakerState.CLOSED
            if self._probing:
                return BreakerState.HALF_OPEN
            return BreakerState.OPEN

    @property
    def reason(self) -> str:
        """The last failure's message; empty while there is none."""
        return self._reason

    def blocked_seconds(self) -> float:
        """0 where a request may be made now."""
        with self._lock:
            return self._blocked_seconds()

    def permit(self) -> Permit | None:
        """None where no request may be made now. The caller must settle the permit."""
        with self._lock:
            if self._blocked_seconds() > 0:
                return None
            probe = self._open_seconds > 0
            self._probing = self._probing or probe
            return Permit(self, probe=probe)

    def _blocked_seconds(self) -> float:
        if not self._open_seconds:
            return 0.0
        left = self._open_until - self._monotonic()
        # While the probe is out, its outcome is a moment away.
        return max(left, 1.0) if self._probing else max(left, 0.0)

    def _succeeded(self) -> None:
        with self._lock:
            self._failures, self._open_seconds, self._probing, self._reason = 0, 0.0, False, ""

    def _failed(self, reason: str, *, probe: bool) -> None:
        with self._lock:
            self._reason = reason
            self._failures += 1
            if probe:
                self._probing = False
                self._open(min(self._open_seconds * 2, MAX_OPEN_SECONDS))
            elif not self._open_seconds and self._failures >= OPEN_AFTER:
                self._open(FIRST_OPEN_SECONDS)

    def _released(self, *, probe: bool) -> None:
        with self._lock:
            if probe:
                self._probing = False

    def _open(self, seconds: float) -> None:
        self._open_seconds = seconds
        self._open_until = self._monotonic() + seconds
