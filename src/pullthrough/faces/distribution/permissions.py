"""Who a registry client is, and what ECR calls what it wants to do.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_service-with-iam.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pullthrough.access.authentication import Authenticator
from pullthrough.access.authorization import Authorizer
from pullthrough.access.principals import Principal
from pullthrough.engine.rules import Target, Targets
from pullthrough.errors import AccessDenied, PullthroughError, Unauthorized
from pullthrough.faces.distribution.exchange import READS, RegistryExchange
from pullthrough.faces.distribution.routes import Endpoint, parse_path, parse_query
from pullthrough.oci.names import Reference, RepositoryName
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

#: What a pull needs on top where the cache does not have the image, and its repository.
_IMPORT = ("BatchImportUpstreamImage", "CreateRepository")


class Permissions:
    """Asks the authorizer in the registry's words."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        repositories: Repositories,
        manifest_rows: ManifestRows,
        call: Runner,
        *,
        region: str,
        account: str,
    ) -> None:
        """`region` and `account` are the registry's, as ARNs have them."""
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._repositories = repositories
        self._manifest_rows = manifest_rows
        self._call = call
        self._arn = f"arn:aws:ecr:{region}:{account}:repository/"

    async def find_principal(self, exchange: RegistryExchange, raw_path: str, raw_query: str) -> Principal:
        """Who asks: who has logged in, or whose URL for the blob at this path it is.

        Raises Unauthorized, AccessDenied or TooManyLogins, before anything else is looked at.
        """
        request = exchange.request
        principal: Principal | None = None
        reads = request.method in READS
        # Not where something that is not signed says which repository the name means.
        if reads and "Signature" in raw_query and exchange.mirror is None and parse_query(raw_query).ns is None:
            route = parse_path(raw_path)
            if route.kind is Endpoint.BLOB and route.name is not None:
                principal = await self._authenticator.authenticate_layer_url(route.name, route.digest, raw_query)
        if principal is None:
            writes = not reads or "/blobs/uploads/" in raw_path
            principal = await self._authenticator.authenticate_registry(
                request.headers, address=request.remote, wants_write=writes, mirror=exchange.mirror
            )
        await self._authorizer.prepare(principal)
        return principal

    def invitation(self, exchange: RegistryExchange) -> str | None:
        """The challenge that goes with `/v2/` though it is open, so that clients log in before they push."""
        principal = exchange.principal
        if principal is not None and principal.is_anonymous:
            return self._authenticator.challenge(exchange.request.headers)
        return None

    def check(self, exchange: RegistryExchange, action: str, repository: RepositoryName | None = None) -> None:
        """Raises AccessDenied, or Unauthorized for who has not logged in. Without a repository: for all of them."""
        assert exchange.principal is not None
        self._authorizer.authorize(
            exchange.principal,
            f"ecr:{action}",
            self._arn + ("*" if repository is None else repository),
            repository=repository,
            source_ip=exchange.request.remote,
        )

    def may(self, exchange: RegistryExchange, action: str, repository: RepositoryName) -> bool:
        try:
            self.check(exchange, action, repository)
        except (AccessDenied, Unauthorized):
            return False
        return True

    async def allowed(self, exchange: RegistryExchange, action: str, targets: Targets) -> Targets:
        """Those of the targets for which the action is allowed. Raises as `check` does where it is for none."""
        if targets.stripped is None:
            self.check(exchange, action, targets.literal.repository)
            return targets

        async def check(target: Target) -> None:
            self.check(exchange, action, target.repository)

        return await _passing(targets, check)

    async def importable(self, exchange: RegistryExchange, targets: Targets, reference: Reference) -> Targets:
        """Those that have the manifest, or that the client may have it fetched to. Raises as `check` does.

        A manifest that is not here needs two more rights: to have it fetched, and to make its repository.
        """

        async def check(target: Target) -> None:
            name = target.repository
            if target.is_own or all(self.may(exchange, action, name) for action in _IMPORT):
                return
            if not await self._call(self._manifest_rows.has, name, target.owner, reference):
                await self.check_creation(exchange, target)
                self.check(exchange, "BatchImportUpstreamImage", name)

        return await _passing(targets, check)

    async def creatable(self, exchange: RegistryExchange, targets: Targets) -> Targets:
        """Those whose repository is there, or that the client may make: a blob that comes in makes it. Raises as `check`
        does."""

        async def check(target: Target) -> None:
            if not target.is_own:
                await self.check_creation(exchange, target)

        return await _passing(targets, check)

    async def check_creation(self, exchange: RegistryExchange, target: Target) -> None:
        """Raises AccessDenied where there is no such repository and the client may not make it."""
        try:
            self.check(exchange, "CreateRepository", target.repository)
        except (AccessDenied, Unauthorized):
            if not await self._call(self._repositories.is_there, target.repository, None):
                raise


async def _passing(targets: Targets, check: Callable[[Target], Awaitable[None]]) -> Targets:
    """The targets that pass. Raises what the first one was refused with where none does."""
    found: list[Target] = []
    refusal: PullthroughError | None = None
    for target in targets.all:
        try:
            await check(target)
            found.append(target)
        except (AccessDenied, Unauthorized) as error:
            refusal = refusal or error
    if not found:
        assert refusal is not None
        raise refusal
    return Targets(*found)
