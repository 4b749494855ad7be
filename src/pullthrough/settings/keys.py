"""Keys and values as messages write them, and the key that a misspelt one is probably meant to be."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def dotted(*parts: str) -> str:
    """A key as TOML writes it: `upstreams."ghcr.io".proxy`."""
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else json.dumps(part) for part in parts)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """The known name that `name` is probably a slip of; `cutoff` is difflib's, how much alike they must be."""
    candidates = {entry.lower().replace("-", "_"): entry for entry in known}
    matches = difflib.get_close_matches(name.lower().replace("-", "_"), candidates, n=1, cutoff=cutoff)
    return candidates[matches[0]] if matches else None


def did_you_mean_rule(prefix: str, known: Iterable[str], listed: Iterable[str]) -> str:
    """What to say where a rule is named that does not exist: the one that is meant, or those that there are."""
    if near := nearest(prefix, known):
        return f"did you mean {near!r}?"
    return f"the rules are: {', '.join(listed) or 'none'}"


def shown(value: object) -> str:
    """A value as a file would hold it, cut to a length that fits a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"
