"""Whether they may: principal, action, resource -> identity, registry and repository policies -> allowed, or AccessDenied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from pullthrough.access.listeners import open_listeners
from pullthrough.access.policy.context import NO_TAGS, RequestTags, Tags, resource_tags_context
from pullthrough.access.policy.documents import DENY_ALL, PolicyInvalid, PolicyKind, parse_policy
from pullthrough.access.policy.statements import JudgedRequest, Policy, PolicyDecision, allows_always
from pullthrough.access.principals import Principal
from pullthrough.errors import AccessDenied, StorageError, Unauthorized
from pullthrough.oci.names import RepositoryName
from pullthrough.settings import Settings
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


class Authorizer:
    """Belongs to one worker's event loop."""

    def __init__(self, settings: Settings, texts: PolicyTexts, *, clock: Callable[[], float]) -> None:
        self._region = settings.ecr.region
        self._has_tls = bool(settings.serve.tls_cert)
        self._texts = texts
        self._clock = clock
        self._all_open = all(open_listeners(settings).values())
        self._broken_policies: set[str] = set()
        #: Whether a registry or repository policy asks for tags, and the policies that this is about.
        self._attached_ask: tuple[str | None, Mapping[RepositoryName, str] | None, bool] = (None, None, False)

    @property
    def open_pulls(self) -> bool:
        """Whether a pull without login may be answered without another look: no listener asks, no policy is there."""
        return self._all_open and self._texts.registry_policy is None and not self._texts.repository_policies

    async def prepare(self, principal: Principal) -> None:
        """Read the tags, if a policy that may decide on this principal's request asks for any. Comes before `authorize`.

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
        """Raises AccessDenied unless the policies allow it; Unauthorized for anonymous clients, so that they log in.

        An explicit Deny in any policy wins; without one, a single Allow is enough.

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
            "aws:securetransport": "true" if self._has_tls else "false",
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


def _principal_type(principal: Principal) -> str:
    if principal.is_anonymous:
        return "Anonymous"
    return "Account" if principal.arn.endswith(":root") else "User"
