"""Texts out of other people's JSON, which can write half a character (`"\\ud800"`). No database and no answer can hold one."""

from __future__ import annotations

import re

_HALVES = re.compile("[\ud800-\udfff]")


def whole_text(text: str) -> str:
    """With U+FFFD for each half of a character, as Go's decoder, and so most registries and clients, reads it."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)
