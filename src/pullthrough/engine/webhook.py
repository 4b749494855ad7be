"""Telling a web address of events: one at a time, oldest first, each until it is taken. Blocking.

Every request is `POST`, with the event as its JSON body, and is signed where there is a secret:

    X-Pullthrough-Timestamp: <seconds since the epoch>
    X-Pullthrough-Signature: sha256=<hex HMAC-SHA256 of "<timestamp>.<body>" with the secret>

A receiver checks the signature, refuses old timestamps, and knows by the event's `id` what it has seen already.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from pullthrough import __version__

#: For one request, the answer included.
TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 600.0
_MAX_SECRET_BYTES = 64 * 1024
#: Worth another try; any other 4xx says that this event will never be taken.
_TRANSIENT = frozenset({408, 425, 429})


class Delivery(Enum):
    DONE = auto()
    #: The receiver is not there, or busy: later.
    LATER = auto()
    #: It does not want this event.
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Told:
    delivery: Delivery
    #: For the log: what the receiver answered. Never holds the address, whose path or query may be a secret.
    reason: str = ""


#: Sends one POST request (URL, headers, body, timeout in seconds) and gives the status; raises OSError.
Send = Callable[[str, Mapping[str, str], bytes, float], int]


class Webhook:
    """`secret_file` is read at each request, so that a new secret counts from the next one."""

    def __init__(self, url: str, secret_file: Path | None, *, send: Send | None = None) -> None:
        self._url = url
        self._secret_file = secret_file
        self._send = send or post

    def tell(self, body: str, now: float) -> Told:
        payload = body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"pullthrough/{__version__}",
            "X-Pullthrough-Timestamp": str(int(now)),
        }
        try:
            if self._secret_file is not None:
                with self._secret_file.open("rb") as file:
                    secret = file.read(_MAX_SECRET_BYTES).strip()
                headers["X-Pullthrough-Signature"] = signature(secret, int(now), payload)
        except OSError as error:
            return Told(Delivery.LATER, f"the webhook's secret file cannot be read: {error.strerror}")
        try:
            status = self._send(self._url, headers, payload, TIMEOUT_SECONDS)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            return Told(Delivery.LATER, f"the webhook cannot be reached: {reason}")
        if 200 <= status < 300:
            return Told(Delivery.DONE)
        if 400 <= status < 500 and status not in _TRANSIENT:
            return Told(Delivery.REFUSED, f"the webhook answered {status}")
        return Told(Delivery.LATER, f"the webhook answered {status}")


def signature(secret: bytes, timestamp: int, payload: bytes) -> str:
    """The value of X-Pullthrough-Signature."""
    return "sha256=" + hmac.new(secret, str(timestamp).encode() + b"." + payload, hashlib.sha256).hexdigest()


def pause_seconds(attempts: int) -> float:
    """How long to wait after so many attempts in vain."""
    return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts, 20))


def post(url: str, headers: Mapping[str, str], payload: bytes, timeout_seconds: float) -> int:
    """One request, redirects not followed, proxies as the environment says. Raises OSError or ValueError."""
    # Here: hardly any engine has a webhook, and this takes time to import.
    import http.client
    import urllib.error
    import urllib.request

    class _NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    request = urllib.request.Request(url, payload, dict(headers), method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout_seconds) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except urllib.error.URLError as error:
        # It has no `strerror` of its own: "Connection refused" is in what it wraps.
        raise (error.reason if isinstance(error.reason, OSError) else error) from None
    except http.client.HTTPException as error:
        raise OSError(0, f"no proper HTTP answer ({type(error).__name__})") from error
