"""Asking a token server: which one may be asked, with what, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from pullthrough.credentials import Secret
from pullthrough.errors import UpstreamInvalid
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import Admits
from pullthrough.upstream.http.transport import Transport
from pullthrough.upstream.http.urls import Url
from pullthrough.upstream.login import answers
from pullthrough.upstream.login.bearer_tokens import MAX_ANSWER_BYTES, BearerToken, parse_token
from pullthrough.upstream.login.budget import Budget
from pullthrough.upstream.login.identities import CredentialRefused
from pullthrough.upstream.login.redirects import OutgoingRequest, follow
from pullthrough.upstream.login.schemes import Scheme
from pullthrough.upstream.login.trust import trusted_realm


class TokenServer:
    """Whichever an upstream's challenges name. Any thread."""

    def __init__(
        self, transport: Transport, *, token_realms: tuple[str, ...], budget: Budget, clock: Callable[[], float]
    ) -> None:
        self._upstream = transport.upstream
        self._transport = transport
        self._token_realms = token_realms
        self._budget = budget
        self._clock = clock

    def fetch(
        self,
        endpoint: Url,
        scheme: Scheme,
        secret: Secret | None,
        *,
        repository: str,
        admits: Admits,
        abort: AbortHandle,
    ) -> BearerToken:
        """`admits`: where the server may be. Raises CredentialRefused, and UpstreamError as questions do."""
        realm = trusted_realm(scheme.realm, endpoint=endpoint, token_realms=self._token_realms, upstream=self._upstream)
        asked = [("service", scheme.service)] if scheme.service else []
        asked += [("scope", scope) for scope in scheme.scope.split(" ") if scope]
        url = realm.at(f"{realm.target}{'&' if '?' in realm.target else '?'}{urlencode(asked)}")
        request = OutgoingRequest(
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
            raise CredentialRefused(
                f"the token server {url.authority} refuses it ({response.status})", everywhere=response.status == 401
            )
        if response.status in (401, 403):
            raise answers.denied(response, repository, "", own=True)
        if response.status == 429:
            raise answers.throttled(response, self._budget)
        if response.status >= 500:
            raise answers.unavailable(response, self._clock)
        if response.status != 200:
            raise answers.other(response, "a token", missing=False)
        body = response.read(MAX_ANSWER_BYTES, "a token")
        try:
            return parse_token(body)
        except ValueError as error:
            raise UpstreamInvalid(
                f"the token server {url.authority} gave no token: {error}",
                upstream=self._upstream,
                hint=answers.HTML_HINT if answers.is_html(response.media_type, body) else "",
            ) from error
