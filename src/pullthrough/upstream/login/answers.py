"""What an answer's status means to a cache, and how much of a foreign error may be repeated."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

from pullthrough.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.upstream.http.redaction import clean_text
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.login.budget import Budget, parse_wait

MAX_ERROR_BYTES = 64 * 1024
HTML_HINT = (
    "A login page or a proxy may stand between this machine and the registry, or `endpoint` names something else."
)
CREDENTIAL_HINT = "If it is private, give its rule a username and an access token that may read it."

_ERROR_SECONDS = 5.0
_BUDGET_HEADERS = ("Retry-After", "RateLimit-Remaining", "RateLimit-Limit", "RateLimit-Reset")


class Busy(UpstreamUnavailable):
    """5xx with a Retry-After: asking again earlier than `wait_seconds` from now is pointless."""

    wait_seconds = 0.0


def error_text(response: Response) -> str:
    """`: CODE: message` as the registry put it, cleaned and without what we sent; empty where it says nothing.

    Reads the rest of the answer; network errors while doing so are not worth another message.
    """
    try:
        body = response.read(MAX_ERROR_BYTES, "an error", total_seconds=_ERROR_SECONDS)
    except (UpstreamUnavailable, UpstreamInvalid):
        return ""
    if is_html(response.media_type, body):
        return ": a web page, not a registry's error"
    text = clean_text(_message(body), _secrets_in(response.sent_authorization))
    return f": {text}" if text else ""


def read_document(response: Response, limit: int, what: str) -> bytes:
    """A JSON body, unparsed. Raises UpstreamInvalid for web pages and for compressed bodies, which nobody asked for, and
    whose digest would not be the one of what is inside."""
    encoding = response.header("Content-Encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise UpstreamInvalid(
            f"{response.url.authority} sent {what} compressed ({encoding[:40]}), though it was asked not to",
            upstream=response.upstream,
            hint="A proxy between this machine and the registry may do that.",
        )
    body = response.read(limit, what)
    refuse_html(response, body)
    return body


def refuse_html(response: Response, body: bytes) -> None:
    """Raises UpstreamInvalid for a web page."""
    if is_html(response.media_type, body):
        raise UpstreamInvalid(
            f"{response.url.authority} answered with a web page where a registry's answer should be",
            upstream=response.upstream,
            status=response.status,
            hint=HTML_HINT,
        )


def is_html(media_type: str, body: bytes) -> bool:
    return media_type in ("text/html", "application/xhtml+xml") or body.lstrip()[:1] == b"<"


def throttled(response: Response, budget: Budget) -> UpstreamThrottled:
    """429 as an error; the pause it orders holds from now on."""
    seconds = budget.throttled(budget_headers(response))
    text = error_text(response)
    return UpstreamThrottled(
        f"{response.upstream} limits the rate of requests{text}; it may be asked again in {seconds:.0f} s",
        upstream=response.upstream,
        retry_after_seconds=seconds,
        status=429,
        hint="A credential of one's own often has a higher limit.",
    )


def budget_headers(response: Response) -> dict[str, str]:
    return {name.lower(): response.header(name) for name in _BUDGET_HEADERS}


def unavailable(response: Response, clock: Callable[[], float] = time.time) -> UpstreamError:
    """5xx as an error. 501 and 505 are no passing trouble: the server does not know what it was asked."""
    upstream, status, host = response.upstream, response.status, response.url.authority
    wait = parse_wait(response.header("Retry-After"), clock())
    text = error_text(response)
    if status in (501, 505):
        return UpstreamInvalid(f"{host} cannot answer this ({status}{text})", upstream=upstream, status=status)
    busy = Busy(f"{host} answered {status}{text}", upstream=upstream, status=status)
    busy.wait_seconds = wait or 0.0
    return busy


def other(response: Response, what: str, *, missing: bool = True) -> UpstreamError:
    """Any further status as an error. `missing`: 404 says that what was asked for is not there."""
    upstream, status, host = response.upstream, response.status, response.url.authority
    text = error_text(response)
    if status == 404 and missing:
        return UpstreamNotFound(f"{upstream} does not have {what}{text}", upstream=upstream, status=status)
    if status == 408:
        return UpstreamUnavailable(f"{host} answered {status}{text}", upstream=upstream, status=status)
    return UpstreamInvalid(f"{host} answered {status} for {what}{text}", upstream=upstream, status=status)


def denied(response: Response, repository: str, problem: str, *, own: bool) -> UpstreamDenied:
    """401, 403, or a 404 that a broken credential may have caused. `problem` says what was wrong with it.

    `repository` is empty where a login was tried, without a credential.
    """
    upstream, status, host = response.upstream, response.status, response.url.authority
    text = error_text(response)
    if not own:
        message = f"{host}, where {upstream} redirected to, refuses to answer ({status}{text})"
    elif problem:
        message = (
            f"{upstream} does not let us read {repository}: {problem}, and without it the answer is {status}{text}"
        )
    elif not repository:
        message = f"{upstream} does not let us in without a credential ({status}{text})"
    else:
        message = f"{upstream} does not let us read {repository}: it does not exist or is private ({status}{text})"
    hint = "Renew the credential." if problem else CREDENTIAL_HINT
    return UpstreamDenied(message, upstream=upstream, status=status, hint=hint if own else "")


def _secrets_in(authorization: str) -> tuple[str, ...]:
    """What an Authorization header held, in the forms in which it may be sent back."""
    scheme, _, value = authorization.partition(" ")
    if scheme != "Basic":
        return (value,)
    login = base64.b64decode(value).decode()
    return (value, login, login.partition(":")[2])


def _message(body: bytes) -> str:
    """Of the specification's error document the first entry, of other JSON its message, else the text as it is."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text[:2000]
    if isinstance(document, dict):
        errors = document.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else document
        if isinstance(first, dict):
            parts = [first.get(key) for key in ("code", "error", "message", "details")]
            return ": ".join(part[:500] for part in parts if isinstance(part, str) and part)
    return ""
