"""A registry's refusals as errors of ours, with the registry's own words in them."""

from __future__ import annotations

import json

from pullthrough.client.reports import plain_text
from pullthrough.errors import (
    PullthroughError,
    RequestError,
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)


def refusal(
    *, registry: str, what: str, status: int, body: bytes, retry_after: str | None, logged_in: bool = False
) -> PullthroughError:
    """The error for an answer that is not 200. `what` is what was asked for; `registry` is a host.

    `logged_in`: whether a login was sent.
    """
    said = describe_error(body)
    message = f"{registry} answered {status} for {what}" + (f": {said}" if said else "")
    match status:
        case 401 if not logged_in:
            return UpstreamDenied(
                f"{message}. This client sends no credentials",
                upstream=registry,
                status=status,
                hint="pull through a pullthrough engine that holds the credentials; its own pulls need no login",
            )
        case 401 | 403:
            return UpstreamDenied(message, upstream=registry, status=status)
        case 404:
            return UpstreamNotFound(
                message, upstream=registry, status=status, hint="check the name, its prefix and the tag"
            )
        case 429:
            seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
            return UpstreamThrottled(
                message,
                upstream=registry,
                status=status,
                retry_after_seconds=seconds,
                hint=f"try again in {int(seconds)} s" if seconds else "try again later",
            )
        case _ if status >= 500:
            return UpstreamUnavailable(message, upstream=registry, status=status, hint="try again later")
        case _ if status >= 400:
            return RequestError(message)
        case _:
            return UpstreamInvalid(message, upstream=registry, status=status)


def describe_error(body: bytes) -> str:
    """`CODE: message` of each error in the specification's JSON; "" where the body is something else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return ""
    said = []
    for error in errors[:3]:
        if isinstance(error, dict):
            parts = (error.get("code"), error.get("message"))
            said.append(": ".join(plain_text(part) for part in parts if isinstance(part, str) and part))
    return "; ".join(entry for entry in said if entry)
