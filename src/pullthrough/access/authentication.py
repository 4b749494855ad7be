"""Who asks: the first question of both faces.

    API request        read_api_claim: its head, and the key it names
                       authenticate_api: its signature over the body      -> Principal
    registry client    Basic AWS:<token>, an htpasswd user, or nobody     -> Principal

What is given out to log in with later is made here too: tokens for registry clients, and URLs of blobs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pullthrough.access import principals
from pullthrough.access.api_keys.keys import AccessKey, Keys
from pullthrough.access.listeners import open_listeners
from pullthrough.access.logins import tokens, urls
from pullthrough.access.logins.canonical_requests import SignedRequest
from pullthrough.access.logins.htpasswd import Htpasswd
from pullthrough.access.logins.signatures import UNKNOWN_KEY, WEB_PAGE, Claim, denied, read_claim
from pullthrough.access.principals import Principal
from pullthrough.errors import AccessDenied, Unauthorized
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, is_host
from pullthrough.settings import EcrAuth, Settings

_BASIC = re.compile(r"basic +([A-Za-z0-9+/=_-]*) *", re.ASCII | re.IGNORECASE)
_EXPIRED = "Your authorization token has expired. Reauthenticate and try again."
#: A browser lets any page send requests to this machine, and says so by an Origin header wherever one could change
#: something; also where the page's own name leads to this machine.
_WEB_PAGE = 'requests of web pages (those with an Origin header) are refused where [ecr] auth = "none"'
_LOGIN_HINT = "log in as AWS with the password of `aws ecr get-login-password`"


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who a request says it is from, and the key that this was."""

    claim: Claim
    key: AccessKey


