"""What every operation's handler gets: who asks what of which registry, and when."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pullthrough.access.policy.context import NO_TAGS, RequestTags
from pullthrough.faces.ecr.wire.errors import ApiError

if TYPE_CHECKING:
    from pullthrough.access.principals import Principal
    from pullthrough.settings import EcrSettings, ListenAddress


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

    registry: RegistryIdentity
    principal: Principal
    #: When it was made, in seconds since 1970.
    now: float
    #: The client's address, and the tags in the input, for policies that speak of them.
    source_ip: str | None = None
    request_tags: RequestTags = NO_TAGS


#: By the service's model, whose members are the keys. What is not set is absent from an input, and absent or None in an
#: output. Timestamps are seconds since 1970, blobs are bytes.
Input = Mapping[str, Any]
Output = dict[str, Any]
Handler = Callable[[Call, Input], Coroutine[Any, Any, Output]]
#: By service and name.
Handlers = Mapping[str, Mapping[str, Handler]]


class HandlerGroup(Protocol):
    """A group of operations, made with the parts that they use."""

    def handlers(self) -> Mapping[str, Handler]:
        """By the operations' names."""


def check_registry(registry: RegistryIdentity, input: Input, *, knows_repositories: bool) -> None:
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
