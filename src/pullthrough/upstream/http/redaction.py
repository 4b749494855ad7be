"""What of foreign text may stand in a message, a log line or an answer. By allow-list: unknown is secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

#: Query keys whose values say what was asked for. Everything else may be a signature or a token.
_SHOWN_KEYS = frozenset({"scope", "service", "n", "ns"})
_SHOWN_LENGTH = 300
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
#: An Authorization header's value. Long enough not to be a word of a sentence about authentication.
_CREDENTIALS = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{16,}", re.IGNORECASE)
#: Control characters, and halves of characters, which JSON can write and no answer can hold.
_CONTROL = re.compile(r"(?:[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]|\s)+")
#: Shorter ones would be found in ordinary words.
_SHORTEST_SECRET = 4
_REMOVED = "[removed]"


def redact_url(url: str) -> str:
    """The URL without user, fragment, and the values of all query keys but a few known ones. Never raises."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that is malformed)"
    shown = f"{parts.scheme}://" if parts.scheme else ""
    shown += parts.netloc.rpartition("@")[2] + parts.path
    if parts.query:
        shown += "?" + "&".join(map(_redact_pair, parts.query.split("&")[:20]))
    shown = _CONTROL.sub(" ", shown)
    return shown if len(shown) <= _SHOWN_LENGTH else shown[: _SHOWN_LENGTH - 1] + "…"


def clean_text(text: str, secrets: Iterable[str] = (), limit: int = 300) -> str:
    """Foreign text on one line, at most `limit` characters, without control characters, without `secrets`, with the
    URLs in it redacted: an upstream may send back what was sent to it."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _REMOVED)
    text = _URL.sub(lambda match: redact_url(match[0]), text)
    text = _CREDENTIALS.sub(lambda match: f"{match[1]} {_REMOVED}", text)
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _redact_pair(pair: str) -> str:
    key, equals, _ = pair.partition("=")
    if not equals:
        return _REMOVED  # the whole query may be a token
    return pair if key.lower() in _SHOWN_KEYS else f"{key[:40]}={_REMOVED}"
