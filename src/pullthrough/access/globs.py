"""IAM's wildcards: `*` for any characters, `?` for one."""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """In time of the product of both lengths, whatever the pattern: a regular expression could take far longer."""
    at = star = -1
    i = j = 0
    while j < len(text):
        # The star first: text may hold one too.
        if i < len(pattern) and pattern[i] == "*":
            star, at = i, j
            i += 1
        elif i < len(pattern) and pattern[i] in ("?", text[j]):
            i += 1
            j += 1
        elif star >= 0:
            at += 1
            i, j = star + 1, at
        else:
            return False
    return all(character == "*" for character in pattern[i:])
