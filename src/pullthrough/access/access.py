"""Who asks, and whether they may: what both faces ask before they do anything.

    API request        read_api_claim: its head, and the key it names
                       authenticate_api: its signature over the body      -> Principal
    registry client    Basic AWS:<token>, an htpasswd user, or nobody     -> Principal
    Principal, action, resource -> identity, registry and repository policies -> allowed, or AccessDenied

Whether a client needs a login is decided by the address it connected to, never by its own: behind a proxy, or with host
networking, everybody comes from loopback.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pullthrough.access import principals, tokens, urls
from pullthrough.access.canonical_requests import SignedRequest
from pullthrough.access.context import NO_TAGS, RequestTags, Tags, resource_tags_context
from pullthrough.access.htpasswd import Htpasswd
from pullthrough.access.keys import AccessKey, Keys
from pullthrough.access.policies import (
    DENY_ALL,
    JudgedRequest,
    Policy,
    PolicyDecision,
    PolicyInvalid,
    PolicyKind,
    allows_always,
    parse_policy,
)
from pullthrough.access.principals import Principal
from pullthrough.access.signatures import UNKNOWN_KEY, WEB_PAGE, ApiDenied, Claim, denied, read_claim
from pullthrough.errors import AccessDenied, StorageError, Unauthorized
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, is_host
from pullthrough.settings import EcrAuth, Settings, parse_listen
from pullthrough.units import format_time

_log = logging.getLogger(__name__)

#: All that a registry policy decided before ECR's policy scope V2.
#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html
_SCOPE_V1 = ("ecr:ReplicateImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository")
#: What an admin may always do, so that nobody locks themselves out by a Deny: read and replace the policies.
_UNLOCKING = frozenset(
    f"{service}:{verb}{policy}"
    for service, policy in (
        ("ecr", "RepositoryPolicy"),
        ("ecr", "RegistryPolicy"),
        ("secretsmanager", "ResourcePolicy"),
    )
    for verb in ("Get", "Set", "Put", "Delete")
)
_BASIC = re.compile(r"basic +([A-Za-z0-9+/=_-]*) *", re.ASCII | re.IGNORECASE)
_EXPIRED = "Your authorization token has expired. Reauthenticate and try again."
#: A browser lets any page send requests to this machine, and says so by an Origin header wherever one could change
#: something; also where the page's own name leads to this machine.
_WEB_PAGE = 'requests of web pages (those with an Origin header) are refused where [ecr] auth = "none"'


class PolicyTexts(Protocol):
    """The policies that are set up, as they are now: engine.configuration.Configuration."""

    @property
    def registry_policy(self) -> str | None: ...

    @property
    def repository_policies(self) -> Mapping[RepositoryName, str]: ...

    @property
    def repository_tags(self) -> Mapping[RepositoryName, Mapping[str, str]] | None:
        """None before `read_repository_tags`."""

    async def read_repository_tags(self) -> None: ...

    def account_setting(self, name: str) -> str: ...


def pulls_are_open(settings: Settings, listen: str) -> bool:
    """Whether pulls at an address listened on need no login. The peer's address is nothing to go by."""
    if settings.ecr.auth is EcrAuth.NONE:
        return True
    serve = settings.serve
    return not serve.pull_auth if parse_listen(listen).is_loopback else serve.anonymous_pull


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who a request says it is from, and the key that this was."""

    claim: Claim
    key: AccessKey


class Access:
    """Belongs to one worker's event loop."""

    def __init__(
        self,
        settings: Settings,
        texts: PolicyTexts,
        keys: Keys,
        *,
        htpasswd: Htpasswd | None,
        url_key: bytes,
        clock: Callable[[], float],
    ) -> None:
        """`url_key` signs what keys sign where nobody is asked for one: random, the same in all workers."""
        serve, ecr = settings.serve, settings.ecr
        self._account = ecr.account
        self._region = ecr.region
        self._texts = texts
        self._keys = keys
        self._htpasswd = htpasswd
        self._url_key = url_key
        self._clock = clock
        self._scheme = "https" if serve.tls_cert else "http"
        self._everybody = principals.root(ecr.account) if ecr.auth is EcrAuth.NONE else None
        #: For each listener, by its mirror's rule (None is the main one), whether pulls need no login. Of two mirrors of
        #: one rule, the stricter counts for both.
        self._open: dict[str | None, bool] = {}
        for listen, mirror in ((serve.listen, None), *serve.mirrors.items()):
            self._open[mirror] = self._open.get(mirror, True) and pulls_are_open(settings, listen)
        self._all_open = all(self._open.values())
        self._broken_policies: set[str] = set()
        #: The one that was asked for last: clients call this registry by few names.
        self._anonymous: Principal | None = None
        #: Whether a registry or repository policy asks for tags, and the policies that this is about.
        self._attached_ask: tuple[str | None, Mapping[RepositoryName, str] | None, bool] = (None, None, False)

    def close(self) -> None:
        """Wait for what still runs in threads."""
        if self._htpasswd is not None:
            self._htpasswd.close()

    # --- who asks ----------------------------------------------------------------------------------------------------

    async def read_api_claim(self, request: SignedRequest, service: str) -> Claimed | None:
        """Who a request of `ecr`, `secretsmanager` or `sts` says it is from, by its head alone: there is such a key.

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
        """Who signed the request, of which `read_api_claim` gave the claim. Raises as that does.

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
        """Who a registry client at this address is. `mirror` is the rule of the listener it came in by, where that is bound
        to one.

        A login that is wrong is refused also where none is needed. Raises Unauthorized; AccessDenied where the token has
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
        """The value of WWW-Authenticate, as ECR has it. Goes also with the 200 of `/v2/` where pulls are open: podman,
        skopeo and buildah log in for a push only if they were told of it there."""
        host = headers.get("Host", "")
        return f'Basic realm="{self._scheme}://{host if is_host(host) else "registry"}/",service="ecr.amazonaws.com"'

    @property
    def open_pulls(self) -> bool:
        """Whether a pull without login may be answered without another look: no listener asks, no policy is there."""
        return self._all_open and self._texts.registry_policy is None and not self._texts.repository_policies

    # --- whether they may --------------------------------------------------------------------------------------------

    async def prepare(self, principal: Principal) -> None:
        """Read what the policies ask for that may decide on this principal's request: once a request, before `authorize`.

        Raises StorageError.
        """
        if self._asks_for_tags(principal):
            await self._texts.read_repository_tags()

    def _asks_for_tags(self, principal: Principal) -> bool:
        for policy in principal.policies:
            if policy.asks_for_resource_tags:
                return True
        registry_text, repository_texts = self._texts.registry_policy, self._texts.repository_policies
        before = self._attached_ask
        if registry_text != before[0] or repository_texts is not before[1]:
            attached = [self._parsed(text, PolicyKind.REPOSITORY) for text in repository_texts.values()]
            if registry_text is not None:
                attached.append(self._parsed(registry_text, PolicyKind.REGISTRY))
            asks = any(policy.asks_for_resource_tags for policy in attached)
            self._attached_ask = before = (registry_text, repository_texts, asks)
        return before[2]

    def authorize(
        self,
        principal: Principal,
        action: str,
        resource: str,
        *,
        repository: RepositoryName | None = None,
        secret_policy: str | None = None,
        source_ip: str | None = None,
        request_tags: RequestTags = NO_TAGS,
        resource_tags: Tags | None = None,
    ) -> None:
        """Raises AccessDenied unless the policies allow it: an explicit Deny in any of them wins, else one Allow is
        enough. For anonymous clients Unauthorized instead, so that they log in.

        `action` is `ecr:BatchGetImage`, `resource` an ARN or `*`; `repository` the one whose policy and tags have a say,
        `secret_policy` that of the secret. For conditions: `source_ip` is the client's address, `request_tags` those that
        it gives or takes away, `resource_tags` those of the resource, where they are not the repository's.
        """
        attached = self._resource_policies(action, repository)
        if secret_policy is not None:
            attached.append(self._parsed(secret_policy, PolicyKind.SECRET))
        if not attached and len(principal.policies) == 1 and allows_always(principal.policies[0], action):
            return
        context = self._context(principal, source_ip) | request_tags.context()
        if any(policy.asks_for_resource_tags for policy in (*principal.policies, *attached)):
            tags = self._tags_of(repository) if resource_tags is None else resource_tags
            context |= resource_tags_context(action.partition(":")[0], tags)
        request = JudgedRequest(
            action, resource, principal.arn, principal.user_id, principal.account, principal.is_anonymous, context
        )
        own = [policy.decide(request) for policy in principal.policies]
        if PolicyDecision.DENY in own:
            raise self._refusal(principal, request, "with an explicit deny in an identity-based policy")
        theirs = [policy.decide(request) for policy in attached]
        if PolicyDecision.DENY in theirs and not (principal.is_admin and action in _UNLOCKING):
            raise self._refusal(principal, request, "with an explicit deny in a resource-based policy")
        if PolicyDecision.ALLOW not in own and PolicyDecision.ALLOW not in theirs:
            reason = f"because no identity-based policy allows the {action} action"
            raise self._refusal(principal, request, reason)

    def _resource_policies(self, action: str, repository: RepositoryName | None) -> list[Policy]:
        attached: list[Policy] = []
        if not action.startswith("ecr:"):
            return attached
        registry_text = self._texts.registry_policy
        if registry_text is not None and (
            action in _SCOPE_V1 or self._texts.account_setting("REGISTRY_POLICY_SCOPE") != "V1"
        ):
            attached.append(self._parsed(registry_text, PolicyKind.REGISTRY))
        if repository is not None and (text := self._texts.repository_policies.get(repository)) is not None:
            attached.append(self._parsed(text, PolicyKind.REPOSITORY))
        return attached

    def _parsed(self, text: str, kind: PolicyKind) -> Policy:
        try:
            return parse_policy(text, kind)
        except PolicyInvalid as error:
            # Nobody can have put it through this version's API: another one took it, or the catalog was changed by hand.
            if text not in self._broken_policies:
                self._broken_policies.add(text)
                _log.error("a %s policy cannot be read, so that it denies everything: %s", kind, error.message)
            return DENY_ALL

    def _tags_of(self, repository: RepositoryName | None) -> Tags:
        if repository is None:
            return ()
        all_tags = self._texts.repository_tags
        if all_tags is None:
            raise StorageError("a policy asks for tags that are not read yet, since a moment ago", hint="Ask again.")
        return all_tags.get(repository, {}).items()

    def _context(self, principal: Principal, source_ip: str | None) -> dict[str, tuple[str, ...]]:
        now = self._clock()
        context = {
            "aws:principalarn": principal.arn,
            "aws:principalaccount": principal.account,
            "aws:principaltype": _principal_type(principal),
            "aws:userid": principal.user_id,
            "aws:username": principal.name,
            "aws:securetransport": "true" if self._scheme == "https" else "false",
            "aws:currenttime": format_time(now),
            "aws:epochtime": str(int(now)),
            "aws:requestedregion": self._region,
        }
        if principal.is_anonymous:
            del context["aws:principalarn"], context["aws:principalaccount"]
        if _principal_type(principal) != "User":
            del context["aws:username"]
        if source_ip:
            context["aws:sourceip"] = source_ip
        return {key: (value,) for key, value in context.items()}

    def _refusal(self, principal: Principal, request: JudgedRequest, reason: str) -> AccessDenied | Unauthorized:
        who = "anonymous" if principal.is_anonymous else principal.arn
        message = f"User: {who} is not authorized to perform: {request.action} on resource: {request.resource} {reason}"
        if principal.is_anonymous:
            return Unauthorized(message, challenge=principal.challenge)
        return AccessDenied(message)

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
        """The query string with which anybody gets this blob as this principal, at the blob's path, for a short time.

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
        """Whose URL of `sign_layer_url` this is; None where the query has no such signature.

        Raises AccessDenied where it has one that is wrong, has expired, or ended with its key; StorageError and
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


_LOGIN_HINT = "log in as AWS with the password of `aws ecr get-login-password`"


def _principal_type(principal: Principal) -> str:
    if principal.is_anonymous:
        return "Anonymous"
    return "Account" if principal.arn.endswith(":root") else "User"


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


__all__ = ["Access", "ApiDenied", "PolicyTexts", "Principal"]
