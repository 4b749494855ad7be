"""The registry's own repositories: what to say where they do not have what is asked for, and whose content is whose.

Names under no rule are read as they are, also those that a rule which is gone has filled.
"""

from __future__ import annotations

from collections.abc import Callable

from pullthrough.engine.rules import RuleBook
from pullthrough.errors import BlobUnknown, ManifestUnknown, RepositoryUnknown
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference, RepositoryName
from pullthrough.oci.owners import OWN
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

#: As ECR begins what it says of an image that is not there.
NOT_FOUND = "Requested image not found"


class OwnRepositories:
    """`account` is the registry's id, which AWS's sentences name."""

    def __init__(
        self, *, repositories: Repositories, call: Runner, rules: Callable[[], RuleBook], account: str
    ) -> None:
        self._repositories = repositories
        self._call = call
        self._rules = rules
        self._account = account

    def unknown(self, repository: RepositoryName) -> RepositoryUnknown:
        return RepositoryUnknown(
            f"The repository with name '{repository}' does not exist in the registry with id '{self._account}'",
            hint=self._rules().advice(repository),
        )

    async def require(self, repository: RepositoryName) -> bool:
        """Whether it is the registry's, and not what a rule that is gone has left. Raises RepositoryUnknown where there is no
        such repository."""
        owner: str | None = await self._call(self._repositories.find_owner, repository)
        if owner is None:
            raise self.unknown(repository)
        return owner in (OWN, "")

    async def no_manifest(self, repository: RepositoryName, reference: Reference) -> ManifestUnknown:
        """What to raise where it does not have it. Raises RepositoryUnknown where there is no such repository."""
        await self.require(repository)
        name = f"{repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"
        return ManifestUnknown(f"{NOT_FOUND}: {name}", hint=self._advice(repository))

    async def no_blob(self, repository: RepositoryName, digest: Digest) -> BlobUnknown:
        """What to raise where it does not have it. Raises RepositoryUnknown where there is no such repository."""
        await self.require(repository)
        return BlobUnknown(f"{repository} does not have the blob {digest}", hint=self._advice(repository))

    def _advice(self, repository: RepositoryName) -> str:
        """For who expects a rule's upstream to have it."""
        rules = self._rules()
        rule = rules.covering(repository) if rules.is_covered(repository) else None
        return (
            f"{repository} was pushed to this registry before there was the rule {rule.prefix!r}: {rule.upstream} is not asked "
            "for it; delete the repository to have it filled from there"
            if rule is not None
            else ""
        )
