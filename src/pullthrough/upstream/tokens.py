"""Bearer tokens, kept while they are good. One fetch a token, however many threads want it.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pullthrough.credentials import Secret
from pullthrough.upstream.abort import Aborted, AbortHandle

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
class Token:
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


class Tokens:
    """Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: dict[TokenKey, tuple[str, float]] = {}
        self._flights: dict[TokenKey, _Flight] = {}

    def get(self, key: TokenKey, fetch: Callable[[], Token], abort: AbortHandle, upstream: str) -> tuple[str, bool]:
        """A token, and whether it was fetched just now. Raises what `fetch` raises, in every thread that waited for it;
        only where the fetching thread was aborted does another one fetch again."""
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None and self._monotonic() < kept[1]:
                    return kept[0], False
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if leads:
                return self._lead(key, fetch, flight), True
            while not flight.done.wait(_POLL_SECONDS):
                abort.check(upstream)
            if flight.error is not None and not isinstance(flight.error, Aborted):
                raise flight.error

    def forget(self, key: TokenKey, value: str) -> None:
        """The upstream refused this token; a newer one under the same key stays."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == value:
                del self._kept[key]

    def _lead(self, key: TokenKey, fetch: Callable[[], Token], flight: _Flight) -> str:
        started = self._monotonic()
        try:
            token = fetch()
            with self._lock:
                self._kept.pop(key, None)
                self._kept[key] = (token.value, started + token.lifetime_seconds * USED_SHARE)
                while len(self._kept) > MAX_TOKENS:
                    del self._kept[next(iter(self._kept))]
            return token.value
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.done.set()


def parse_token(body: bytes) -> Token:
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
        return Token(value, DEFAULT_SECONDS)
    return Token(value, float(min(seconds, MAX_SECONDS)))
