"""IAM's wildcards: `*` for any characters, `?` for one."""

from __future__ import annotations

#: Stand in a pattern for a star and a question mark that are not wild. Unicode keeps these two for such uses; no text has
#: them.
_LITERALS = {"\ufdd0": "*", "\ufdd1": "?"}
_LITERALLY = str.maketrans({literal: stand_in for stand_in, literal in _LITERALS.items()})


def literally(text: str) -> str:
    """The text as part of a pattern that means just this text."""
    return text.translate(_LITERALLY)


def matches(pattern: str, text: str) -> bool:
    """In time of the product of both lengths, whatever the pattern: a regular expression could take far longer."""
    at = star = -1
    i = j = 0
    while j < len(text):
        # The star first: text may hold one too.
        if i < len(pattern) and pattern[i] == "*":
            star, at = i, j
            i += 1
        elif i < len(pattern) and (pattern[i] == "?" or _LITERALS.get(pattern[i], pattern[i]) == text[j]):
            i += 1
            j += 1
        elif star >= 0:
            at += 1
            i, j = star + 1, at
        else:
            return False
    return all(character == "*" for character in pattern[i:])
