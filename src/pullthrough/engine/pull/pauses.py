"""What is not asked again for a while, since the upstream has just not answered: the cached answer goes out at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from pullthrough.errors import UpstreamError, UpstreamThrottled

#: After a failed check the cached answer goes out for this long before the upstream is asked again.
FAILED_CHECK_PAUSE_SECONDS = 10.0
#: Clients choose what is checked; all of it is forgotten before it grows beyond this.
_MAX_PAUSES = 10_000


class Pauses:
    """Until when which checks are not repeated, and why the last one failed. Of one worker, in memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[Hashable, tuple[float, str]] = {}

    def begin(self, key: Hashable, reason: str, seconds: float = FAILED_CHECK_PAUSE_SECONDS) -> None:
        if len(self._until) >= _MAX_PAUSES:
            self._until.clear()
        self._until[key] = (self._clock() + seconds, reason)

    def begin_after(self, key: Hashable, error: UpstreamError) -> None:
        """As long as the upstream ordered, where it did."""
        seconds = error.retry_after_seconds if isinstance(error, UpstreamThrottled) else 0.0
        self.begin(key, error.message, max(seconds, FAILED_CHECK_PAUSE_SECONDS))

    def end(self, key: Hashable) -> None:
        self._until.pop(key, None)

    def reason(self, key: Hashable) -> str:
        """Why the last check failed, while its pause lasts; empty where there is none."""
        until, reason = self._until.get(key, (0.0, ""))
        return reason if self._clock() < until else ""