class Authenticator:
    """Belongs to one worker's event loop."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        *,
        htpasswd: Htpasswd | None,
        url_key: bytes,
        clock: Callable[[], float],
    ) -> None:
        """`url_key` signs what keys sign where nobody is asked for one: random, the same in all workers."""
        self._account = settings.ecr.account
        self._region = settings.ecr.region
        self._keys = keys
        self._htpasswd = htpasswd
        self._url_key = url_key
        self._clock = clock
        self._scheme = "https" if settings.serve.tls_cert else "http"
        self._everybody = principals.root(settings.ecr.account) if settings.ecr.auth is EcrAuth.NONE else None
        self._open = open_listeners(settings)
        #: The one that was asked for last: clients call this registry by few names.
        self._anonymous: Principal | None = None

    def close(self) -> None:
        """Wait for what still runs in threads."""
        if self._htpasswd is not None:
            self._htpasswd.close()

    async def read_api_claim(self, request: SignedRequest, service: str) -> Claimed | None:
        """Which key a request of `ecr`, `secretsmanager` or `sts` says it is from, by its head alone. The key exists.

        None where nobody is asked. Raises ApiDenied, with AWS's codes and words; StorageError and SealingKeyMissing where
        keys cannot be read.
        """
        if self._everybody is not None:
            if any(name.lower() == "origin" for name, _ in request.headers):
                raise denied(WEB_PAGE, service, _WEB_PAGE)
            return None
        claim = read_claim(request, service)
        claim.check_scope(self._region, service)
        claim.check_time(self._clock(), service)
        if claim.has_session_token:
            raise denied(
                UNKNOWN_KEY,
                service,
                "The security token included in the request is invalid. This registry gives out no session tokens; "
                "send none (unset AWS_SESSION_TOKEN).",
            )
        return Claimed(claim, await self._claimed_key(claim, service))

    async def authenticate_api(
        self, claimed: Claimed | None, request: SignedRequest, body_sha256: str, service: str, *, is_late: bool = True
    ) -> Principal:
        """Who signed the request; `read_api_claim` gave the claim. Raises what that raises.

        The key is looked up again where it `is_late`: a body may take minutes, and the key may end meanwhile.
        """
        if self._everybody is not None:
            return self._everybody
        assert claimed is not None
        key = await self._claimed_key(claimed.claim, service) if is_late else claimed.key
        claimed.claim.verify(request, body_sha256, key.secret, service)
        return self._user(key)

    async def _claimed_key(self, claim: Claim, service: str) -> AccessKey:
        key = await self._keys.find(claim.access_key_id)
        if key is None:
            raise denied(UNKNOWN_KEY, service, "The security token included in the request is invalid.")
        return key

    async def authenticate_registry(
        self, headers: Mapping[str, str], *, address: str | None, wants_write: bool, mirror: str | None = None
    ) -> Principal:
        """Who a registry client at this address is. `mirror` is the rule that the listener is bound to, if it is.

        A wrong login is refused even where none is needed. Raises Unauthorized; AccessDenied where the token has
        expired; TooManyLogins; StorageError and SealingKeyMissing where keys cannot be read.
        """
        if self._everybody is not None:
            if "Origin" in headers:
                raise AccessDenied(_WEB_PAGE)
            return self._everybody
        authorization = headers.get("Authorization", "")
        challenge = self.challenge(headers)
        user, password = _basic(authorization, challenge)
        if not user and not password:
            if wants_write or not self._open[mirror]:
                raise Unauthorized("authentication required", challenge=challenge, hint=_LOGIN_HINT)
            if self._anonymous is None or self._anonymous.challenge != challenge:
                self._anonymous = principals.anonymous(self._account, challenge)
            return self._anonymous
        if user == tokens.USER:
            return await self._of_token(password, challenge)
        if self._htpasswd is not None and await self._htpasswd.accepts(user, password, address):
            return principals.registry_user(user, self._account)
        raise Unauthorized("the user or the password is wrong", challenge=challenge, hint=_LOGIN_HINT)

    async def _of_token(self, text: str, challenge: str) -> Principal:
        wrong = Unauthorized("the authorization token is not valid", challenge=challenge, hint=_LOGIN_HINT)
        try:
            token = tokens.parse_token(text)
        except tokens.TokenMalformed:
            raise wrong from None
        key = await self._keys.find(token.access_key_id)
        if key is None or not token.is_signed_by(key.secret) or token.account != self._account:
            raise wrong
        if token.expires_at <= self._clock():
            raise AccessDenied(_EXPIRED)
        return self._user(key)

    def challenge(self, headers: Mapping[str, str]) -> str:
        """The value of WWW-Authenticate, as ECR has it. Where pulls are open, it goes with the 200 of `/v2/` too: podman,
        skopeo and buildah log in for a push only if they were told of it there."""
        host = headers.get("Host", "")
        return f'Basic realm="{self._scheme}://{host if is_host(host) else "registry"}/",service="ecr.amazonaws.com"'

    # --- what is given out -------------------------------------------------------------------------------------------

    def issue_token(self, principal: Principal) -> tuple[str, float]:
        """The password for the user AWS, and when it ends. GetAuthorizationToken gives base64 of `AWS:<password>`.

        Raises ApiDenied where the key has been removed since the request began.
        """
        expires_at = int(self._clock()) + tokens.LIFETIME_SECONDS
        if self._everybody is not None:
            # Not looked at here, and good for nothing once keys are asked for.
            return tokens.make_token("none", self._account, expires_at, self._url_key), float(expires_at)
        key = self._known_key(principal)
        return tokens.make_token(key.access_key_id, self._account, expires_at, key.secret), float(expires_at)

    def sign_layer_url(self, principal: Principal, repository: RepositoryName, digest: Digest) -> str:
        """A query string for the blob's path. Whoever has it gets this blob, for a short time, as if they were this principal.

        Raises ApiDenied where the key has been removed since the request began.
        """
        expires_at = int(self._clock()) + urls.LIFETIME_SECONDS
        if self._everybody is not None:
            return urls.sign("", self._url_key, repository, digest, expires_at)
        key = self._known_key(principal)
        return urls.sign(key.access_key_id, key.secret, repository, digest, expires_at)

    async def authenticate_layer_url(
        self, repository: RepositoryName, digest: Digest, raw_query: str
    ) -> Principal | None:
        """Who signed this URL with `sign_layer_url`; None where the query has no such signature.

        Raises AccessDenied where the signature is wrong or has expired, or its key is gone; StorageError and
        SealingKeyMissing where keys cannot be read.
        """
        url = urls.read(raw_query)
        if url is None:
            return None
        if self._everybody is not None:
            url.check(self._url_key, repository, digest, self._clock())
            return self._everybody
        key = await self._keys.find(url.access_key_id)
        if key is None:
            raise urls.not_good()
        url.check(key.secret, repository, digest, self._clock())
        return self._user(key)

    def _known_key(self, principal: Principal) -> AccessKey:
        key = self._keys.known(principal.access_key_id)
        if key is None:
            raise denied(UNKNOWN_KEY, "ecr", "The security token included in the request is invalid.")
        return key

    def _user(self, key: AccessKey) -> Principal:
        return principals.user(key.name, self._account, key.policies, access_key_id=key.access_key_id)


def _basic(authorization: str, challenge: str) -> tuple[str, str]:
    """User and password; both empty where there is no login. Raises Unauthorized."""
    if not authorization:
        return "", ""
    match = _BASIC.fullmatch(authorization)
    try:
        if match is None:
            raise ValueError
        user, colon, password = base64.b64decode(match[1], validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (binascii.Error, ValueError):
        raise Unauthorized(
            "the Authorization header is not of the form Basic user:password", challenge=challenge
        ) from None
    return user, password
