"""Bearer tokens, kept while they are good. One fetch a token, however many threads want it.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pullthrough.credentials import Secret
from pullthrough.shared_state import Records, SharedState
from pullthrough.upstream.http.abort import Aborted, AbortHandle

MAX_ANSWER_BYTES = 64 * 1024
#: The specification's default for tokens that do not say how long they live, and its minimum for those that do.
DEFAULT_SECONDS = 60.0
MAX_SECONDS = 24 * 3600.0
#: A token is renewed when this part of its life is over, so that none expires on its way.
USED_SHARE = 0.75
#: Tokens kept for one upstream; the ones least recently made go first.
MAX_TOKENS = 4096

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class BearerToken:
    value: str = field(repr=False)
    lifetime_seconds: float


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token was given for. A token never serves another endpoint, scope or credential."""

    endpoint: str
    realm: str
    service: str
    scope: str
    secret: Secret | None


@dataclass(slots=True)
class _Flight:
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class KeptToken:
    value: str = field(repr=False)
    #: By the clock of the shared state.
    until: float


class Tokens:
    """Those of one upstream, which are shared; who fetches one is settled within this process. Any thread."""

    def __init__(self, state: SharedState, upstream: str) -> None:
        self._kept: Records[TokenKey, KeptToken] = state.records(f"tokens of {upstream}", most=MAX_TOKENS)
        self._upstream = upstream
        self._now = state.now
        self._lock = threading.Lock()
        self._flights: dict[TokenKey, _Flight] = {}

    def get(self, key: TokenKey, fetch: Callable[[], BearerToken], abort: AbortHandle) -> tuple[str, bool]:
        """A token, and whether it was fetched just now. Raises what `fetch` raises, in every thread that waited for it;
        only where the fetching thread was aborted does another one fetch again."""
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None and self._now() < kept.until:
                    return kept.value, False
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if leads:
                return self._lead(key, fetch, flight), True
            while not flight.done.wait(_POLL_SECONDS):
                abort.check(self._upstream)
            if flight.error is not None and not isinstance(flight.error, Aborted):
                raise flight.error

    def forget(self, key: TokenKey, value: str) -> None:
        """The upstream refused this token; a newer one under the same key stays."""
        self._kept.change(key, lambda kept: (None if kept is not None and kept.value == value else kept, None))

    def _lead(self, key: TokenKey, fetch: Callable[[], BearerToken], flight: _Flight) -> str:
        started = self._now()
        try:
            token = fetch()
            kept = KeptToken(token.value, started + token.lifetime_seconds * USED_SHARE)
            self._kept.change(key, lambda before: (kept, None))
            return token.value
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.done.set()


def parse_token(body: bytes) -> BearerToken:
    """The token server's answer. Raises ValueError with a sentence that holds no part of it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("the answer is not a JSON object")
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ValueError("the answer holds no usable token")
    seconds = document.get("expires_in")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        return BearerToken(value, DEFAULT_SECONDS)
    return BearerToken(value, float(min(seconds, MAX_SECONDS)))
