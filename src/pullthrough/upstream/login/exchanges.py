"""One question to one endpoint: who we say we are, and what comes back.

What it costs in requests: one, where the authorization is known or none is wanted; one more for a token that has run
out; three for the first question to an upstream (401, token, again), two for the first about each further repository.
A broken credential costs its refusal once, then public content is read without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pullthrough.credentials import Credentials, Secret
from pullthrough.declaration import Credential
from pullthrough.errors import UpstreamDenied, UpstreamError
from pullthrough.shared_state import SharedState
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass, Admits, public_or
from pullthrough.upstream.http.observer import UpstreamObserver
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.http.transport import Transport
from pullthrough.upstream.http.urls import Url
from pullthrough.upstream.login import answers
from pullthrough.upstream.login.bearer_tokens import BearerToken, TokenKey, Tokens
from pullthrough.upstream.login.budget import Budget
from pullthrough.upstream.login.identities import CredentialRefused, Identities
from pullthrough.upstream.login.redirects import OutgoingRequest, follow
from pullthrough.upstream.login.schemes import Scheme, Schemes, choose_scheme, login_scheme
from pullthrough.upstream.login.token_server import TokenServer

#: Challenges answered for one identity in one exchange: a stale scheme may be followed by the right one.
MAX_CHALLENGES = 2

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class RegistryCall(Generic[T_co]):
    """What is asked, and how the answer is read. `what` names it in messages; `path` begins with `/v2/`."""

    method: str
    path: str
    repository: str
    what: str
    credential: Credential | None
    #: Runs in the thread that asks, and belongs to the try. Raises UpstreamError, also for what is no answer.
    read: Callable[[Response], T_co]
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Statuses beside 2xx that the caller reads itself.
    accepted: frozenset[int] = frozenset()
    #: The question is whether the credential works: no other identity is tried, and nothing remembered is relied on.
    tries_login: bool = False
    #: A blob's bytes are asked for: caches send nothing of them before they have all, so that the first may take long.
    is_body: bool = False
    #: Some registries refuse this method to everybody: a refusal says nothing of the credential.
    is_often_refused: bool = False


class Exchanges:
    """The exchanges with one upstream. Any thread."""

    def __init__(
        self,
        transport: Transport,
        *,
        credentials: Credentials,
        token_realms: tuple[str, ...],
        budget: Budget,
        state: SharedState,
        observe: UpstreamObserver,
        admits: Admits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`admits`: where the endpoint may be, and all that it points to; None where it may be anywhere."""
        self._upstream = transport.upstream
        self._transport = transport
        self._admits = admits
        self._budget = budget
        self._clock = clock
        self._identities = Identities(transport.upstream, credentials, state=state, observe=observe)
        self._schemes = Schemes()
        self._tokens = Tokens(state, transport.upstream)
        self._token_server = TokenServer(transport, token_realms=token_realms, budget=budget, clock=clock)
        self._lock = threading.Lock()
        #: Where each endpoint was last found.
        self._classes: dict[str, AddressClass] = {}

    @property
    def credential_ok(self) -> bool | None:
        """False where any credential in use is broken; None where none was needed yet."""
        return self._identities.all_work

    def ask(self, endpoint: Url, call: RegistryCall[object], abort: AbortHandle) -> Response:
        """The answer: 2xx, or a status that the call accepts. The caller must finish or close it.

        Raises UpstreamNotFound (404), UpstreamDenied (401 and 403), UpstreamThrottled (429), UpstreamUnavailable (5xx
        and the network), UpstreamRefused, UpstreamInvalid.
        """
        if call.tries_login:
            return self._log_in(endpoint, call, abort)
        secret, problem = self._identities.read(call.credential, call.repository)
        if secret is not None:
            response = self._try(endpoint, call, secret, abort)
            if response is None:
                # Once more with what the credential's place holds by now; pointless if that is the same.
                renewed, _ = self._identities.read(call.credential, call.repository, renew=True)
                if renewed is not None and renewed != secret:
                    secret = renewed
                    response = self._try(endpoint, call, secret, abort)
            if response is not None:
                return self._settle(endpoint, response, call, "")
            problem = "the credential does not open it"
        response = self._as(endpoint, call, None, abort)
        if secret is not None and response.status < 400:
            assert call.credential is not None
            self._identities.was_worse_than_none(call.credential, secret, call.repository)
        return self._settle(endpoint, response, call, problem)

    def _log_in(self, endpoint: Url, call: RegistryCall[object], abort: AbortHandle) -> Response:
        """Ask, answer the challenge, ask again, as the call's credential or as nobody. At most three requests.

        Many registries give anybody a token, but show their root to those who log in only: without a credential the
        token is enough. Raises CredentialUnreadable too.
        """
        secret = self._identities.read_anew(call.credential)
        response = self._send(endpoint, call, "", abort)
        if response.status != 401 or not _is_own(response, endpoint):
            return self._settle(endpoint, response, call, "")
        scheme = choose_scheme(response.headers_of("WWW-Authenticate"), "")
        response.discard()
        if scheme is None or (not scheme.realm and secret is None):
            raise self._login_refused(401, "it wants a login" if scheme else "it does not say how to log in")
        try:
            if scheme.realm:
                token = self._fetch_token(endpoint, call, login_scheme(scheme), secret, abort)
                authorization = f"Bearer {token.value}"
            else:
                assert secret is not None
                authorization = secret.basic
        except CredentialRefused as error:
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
            self._identities.logged_in(call.credential, secret)
        return response

    def _login_refused(self, status: int, problem: str) -> UpstreamDenied:
        return UpstreamDenied(
            f"{self._upstream} does not let us log in: {problem}", upstream=self._upstream, status=status
        )

    # -- as one identity

    def _try(self, endpoint: Url, call: RegistryCall[object], secret: Secret, abort: AbortHandle) -> Response | None:
        """None where the credential is refused, or does not open this: both may be open without it."""
        assert call.credential is not None
        try:
            response = self._as(endpoint, call, secret, abort)
        except CredentialRefused as error:
            self._identities.was_refused(call.credential, secret, error)
            return None
        if response.status in (401, 403) and _is_own(response, endpoint):
            response.discard()
            return None
        return response

    def _as(self, endpoint: Url, call: RegistryCall[object], secret: Secret | None, abort: AbortHandle) -> Response:
        """The answer to this identity, of any status. Raises CredentialRefused where its login fails."""
        scheme = self._schemes.known(endpoint, call.repository)
        authorization, fresh = self._authorize(endpoint, call, scheme, secret, abort)
        challenged = 0
        while True:
            response = self._send(endpoint, call, authorization, abort)
            if response.status != 401 or not _is_own(response, endpoint):
                if secret is not None and authorization == secret.basic and response.status < 400:
                    assert call.credential is not None
                    self._identities.report(call.credential, works=True)
                return response
            wanted = choose_scheme(response.headers_of("WWW-Authenticate"), call.repository)
            if wanted is None or challenged == MAX_CHALLENGES or (wanted == scheme and fresh and wanted.realm):
                return response  # a fresh token does not open it
            if not wanted.realm and (secret is None or authorization == secret.basic):
                if secret is None:
                    return response
                response.discard()
                raise CredentialRefused("the registry refuses it (401)", everywhere=not call.is_often_refused)
            response.discard()
            challenged += 1
            if scheme is not None and scheme.realm:
                self._tokens.forget(_token_key(endpoint, scheme, secret), authorization.removeprefix("Bearer "))
            scheme = wanted
            self._schemes.remember(endpoint, call.repository, scheme)
            authorization, _ = self._authorize(endpoint, call, scheme, secret, abort)
            fresh = True

    def _authorize(
        self,
        endpoint: Url,
        call: RegistryCall[object],
        scheme: Scheme | None,
        secret: Secret | None,
        abort: AbortHandle,
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
        )
        return f"Bearer {value}", fresh

    def _send(self, endpoint: Url, call: RegistryCall[object], authorization: str, abort: AbortHandle) -> Response:
        url = endpoint.at(endpoint.target.rstrip("/") + call.path)
        response = follow(
            self._transport,
            OutgoingRequest(
                call.method, url, call.headers, authorization, own=True, admits=self._admits, is_body=call.is_body
            ),
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

    # -- tokens

    def _fetch_token(
        self, endpoint: Url, call: RegistryCall[object], scheme: Scheme, secret: Secret | None, abort: AbortHandle
    ) -> BearerToken:
        with self._lock:
            # Known, as a scheme is learnt from an answer of the endpoint.
            admits = public_or(self._classes[endpoint.host_port])
        try:
            token = self._token_server.fetch(
                endpoint, scheme, secret, repository=call.repository, admits=admits, abort=abort
            )
        except UpstreamDenied:
            raise
        except UpstreamError:
            # The upstream may send clients elsewhere by now: the next question asks it again.
            self._schemes.forget(endpoint, call.repository)
            raise
        if secret is not None and call.credential is not None:
            self._identities.report(call.credential, works=True)
        return token

    # -- what the answer means

    def _settle(self, endpoint: Url, response: Response, call: RegistryCall[object], problem: str) -> Response:
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


def _is_own(response: Response, endpoint: Url) -> bool:
    return response.url.host_port == endpoint.host_port


def _token_key(endpoint: Url, scheme: Scheme, secret: Secret | None) -> TokenKey:
    return TokenKey(endpoint.host_port, scheme.realm, scheme.service, scheme.scope, secret)
