"""What every operation's handler gets: who asks, of which registry, and the engine that does it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pullthrough.access.context import NO_TAGS, RequestTags, Tags
from pullthrough.ecr.errors import ApiError

if TYPE_CHECKING:
    from pullthrough.access.access import Access
    from pullthrough.access.principals import Principal
    from pullthrough.engine.engine import Engine
    from pullthrough.oci.names import RepositoryName
    from pullthrough.settings import EcrSettings, ListenAddress, Settings


@dataclass(frozen=True, slots=True)
class RegistryIdentity:
    """The one registry that an engine is: an account and a region, and the host name that clients use."""

    account: str
    region: str
    #: With the port, where clients need one.
    host: str
    scheme: str

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:5000`: the `proxyEndpoint` of GetAuthorizationToken."""
        return f"{self.scheme}://{self.host}"

    def repository_arn(self, name: str) -> str:
        return f"arn:aws:ecr:{self.region}:{self.account}:repository/{name}"

    def repository_uri(self, name: str) -> str:
        """What stands before the tag in `docker pull`."""
        return f"{self.host}/{name}"


def registry_identity(settings: EcrSettings, address: ListenAddress, *, has_tls: bool) -> RegistryIdentity:
    """Of an engine whose main listener has this address, with the port that was really bound."""
    scheme = "https" if has_tls else "http"
    if settings.registry_host:
        host = settings.registry_host.format(account=settings.account, region=settings.region)
        # A name without a port is reached at 443: by a proxy, where this engine has no certificate itself.
        scheme = scheme if ":" in host else "https"
    else:
        host = str(address._replace(host="localhost") if address.host in ("0.0.0.0", "::") else address)
    return RegistryIdentity(settings.account, settings.region, host, scheme)


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose sender is known and allowed to make it."""

    engine: Engine
    access: Access
    settings: Settings
    registry: RegistryIdentity
    principal: Principal
    clock: Callable[[], float]
    #: The client's address, and the tags in the input, for policies that speak of them.
    source_ip: str | None = None
    request_tags: RequestTags = NO_TAGS

    def authorize(
        self,
        action: str,
        resource: str,
        *,
        repository: RepositoryName | None = None,
        secret_policy: str | None = None,
        resource_tags: Tags | None = None,
    ) -> None:
        """Raises AccessDenied where its sender may not do this; see `Access.authorize`."""
        self.access.authorize(
            self.principal,
            action,
            resource,
            repository=repository,
            secret_policy=secret_policy,
            source_ip=self.source_ip,
            request_tags=self.request_tags,
            resource_tags=resource_tags,
        )


#: From a call and its input to its output. Both have the keys of the service's model; members that are not set are
#: absent from the input, and absent or None in the output. Timestamps are seconds since 1970, blobs are bytes.
Handler = Callable[[Call, Mapping[str, Any]], Coroutine[Any, Any, Mapping[str, Any]]]


def check_registry(registry: RegistryIdentity, input: Mapping[str, Any], *, knows_repositories: bool) -> None:
    """Refuse a `registryId` that is not ours: one engine is one registry.

    Where the operation can say that a repository does not exist in a registry, that is what AWS says.
    """
    asked = [input["registryId"]] if "registryId" in input else input.get("registryIds", [])
    for identifier in asked:
        if identifier == registry.account:
            continue
        if knows_repositories and "repositoryName" in input:
            raise ApiError(
                "RepositoryNotFoundException",
                f"The repository with name '{input['repositoryName']}' does not exist in the registry with id "
                f"'{identifier}'",
            )
        raise ApiError(
            "InvalidParameterException",
            "Invalid parameter at 'registryId' failed to satisfy constraint: "
            f"'this engine is the registry {registry.account} only'",
        )
