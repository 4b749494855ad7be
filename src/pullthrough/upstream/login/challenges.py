"""The WWW-Authenticate header: which scheme a registry wants, and where its tokens come from.

RFC 9110, section 11.6.1; the bearer form: https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAX_HEADER_LENGTH = 8 * 1024
MAX_CHALLENGES = 16
MAX_PARAMETERS = 32

_SPACE = re.compile(r"[ \t,]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ASSIGNED = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
#: More than a token: some registries do not quote scopes, which hold `:` and `/`.
_BARE = re.compile(r"[^\s,\"]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` is lower case, as are the parameters' names."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of all WWW-Authenticate headers, in order, as far as they are well formed.

    What is malformed ends its header; a challenge with a parameter twice is left out, as it could be read two ways.
    """
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= MAX_HEADER_LENGTH:
            found.extend(_parse(header))
    return tuple(found[:MAX_CHALLENGES])


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _skip(text, 0)
    while at < len(text) and len(found) < MAX_CHALLENGES:
        scheme = _TOKEN.match(text, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: dict[str, str] = {}
        ambiguous = False
        if text[at : at + 1] in (" ", "\t"):
            credentials = _TOKEN68.match(text, _skip_blank(text, at))
            if credentials is not None and credentials[0].endswith("="):
                at = credentials.end()
        while len(parameters) < MAX_PARAMETERS:
            parsed = _parameter(text, _skip(text, at))
            if parsed is None:
                break
            name, value, at = parsed
            ambiguous = ambiguous or name in parameters
            parameters[name] = value
        if not ambiguous:
            found.append(Challenge(scheme[0].lower(), parameters))
        at = _skip(text, at)
    return found


def _parameter(text: str, at: int) -> tuple[str, str, int] | None:
    """Name, value, and where it ends; None where no `name=value` begins here."""
    name = _TOKEN.match(text, at)
    assigned = _ASSIGNED.match(text, name.end()) if name else None
    if name is None or assigned is None:
        return None
    quoted = _QUOTED.match(text, assigned.end())
    if quoted is not None:
        return name[0].lower(), re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    bare = _BARE.match(text, assigned.end())
    if bare is None:
        return None
    return name[0].lower(), bare[0], bare.end()


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _skip_blank(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    return at
