"""The authentication of a demo upstream: Docker Hub's token flow, or Basic, or none.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pullthrough.demo.requests import AuthorizationKind

_SCOPE = re.compile(r"repository:([^:]+):([a-z,*]+)")


class AuthenticationScheme(StrEnum):
    BEARER = "bearer"
    BASIC = "basic"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `valid` is false for a credential that is wrong, expired or of another kind than asked for."""

    authorization: AuthorizationKind
    user: str = ""
    valid: bool = True
    #: The repositories that a token is good for; None is every one.
    repositories: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    user: str
    repositories: frozenset[str]
    expires_at: float


class TokenService:
    """Gives out tokens and recognises them. `users` are names and passwords; the caller may change them at any time."""

    def __init__(
        self,
        *,
        authentication: AuthenticationScheme,
        users: Mapping[str, str],
        expires_in_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.authentication = authentication
        self.users = users
        self.expires_in_seconds = expires_in_seconds
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._issued = 0

    def issue(self, user: str, repositories: Collection[str]) -> str:
        """A token for pulls from `repositories`, good for `expires_in_seconds`."""
        self._issued += 1
        token = f"token-{self._issued:06}"
        self._tokens[token] = _Token(user, frozenset(repositories), self._clock() + self.expires_in_seconds)
        return token

    def revoke_all(self) -> None:
        """Every token given out so far is invalid from now on, as if it had expired early."""
        self._tokens.clear()

    def identify_login(self, header: str) -> Identity:
        """Who asks the token endpoint, or a registry with Basic authentication."""
        if not header:
            return Identity(AuthorizationKind.NONE)
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "basic":
            return Identity(_kind_of(scheme), valid=False)
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return Identity(AuthorizationKind.BASIC, valid=False)
        return Identity(AuthorizationKind.BASIC, user, valid=bool(user) and self.users.get(user) == password)

    def identify(self, header: str) -> Identity:
        """Who asks the registry."""
        if self.authentication is AuthenticationScheme.NONE:
            return Identity(_kind_of(header.partition(" ")[0]) if header else AuthorizationKind.NONE)
        if self.authentication is AuthenticationScheme.BASIC:
            return self.identify_login(header)
        if not header:
            return Identity(AuthorizationKind.NONE, repositories=frozenset())
        scheme, _, value = header.partition(" ")
        token = self._tokens.get(value) if scheme.lower() == "bearer" else None
        if token is None or token.expires_at <= self._clock():
            return Identity(_kind_of(scheme), valid=False, repositories=frozenset())
        return Identity(AuthorizationKind.BEARER, token.user, repositories=token.repositories)


def parse_scopes(scopes: Collection[str]) -> list[str]:
    """The repositories for which `pull` is asked; other scopes are ignored, as registries do."""
    repositories = []
    for scope in " ".join(scopes).split(" "):
        match = _SCOPE.fullmatch(scope)
        if match and {"pull", "*"} & set(match[2].split(",")):
            repositories.append(match[1])
    return repositories


def _kind_of(scheme: str) -> AuthorizationKind:
    scheme = scheme.lower()
    return (
        AuthorizationKind(scheme)
        if scheme in (AuthorizationKind.BASIC, AuthorizationKind.BEARER)
        else AuthorizationKind.OTHER
    )
