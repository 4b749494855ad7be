"""How an endpoint wants to be authorized, as its challenges have said: learnt once, and tried first from then on."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from pullthrough.upstream.http.urls import Url
from pullthrough.upstream.login.challenges import parse_challenges

MAX_SCOPE_LENGTH = 1024

#: With a class in brackets, such as `repository(plugin)`:
#: https://distribution.github.io/distribution/spec/auth/scope/
_REPOSITORY_KIND = re.compile(r"repository(\([a-z0-9]+\))?", re.ASCII)
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Scheme:
    """By the last challenge. `realm` is empty for Basic."""

    realm: str = ""
    service: str = ""
    scope: str = ""


class Schemes:
    """Those of one upstream. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By endpoint and repository; the empty repository stands for all.
        self._schemes: dict[tuple[str, str], Scheme] = {}

    def known(self, endpoint: Url, repository: str) -> Scheme | None:
        """What this repository wanted, else what others did, with its own scope."""
        with self._lock:
            scheme = self._schemes.get((endpoint.host_port, repository))
            if scheme is not None:
                return scheme
            general = self._schemes.get((endpoint.host_port, ""))
        if general is None or not general.scope.startswith("repository:"):
            return general
        return Scheme(general.realm, general.service, _scope_of(repository))

    def remember(self, endpoint: Url, repository: str, scheme: Scheme) -> None:
        with self._lock:
            self._put((endpoint.host_port, repository), scheme)
            if not scheme.scope.startswith("repository:") or scheme.scope == _scope_of(repository):
                self._put((endpoint.host_port, ""), scheme)

    def forget(self, endpoint: Url, repository: str) -> None:
        with self._lock:
            self._schemes.pop((endpoint.host_port, repository), None)
            self._schemes.pop((endpoint.host_port, ""), None)

    def _put(self, key: tuple[str, str], scheme: Scheme) -> None:
        """Bounded: the oldest is forgotten."""
        self._schemes.pop(key, None)
        self._schemes[key] = scheme
        if len(self._schemes) > _MAX_REMEMBERED:
            del self._schemes[next(iter(self._schemes))]


def choose_scheme(headers: Iterable[str], repository: str) -> Scheme | None:
    """Of all challenges; Bearer before Basic. None where there is neither."""
    challenges = parse_challenges(headers)
    for challenge in challenges:
        realm = challenge.parameters.get("realm", "")
        scope = challenge.parameters.get("scope", "")
        if challenge.scheme == "bearer" and realm and len(scope) <= MAX_SCOPE_LENGTH:
            service = challenge.parameters.get("service", "")
            return Scheme(realm, service, _pull_only(scope) or _scope_of(repository))
    return Scheme() if any(challenge.scheme == "basic" for challenge in challenges) else None


def login_scheme(scheme: Scheme) -> Scheme:
    """For a token that opens no repository. The scope that registries name at their root is a placeholder, such as GitHub's
    `repository:user/image:pull`; words that name no repository stay."""
    words = [word for word in scheme.scope.split() if ":" not in word]
    return Scheme(scheme.realm, scheme.service, " ".join(words))


def _scope_of(repository: str) -> str:
    return f"repository:{repository}:pull"


def _pull_only(scope: str) -> str:
    """The repositories asked for, one by one, with the right to pull only: a cache's tokens shall be worth little to a
    thief. Other rights are left out; words that name none, such as ECR Public's `aws`, stay. Empty where there is neither.
    """
    scopes = []
    for part in scope.split():
        kind, colon, rest = part.partition(":")
        name, actions_colon, _ = rest.rpartition(":")
        if not colon:
            scopes.append(part)
        elif _REPOSITORY_KIND.fullmatch(kind) and actions_colon and name and "*" not in name:
            scopes.append(f"{kind}:{name}:pull")
    return " ".join(scopes)
