"""JSON of other people: parsed with an end to the work that it makes.

Python's parser holds the interpreter while it reads, so that a thread does not help: 4 MiB of `[],[],[],` take seconds.
"""

from __future__ import annotations

import json
from typing import Any

#: No manifest of 10,000 layers, and no page of 10,000 referrers, has as many; they take some 0.1 s.
MAX_VALUES = 200_000


def check_values(body: bytes) -> None:
    """Raises ValueError with a sentence about "it" where there are too many values in it.

    What separates and opens values is counted, before anything is parsed; within strings too, which is why the limit is far
    above what is in use.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that the body is. Raises ValueError with a sentence about "it"."""
    check_values(body)
    try:
        # Of bytes json.loads takes UTF-16 too, which JSON may not be (RFC 8259, 8.1), and which no answer could quote.
        document = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document
