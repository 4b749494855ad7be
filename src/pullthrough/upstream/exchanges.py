"""One question to one endpoint: who we say we are, and what comes back.

What it costs in requests: one, where the authorization is known or none is wanted; one more for a token that has run
out; three for the first question to an upstream (401, token, again), two for the first about each further repository.
A broken credential costs its refusal once, then public content is read without it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlencode

from pullthrough.credentials import Credentials, CredentialUnreadable, Secret
from pullthrough.declaration import Credential, CredentialSource
from pullthrough.errors import UpstreamDenied, UpstreamError, UpstreamInvalid
from pullthrough.upstream import answers
from pullthrough.upstream.abort import AbortHandle
from pullthrough.upstream.addresses import AddressClass
from pullthrough.upstream.budget import Budget
from pullthrough.upstream.challenge import parse_challenges
from pullthrough.upstream.connections import Admits, public_or
from pullthrough.upstream.observer import UpstreamObserver
from pullthrough.upstream.redirects import Request, follow
from pullthrough.upstream.tokens import MAX_ANSWER_BYTES, Token, TokenKey, Tokens, parse_token
from pullthrough.upstream.transport import Response, Transport
from pullthrough.upstream.trust import trusted_realm
from pullthrough.upstream.urls import Url

MAX_SCOPE_LENGTH = 1024
#: For so long a refused credential is not tried again (unless it changes): registries lock out who keeps trying.
REFUSED_SECONDS = 300.0
#: Challenges answered for one identity in one exchange: a stale scheme may be followed by the right one.
MAX_CHALLENGES = 2

#: With a class in brackets, such as `repository(plugin)`:
#: https://distribution.github.io/distribution/spec/auth/scope/
_REPOSITORY_KIND = re.compile(r"repository(\([a-z0-9]+\))?", re.ASCII)
_MAX_REMEMBERED = 4096
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. `what` names it in messages; `path` begins with `/v2/`."""

    method: str
    path: str
    repository: str
    what: str
    credential: Credential | None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Statuses beside 2xx that the caller reads itself.
    accepted: frozenset[int] = frozenset()
    #: The question is whether the credential works: no other identity is tried, and nothing remembered is relied on.
    tries_login: bool = False
    #: A blob's bytes are asked for: caches send nothing of them before they have all, so that the first may take long.
    is_body: bool = False
    #: Some registries refuse this method to everybody: a refusal says nothing of the credential.
    is_often_refused: bool = False


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How an endpoint wants to be authorized, by its last challenge. `realm` is empty for Basic."""

    realm: str = ""
    service: str = ""
    scope: str = ""


class _CredentialRefused(Exception):
    """A token server, or the registry itself, does not accept this user and token.

    `everywhere`: for all repositories. GitHub's answers 403 for a wrong token and for a repository beyond its reach
    alike, so that says nothing about others.
    """

    def __init__(self, message: str, *, everywhere: bool) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Exchanges:
    """The exchanges with one upstream. Thread-safe."""

    def __init__(
        self,
        transport: Transport,
        *,
        credentials: Credentials,
        token_realms: tuple[str, ...],
        budget: Budget,
        observe: UpstreamObserver,
        admits: Admits | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`admits`: where the endpoint may be, and all that it points to; None where it may be anywhere."""
        self._upstream = transport.upstream
        self._transport = transport
        self._credentials = credentials
        self._token_realms = token_realms
        self._admits = admits
        self._budget = budget
        self._observe = observe
        self._clock = clock
        self._monotonic = monotonic
        self._tokens = Tokens(monotonic)
        self._lock = threading.Lock()
        #: By endpoint and repository; the empty repository stands for all.
        self._schemes: dict[tuple[str, str], _Scheme] = {}
        #: Where each endpoint was last found.
        self._classes: dict[str, AddressClass] = {}
        #: When a secret was refused, by repository; the empty one where the login itself was.
        self._refused: dict[tuple[Secret, str], float] = {}
        self._credential_ok: dict[Credential, bool] = {}

    @property
    def credential_ok(self) -> bool | None:
        """False where any credential in use is broken; None where none was needed yet."""
        with self._lock:
            states = list(self._credential_ok.values())
        return all(states) if states else None

    def ask(self, endpoint: Url, call: Call, abort: AbortHandle) -> Response:
        """The answer: 2xx, or a status that the call accepts. The caller must finish or close it.

        Raises UpstreamNotFound (404), UpstreamDenied (401 and 403), UpstreamThrottled (429), UpstreamUnavailable (5xx
        and the network), UpstreamRefused, UpstreamInvalid.
        """
        if call.tries_login:
            return self._log_in(endpoint, call, abort)
        secret, problem = self._read_credential(call)
        if secret is not None:
            response = self._try(endpoint, call, secret, abort)
            if response is None:
                # Once more with what the credential's place holds by now; pointless if that is the same.
                renewed, _ = self._read_credential(call, renew=True)
                if renewed is not None and renewed != secret:
                    secret = renewed
                    response = self._try(endpoint, call, secret, abort)
            if response is not None:
                return self._settle(endpoint, response, call, "")
            problem = "the credential does not open it"
        response = self._as(endpoint, call, None, abort)
        if secret is not None and response.status < 400:
            self._remember_refusal(secret, call.repository)
            self._report_worse_than_none(call)
        return self._settle(endpoint, response, call, problem)

    def _log_in(self, endpoint: Url, call: Call, abort: AbortHandle) -> Response:
        """Ask, answer the challenge, ask again, as the call's credential or as nobody. At most three requests.

        Many registries give anybody a token, but show their root to those who log in only: without a credential the
        token is enough. Raises CredentialUnreadable too.
        """
        secret = self._credentials.read(call.credential, renew=True) if call.credential is not None else None
        response = self._send(endpoint, call, "", abort)
        if response.status != 401 or not _is_own(response, endpoint):
            return self._settle(endpoint, response, call, "")
        # The scope that registries name here is a placeholder, such as GitHub's repository:user/image:pull.
        scheme = _choose(response.headers_of("WWW-Authenticate"), "")
        response.discard()
        if scheme is None or (not scheme.realm and secret is None):
            raise self._login_refused(401, "it wants a login" if scheme else "it does not say how to log in")
        if scheme.realm:
            words = [word for word in scheme.scope.split() if ":" not in word]
            scheme = _Scheme(scheme.realm, scheme.service, " ".join(words))
        try:
            if scheme.realm:
                authorization = f"Bearer {self._fetch_token(endpoint, call, scheme, secret, abort).value}"
            else:
                assert secret is not None
                authorization = secret.basic
        except _CredentialRefused as error:
            raise self._login_refused(401, str(error)) from error
        response = self._send(endpoint, call, authorization, abort)
        if response.status in (401, 403) and _is_own(response, endpoint):
            if secret is not None:
                status = response.status
                response.discard()
                raise self._login_refused(status, f"the registry refuses the credential ({status})")
        else:
            self._settle(endpoint, response, call, "")
        if secret is not None:
            assert call.credential is not None
            with self._lock:
                self._refused.pop((secret, ""), None)
            self._report_credential(call.credential, ok=True)
        return response

    def _login_refused(self, status: int, problem: str) -> UpstreamDenied:
        return UpstreamDenied(
            f"{self._upstream} does not let us log in: {problem}", upstream=self._upstream, status=status
        )

    # -- who we are

    def _read_credential(self, call: Call, *, renew: bool = False) -> tuple[Secret | None, str]:
        """The secret to use, or None and what is wrong with it (nothing where none is configured)."""
        if call.credential is None:
            return None, ""
        try:
            secret = self._credentials.read(call.credential, renew=renew)
        except CredentialUnreadable as error:
            self._report_credential(call.credential, ok=False, reason=str(error))
            return None, str(error)
        if self._was_refused(secret, "") and not renew:
            return self._read_credential(call, renew=True)  # its place may hold another one by now
        if self._was_refused(secret, ""):
            return None, "the credential was refused"
        if self._was_refused(secret, call.repository):
            return None, ""  # the login is fine; this repository is known to be open without it
        return secret, ""

    def _was_refused(self, secret: Secret, repository: str) -> bool:
        with self._lock:
            refused_at = self._refused.get((secret, repository))
        return refused_at is not None and self._monotonic() - refused_at < REFUSED_SECONDS

    def _try(self, endpoint: Url, call: Call, secret: Secret, abort: AbortHandle) -> Response | None:
        """None where the credential is refused, or does not open this: both may be open without it."""
        assert call.credential is not None
        try:
            response = self._as(endpoint, call, secret, abort)
        except _CredentialRefused as error:
            if error.everywhere:
                self._remember_refusal(secret, "")
                self._report_credential(call.credential, ok=False, reason=str(error))
            return None
        if response.status in (401, 403) and _is_own(response, endpoint):
            response.discard()
            return None
        return response

    def _remember_refusal(self, secret: Secret, repository: str) -> None:
        with self._lock:
            _remember(self._refused, (secret, repository), self._monotonic())

    def _report_worse_than_none(self, call: Call) -> None:
        """Refused with the credential, answered without: it is broken, unless it was seen to work elsewhere."""
        assert call.credential is not None
        with self._lock:
            works = self._credential_ok.get(call.credential)
        if not works:
            self._report_credential(call.credential, ok=False, reason="it opens less than no credential does")

    def _report_credential(self, source: Credential, *, ok: bool, reason: str = "") -> None:
        with self._lock:
            before = self._credential_ok.get(source)
            self._credential_ok[source] = ok
        if before is ok:
            return
        if not ok:
            log.warning(
                "%s: the credential of %s does not work: %s; going on without it",
                self._upstream,
                _owner(source),
                reason,
            )
        elif before is not None:
            log.warning("%s: the credential of %s works again", self._upstream, _owner(source))
        self._observe.on_credential(self._upstream, ok)

    # -- as one identity

    def _as(self, endpoint: Url, call: Call, secret: Secret | None, abort: AbortHandle) -> Response:
        """The answer to this identity, of any status. Raises _CredentialRefused where its login fails."""
        scheme = self._known_scheme(endpoint, call.repository)
        authorization, fresh = self._authorize(endpoint, call, scheme, secret, abort)
        challenged = 0
        while True:
            response = self._send(endpoint, call, authorization, abort)
            if response.status != 401 or not _is_own(response, endpoint):
                if secret is not None and authorization == secret.basic and response.status < 400:
                    assert call.credential is not None
                    self._report_credential(call.credential, ok=True)
                return response
            wanted = _choose(response.headers_of("WWW-Authenticate"), call.repository)
            if wanted is None or challenged == MAX_CHALLENGES or (wanted == scheme and fresh and wanted.realm):
                return response  # a fresh token does not open it
            if not wanted.realm and (secret is None or authorization == secret.basic):
                if secret is None:
                    return response
                response.discard()
                raise _CredentialRefused("the registry refuses it (401)", everywhere=not call.is_often_refused)
            response.discard()
            challenged += 1
            if scheme is not None and scheme.realm:
                self._tokens.forget(_token_key(endpoint, scheme, secret), authorization.removeprefix("Bearer "))
            scheme = wanted
            self._remember_scheme(endpoint, call.repository, scheme)
            authorization, _ = self._authorize(endpoint, call, scheme, secret, abort)
            fresh = True

    def _authorize(
        self, endpoint: Url, call: Call, scheme: _Scheme | None, secret: Secret | None, abort: AbortHandle
    ) -> tuple[str, bool]:
        """The header's value, empty for none, and whether it holds a token fetched just now."""
        if scheme is None:
            return "", False
        if not scheme.realm:
            return (secret.basic, False) if secret is not None else ("", False)
        value, fresh = self._tokens.get(
            _token_key(endpoint, scheme, secret),
            lambda: self._fetch_token(endpoint, call, scheme, secret, abort),
            abort,
            self._upstream,
        )
        return f"Bearer {value}", fresh

    def _send(self, endpoint: Url, call: Call, authorization: str, abort: AbortHandle) -> Response:
        url = endpoint.at(endpoint.target.rstrip("/") + call.path)
        response = follow(
            self._transport,
            Request(call.method, url, call.headers, authorization, own=True, admits=self._admits, is_body=call.is_body),
            abort,
            self._found(endpoint),
        )
        if _is_own(response, endpoint) and (response.status < 400 or response.status == 404):
            self._budget.answered(answers.budget_headers(response))
        return response

    def _found(self, endpoint: Url) -> Callable[[AddressClass], None]:
        def found(address_class: AddressClass) -> None:
            with self._lock:
                self._classes[endpoint.host_port] = address_class

        return found

    # -- what the upstream wants

    def _known_scheme(self, endpoint: Url, repository: str) -> _Scheme | None:
        with self._lock:
            scheme = self._schemes.get((endpoint.host_port, repository))
            if scheme is not None:
                return scheme
            general = self._schemes.get((endpoint.host_port, ""))
        if general is None or not general.scope.startswith("repository:"):
            return general
        return _Scheme(general.realm, general.service, _scope_of(repository))

    def _remember_scheme(self, endpoint: Url, repository: str, scheme: _Scheme) -> None:
        with self._lock:
            _remember(self._schemes, (endpoint.host_port, repository), scheme)
            if not scheme.scope.startswith("repository:") or scheme.scope == _scope_of(repository):
                _remember(self._schemes, (endpoint.host_port, ""), scheme)

    def _forget_schemes(self, endpoint: Url, repository: str) -> None:
        with self._lock:
            self._schemes.pop((endpoint.host_port, repository), None)
            self._schemes.pop((endpoint.host_port, ""), None)

    # -- tokens

    def _fetch_token(
        self, endpoint: Url, call: Call, scheme: _Scheme, secret: Secret | None, abort: AbortHandle
    ) -> Token:
        try:
            return self._fetch_token_from(endpoint, call, scheme, secret, abort)
        except UpstreamDenied:
            raise
        except UpstreamError:
            # The upstream may send clients elsewhere by now: the next question asks it again.
            self._forget_schemes(endpoint, call.repository)
            raise

    def _fetch_token_from(
        self, endpoint: Url, call: Call, scheme: _Scheme, secret: Secret | None, abort: AbortHandle
    ) -> Token:
        realm = trusted_realm(scheme.realm, endpoint=endpoint, token_realms=self._token_realms, upstream=self._upstream)
        asked = [("service", scheme.service)] if scheme.service else []
        asked += [("scope", scope) for scope in scheme.scope.split(" ") if scope]
        url = realm.at(f"{realm.target}{'&' if '?' in realm.target else '?'}{urlencode(asked)}")
        with self._lock:
            # Known, as a scheme is learnt from an answer of the endpoint.
            admits = public_or(self._classes[endpoint.host_port])
        request = Request(
            "GET",
            url,
            {"Accept": "application/json"},
            secret.basic if secret is not None else "",
            own=realm.host == endpoint.host,
            admits=admits,
        )
        response = follow(self._transport, request, abort)
        if response.status in (400, 401, 403) and secret is not None:
            response.discard()
            raise _CredentialRefused(
                f"the token server {url.authority} refuses it ({response.status})", everywhere=response.status == 401
            )
        if response.status in (401, 403):
            raise answers.denied(response, call.repository, "", own=True)
        if response.status == 429:
            raise answers.throttled(response, self._budget)
        if response.status >= 500:
            raise answers.unavailable(response, self._clock)
        if response.status != 200:
            raise answers.other(response, "a token", missing=False)
        body = response.read(MAX_ANSWER_BYTES, "a token")
        try:
            token = parse_token(body)
        except ValueError as error:
            raise UpstreamInvalid(
                f"the token server {url.authority} gave no token: {error}",
                upstream=self._upstream,
                hint=answers.HTML_HINT if answers.is_html(response.media_type, body) else "",
            ) from error
        if secret is not None and call.credential is not None:
            self._report_credential(call.credential, ok=True)
        return token

    # -- what the answer means

    def _settle(self, endpoint: Url, response: Response, call: Call, problem: str) -> Response:
        status = response.status
        if 200 <= status < 300 or status in call.accepted:
            return response
        own = _is_own(response, endpoint)
        try:
            if status in (401, 403) or (status == 404 and own and problem):
                raise answers.denied(response, call.repository, problem, own=own)
            if status == 429:
                raise answers.throttled(response, self._budget)
            if status >= 500:
                raise answers.unavailable(response, self._clock)
            raise answers.other(response, call.what)
        finally:
            response.close()


def _owner(source: Credential) -> str:
    return source.username if isinstance(source, CredentialSource) else source.arn


def _is_own(response: Response, endpoint: Url) -> bool:
    return response.url.host_port == endpoint.host_port


def _token_key(endpoint: Url, scheme: _Scheme, secret: Secret | None) -> TokenKey:
    return TokenKey(endpoint.host_port, scheme.realm, scheme.service, scheme.scope, secret)


def _scope_of(repository: str) -> str:
    return f"repository:{repository}:pull"


def _choose(headers: Iterable[str], repository: str) -> _Scheme | None:
    """Bearer before Basic; None where there is neither."""
    challenges = parse_challenges(headers)
    for challenge in challenges:
        realm = challenge.parameters.get("realm", "")
        scope = challenge.parameters.get("scope", "")
        if challenge.scheme == "bearer" and realm and len(scope) <= MAX_SCOPE_LENGTH:
            service = challenge.parameters.get("service", "")
            return _Scheme(realm, service, _pull_only(scope) or _scope_of(repository))
    return _Scheme() if any(challenge.scheme == "basic" for challenge in challenges) else None


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


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Bounded: the oldest is forgotten."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > _MAX_REMEMBERED:
        del memory[next(iter(memory))]
