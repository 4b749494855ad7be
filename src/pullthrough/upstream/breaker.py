"""A circuit breaker an endpoint: after several failures in a row it is left alone for a while.

Only network errors and 5xx are failures; any other answer, 404 and 429 included, shows that somebody is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from pullthrough.shared_state import Records, SharedState

OPEN_AFTER = 5
FIRST_OPEN_SECONDS = 15.0
MAX_OPEN_SECONDS = 120.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    #: One probe is under way; what it meets decides.
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of an endpoint, and what becomes of it. Pure; `now` is the clock that `open_until` is told by."""

    failures: int = 0
    #: How long it was opened for; 0 while it is closed.
    open_seconds: float = 0.0
    open_until: float = 0.0
    #: Whether a probe is out.
    probing: bool = False
    #: The last failure's message; empty while there is none.
    reason: str = ""

    @property
    def state(self) -> BreakerState:
        if not self.open_seconds:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.probing else BreakerState.OPEN

    def blocked_seconds(self, now: float) -> float:
        """0 where a request may be made."""
        if not self.open_seconds:
            return 0.0
        left = self.open_until - now
        # While the probe is out, its outcome is a moment away.
        return max(left, 1.0) if self.probing else max(left, 0.0)

    def asked(self) -> Circuit:
        """A request that may be made is: of an open circuit, it is the probe."""
        return replace(self, probing=True) if self.open_seconds else self

    def failed(self, reason: str, *, is_probe: bool, now: float) -> Circuit:
        after = replace(self, failures=self.failures + 1, reason=reason)
        if is_probe:
            return replace(after, probing=False)._opened(min(self.open_seconds * 2, MAX_OPEN_SECONDS), now)
        if not self.open_seconds and after.failures >= OPEN_AFTER:
            return after._opened(FIRST_OPEN_SECONDS, now)
        return after

    def released(self, *, is_probe: bool) -> Circuit:
        """Nothing was learnt."""
        return replace(self, probing=False) if is_probe else self

    def _opened(self, seconds: float, now: float) -> Circuit:
        return replace(self, open_seconds=seconds, open_until=now + seconds)


class Permit:
    """Leave to make one request. Settled once, by the first of its methods; `release` where nothing was learnt."""

    def __init__(self, breaker: Breaker, *, is_probe: bool) -> None:
        self._breaker = breaker
        self._is_probe = is_probe
        self._settled = False

    def succeeded(self) -> None:
        self._settle(lambda circuit: _CLOSED)

    def failed(self, reason: str) -> None:
        now = self._breaker.now()
        self._settle(lambda circuit: circuit.failed(reason, is_probe=self._is_probe, now=now))

    def release(self) -> None:
        self._settle(lambda circuit: circuit.released(is_probe=self._is_probe))

    def _settle(self, change: Callable[[Circuit], Circuit]) -> None:
        if not self._settled:
            self._settled = True
            self._breaker.change(change)


class Breaker:
    """That of one endpoint, whose circuit is shared. Any thread."""

    def __init__(self, state: SharedState, endpoint: str) -> None:
        self._circuits: Records[str, Circuit] = state.records("breakers")
        self._endpoint = endpoint
        self.now = state.now

    @property
    def state(self) -> BreakerState:
        return self._circuit.state

    @property
    def reason(self) -> str:
        """The last failure's message; empty while there is none."""
        return self._circuit.reason

    def blocked_seconds(self) -> float:
        """0 where a request may be made now."""
        return self._circuit.blocked_seconds(self.now())

    def permit(self) -> Permit | None:
        """None where no request may be made now. The caller must settle the permit."""
        now = self.now()

        def ask(circuit: Circuit | None) -> tuple[Circuit | None, bool | None]:
            """Whether it is the probe; None where it may not be made."""
            circuit = circuit or _CLOSED
            if circuit.blocked_seconds(now) > 0:
                return circuit, None
            return circuit.asked(), circuit.open_seconds > 0

        is_probe = self._circuits.change(self._endpoint, ask)
        return None if is_probe is None else Permit(self, is_probe=is_probe)

    def change(self, change: Callable[[Circuit], Circuit]) -> None:
        self._circuits.change(self._endpoint, lambda circuit: (change(circuit or _CLOSED), None))

    @property
    def _circuit(self) -> Circuit:
        return self._circuits.get(self._endpoint) or _CLOSED


#: Of an endpoint that nothing is known of.
_CLOSED = Circuit()
