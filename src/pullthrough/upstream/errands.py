"""One thing that is wanted of an upstream, however often it takes to ask for it."""

from __future__ import annotations

from pullthrough.upstream.http.urls import Url

_CLOCK_SLACK_SECONDS = 0.1


class Errand:
    """What is left of its patience with the rate limit, and which endpoints' breakers it has counted for.

    A limit that began anew with each try would multiply: tries, resumptions and pauses of one pull share this. One user
    at a time, in whichever thread.
    """

    def __init__(self, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self._failed: set[Url] = set()

    def spend(self, seconds: float) -> bool:
        """Whether there was so much patience left. Clocks differ a little: a pause that is over a moment late fits still."""
        if seconds > self.patience_seconds + _CLOCK_SLACK_SECONDS:
            return False
        self.patience_seconds = max(0.0, self.patience_seconds - seconds)
        return True

    def first_failure(self, endpoint: Url) -> bool:
        """Note a failure of this endpoint; whether it is the errand's first there, which is the one that counts."""
        is_first = endpoint not in self._failed
        self._failed.add(endpoint)
        return is_first
