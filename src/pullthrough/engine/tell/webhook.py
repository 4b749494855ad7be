"""Telling a web address of events: one at a time, oldest first, each until it is taken. Blocking.

Every request is `POST`, with the event as its JSON body, and is signed where there is a secret:

    X-Pullthrough-Timestamp: <seconds since the epoch>
    X-Pullthrough-Signature: sha256=<hex HMAC-SHA256 of "<timestamp>.<body>" with the secret>

A receiver checks the signature, refuses old timestamps, and knows by the event's `id` what it has seen already.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from pullthrough.errors import ConfigurationError
from pullthrough.upstream.http.wires import Wire
from pullthrough.version import __version__

_log = logging.getLogger(__name__)
#: For one request, the answer included.
TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 600.0
_MAX_SECRET_BYTES = 64 * 1024
#: Whoever sees one signed event can try shorter ones until one fits.
_SAFE_SECRET_BYTES = 16
_NEW_SECRET = "`openssl rand -hex 32` gives a good one"
#: Worth another try; any other 4xx says that this event will never be taken.
_TRANSIENT = frozenset({408, 425, 429})


class Delivery(Enum):
    DONE = auto()
    #: The receiver is not there, or busy: later.
    LATER = auto()
    #: It does not want this event.
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    delivery: Delivery
    #: For the log: what the receiver answered. Never holds the address, whose path or query may be a secret.
    reason: str = ""


#: Sends one POST request (URL, headers, body, timeout in seconds) and gives the status; raises OSError.
Send = Callable[[str, Mapping[str, str], bytes, float], int]


def check_secret(path: Path) -> None:
    """For the engine's start, when somebody looks. Raises ConfigurationError where nothing could be signed."""
    try:
        secret = _read_secret(path)
    except (OSError, ValueError) as error:
        # Without the path, which may be the secret itself, put into the wrong place.
        raise ConfigurationError(
            f"ecr.webhook_secret_file: the file {_why(error)}, and events would not be signed with a secret",
            hint=f"write a secret into it, readable for the engine's user ({_NEW_SECRET}); or leave the setting out, where "
            "events need no signature",
        ) from error
    if len(secret) < _SAFE_SECRET_BYTES:
        _log.warning("ecr.webhook_secret_file: a secret of %d bytes can be guessed; %s", len(secret), _NEW_SECRET)


def _read_secret(path: Path) -> bytes:
    """Raises OSError where it cannot be read, ValueError where it is empty: everybody has that key."""
    with path.open("rb") as file:
        secret = file.read(_MAX_SECRET_BYTES).strip()
    if not secret:
        raise ValueError("is empty")
    return secret


def _why(error: Exception) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)


class Webhook:
    """`secret_file` is read at each request, so that a new secret counts from the next one."""

    def __init__(self, url: str, secret_file: Path | None, *, send: Send | None = None) -> None:
        self._url = url
        self._secret_file = secret_file
        self._send = send or post

    def tell(self, body: str, now: float) -> DeliveryReport:
        payload = body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"pullthrough/{__version__}",
            "X-Pullthrough-Timestamp": str(int(now)),
        }
        try:
            if self._secret_file is not None:
                headers["X-Pullthrough-Signature"] = signature(_read_secret(self._secret_file), int(now), payload)
        except (OSError, ValueError) as error:
            return DeliveryReport(Delivery.LATER, f"the webhook's secret file {_why(error)}")
        try:
            status = self._send(self._url, headers, payload, TIMEOUT_SECONDS)
        except TimeoutError:
            return DeliveryReport(Delivery.LATER, f"the webhook did not answer within {TIMEOUT_SECONDS:g} s")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            return DeliveryReport(Delivery.LATER, f"the webhook cannot be reached: {reason}")
        if 200 <= status < 300:
            return DeliveryReport(Delivery.DONE)
        if 400 <= status < 500 and status not in _TRANSIENT:
            return DeliveryReport(Delivery.REFUSED, f"the webhook answered {status}")
        return DeliveryReport(Delivery.LATER, f"the webhook answered {status}")


def signature(secret: bytes, timestamp: int, payload: bytes) -> str:
    """The value of X-Pullthrough-Signature."""
    return "sha256=" + hmac.new(secret, str(timestamp).encode() + b"." + payload, hashlib.sha256).hexdigest()


def pause_seconds(attempts: int) -> float:
    """How long to wait after so many attempts in vain."""
    return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts, 20))


def post(url: str, headers: Mapping[str, str], payload: bytes, timeout_seconds: float) -> int:
    """One request, redirects not followed, proxies as the environment says. Raises OSError or ValueError.

    The time is for all of it but looking up the name: a receiver, or a proxy, that answers drop by drop must not keep
    the thread. Where the name has several addresses that are silent, each takes it anew.
    """
    # Here: hardly any engine has a webhook, and this takes time to import.
    import http.client
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + timeout_seconds

    class _Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **keywords: Any) -> None:
            super().__init__(_Reading(sock, deadline), *arguments, **keywords)  # type: ignore[arg-type]  # enough to read

    class _Plain(http.client.HTTPConnection):
        response_class = _Answer

        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            self.sock.settimeout(_left(deadline))
            super().send(data)

    class _Secure(http.client.HTTPSConnection, _Plain):
        pass

    class _Bounded(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(_Plain, req)

        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(_Secure, req)

    class _NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    request = urllib.request.Request(url, payload, dict(headers), method="POST")
    try:
        with urllib.request.build_opener(_Bounded, _NoRedirects).open(request, timeout=timeout_seconds) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except urllib.error.URLError as error:
        # It has no `strerror` of its own: "Connection refused" is in what it wraps.
        raise (error.reason if isinstance(error.reason, OSError) else error) from None
    except http.client.HTTPException as error:
        raise OSError(0, f"no proper HTTP answer ({type(error).__name__})") from error


class _Reading:
    """A socket, as far as HTTPResponse uses it: to read an answer that must have come by the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._wire = Wire(sock)
        self._wire.end_within(deadline - time.monotonic())

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._wire)


def _left(deadline: float) -> float:
    """Raises TimeoutError where nothing is."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time limit has passed")
    return left
