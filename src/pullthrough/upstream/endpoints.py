"""Where an upstream is reached, and how often: endpoints in turn, retries, and a breaker for each.

GET and HEAD are safe to repeat. Network errors and 5xx are tried again after growing, uneven pauses; 500 too, since
registries answer it for passing trouble. Not repeated: what took its whole time limit (it would again), 4xx, and what
is refused or invalid. Whatever its retries, an errand counts once for an endpoint's breaker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from pullthrough.errors import UpstreamError, UpstreamInvalid, UpstreamRefused, UpstreamUnavailable
from pullthrough.shared_state import SharedState
from pullthrough.upstream.blobs import HttpBlobBody
from pullthrough.upstream.breaker import Breaker, BreakerState, Permit
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import Aborted, AbortHandle
from pullthrough.upstream.http.observer import UpstreamObserver
from pullthrough.upstream.http.urls import Url
from pullthrough.upstream.login.answers import Busy
from pullthrough.upstream.login.exchanges import Exchanges, RegistryCall

#: Before the first retry; doubled for each further one, and multiplied by 0.5 to 1.5 at random.
BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 4.0

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Endpoints:
    """The endpoints of one upstream, in the order of preference. Thread-safe."""

    def __init__(
        self,
        host: str,
        urls: Sequence[Url],
        exchanges: Exchanges,
        *,
        observe: UpstreamObserver,
        state: SharedState,
        pause: Callable[[AbortHandle, float], object],
        random: Callable[[], float],
    ) -> None:
        self._host = host
        self._breakers = {url: Breaker(state, f"{host} {url.host_port}{url.target}") for url in urls}
        self._exchanges = exchanges
        self._observe = observe
        self._pause = pause
        self._random = random
        self._healthy = True
        #: The last failure's message; empty after an answer.
        self.last_error = ""

    @property
    def state(self) -> BreakerState:
        """That of the endpoint that is best off."""
        states = {breaker.state for breaker in self._breakers.values()}
        order = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)
        return next(state for state in order if state in states)

    def refuse_if_open(self) -> None:
        """Raises UpstreamUnavailable where no endpoint may be asked now."""
        if all(breaker.blocked_seconds() > 0 for breaker in self._breakers.values()):
            raise self._open()

    def ask(self, call: RegistryCall[_T], retries: int, errand: Errand, abort: AbortHandle) -> _T:
        """What the call reads in the first answer. Each endpoint is asked once a round.

        Blocking. Raises UpstreamError as `Exchanges.ask` and the reading do.
        """
        permits = {url: permit for url, breaker in self._breakers.items() if (permit := breaker.permit()) is not None}
        failures: dict[Url, UpstreamUnavailable] = {}
        try:
            if not permits:
                raise self._open()
            left = list(permits)
            for tried in range(retries + 1):
                if not left:
                    break
                if tried:
                    self._pause(abort, self._backoff(tried))
                    abort.check(self._host)
                for url in tuple(left):
                    try:
                        value = self._ask_one(url, call, abort)
                    except Aborted as error:
                        if error.expired:
                            self._count(permits[url], url, error, errand)
                            self.last_error = error.message
                        raise
                    except UpstreamUnavailable as error:
                        failures[url] = error
                        if not _is_worth_another_try(error):
                            left.remove(url)
                    except (UpstreamRefused, UpstreamInvalid) as error:
                        self.last_error = error.message
                        raise
                    except UpstreamError:
                        permits[url].succeeded()
                        self.last_error = ""
                        raise
                    else:
                        permits[url].succeeded()
                        self.last_error = ""
                        return value
            last = list(failures.values())[-1]
            self.last_error = last.message
            raise last
        finally:
            for url, failure in failures.items():
                self._count(permits[url], url, failure, errand)
            for permit in permits.values():
                permit.release()
            self._report_health()

    def _count(self, permit: Permit, url: Url, failure: UpstreamUnavailable, errand: Errand) -> None:
        if errand.first_failure(url):
            permit.failed(failure.message)

    def _ask_one(self, url: Url, call: RegistryCall[_T], abort: AbortHandle) -> _T:
        response = self._exchanges.ask(url, call, abort)
        try:
            value = call.read(response)
        except BaseException:
            response.close()
            raise
        if not isinstance(value, HttpBlobBody):  # that one is read later, and closed by who reads it
            response.finish()
        return value

    def _backoff(self, tried: int) -> float:
        return min(BACKOFF_SECONDS * 2.0 ** (tried - 1), MAX_BACKOFF_SECONDS) * (0.5 + self._random())

    def _open(self) -> UpstreamUnavailable:
        soonest = min(self._breakers.values(), key=lambda breaker: breaker.blocked_seconds())
        return UpstreamUnavailable(
            f"{self._host} is not asked for {soonest.blocked_seconds():.0f} s more, as it failed several times in a row; "
            f"the last time: {soonest.reason}",
            upstream=self._host,
        )

    def _report_health(self) -> None:
        healthy = self.state is BreakerState.CLOSED
        if healthy is not self._healthy:
            self._healthy = healthy
            if healthy:
                log.warning("%s answers again", self._host)
            else:
                log.warning("%s fails and is left alone for a while: %s", self._host, self.last_error)
            self._observe.on_health(self._host, healthy)


def _is_worth_another_try(error: UpstreamUnavailable) -> bool:
    if isinstance(error, Busy):
        return error.wait_seconds <= MAX_BACKOFF_SECONDS
    return not error.is_silence
