"""What the `repositoryName` of an operation means."""

from __future__ import annotations

from dataclasses import dataclass

from pullthrough.engine.configuration import Configuration
from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.rules import Target
from pullthrough.errors import Denied, RepositoryUnknown
from pullthrough.faces.ecr.calls import Call, Input
from pullthrough.faces.ecr.parameters import repository_name, repository_not_found
from pullthrough.faces.ecr.rights import Rights
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class RepositoryNames:
    run: Runner
    repositories: Repositories
    configuration: Configuration
    rights: Rights
    pushed: Pushed
    push_admission: PushAdmission

    def stored(self, call: Call, operation: str, input: Input) -> RepositoryName:
        """The name under which it is kept: `docker-hub/nginx` is `docker-hub/library/nginx`.

        Raises AccessDenied where the caller may not do this to the repository of that name.
        """
        return self.shown(call, operation, input)[0]

    def shown(self, call: Call, operation: str, input: Input) -> tuple[RepositoryName, Owner | None]:
        """The name under which it is kept, and whose content is shown under it; None for whoever has it.

        Raises AccessDenied as `stored` does.
        """
        name = repository_name(input)
        target = self._target(name)
        if target is None:
            return name, None
        if target.repository != name:
            # What was allowed was allowed for the name as it was given.
            self.rights.check_repository(call, operation, target.repository)
        return target.repository, target.owner

    def shown_owner(self, name: RepositoryName) -> Owner | None:
        """Whose content is shown under a name that something is kept under; None for whoever has it."""
        target = self._target(name)
        return None if target is None else target.owner

    def _target(self, name: RepositoryName) -> Target | None:
        """None where no rule serves the name any more; what is cached under it can be looked at."""
        try:
            return self.configuration.rules.resolve(name).literal
        except (Denied, RepositoryUnknown):
            return None

    def target(self, call: Call, operation: str, input: Input) -> Target:
        """Where the repository's content comes from.

        Raises AccessDenied as `stored` does, and Denied where the rule does not serve the name.
        """
        name = self.stored(call, operation, input)
        return self.configuration.rules.resolve(name).literal

    async def require_repository(self, call: Call, name: RepositoryName) -> None:
        """Raises ApiError where there is no such repository."""
        if not await self.run(self.repositories.is_there, name, None):
            raise repository_not_found(call.registry, name)

    async def require_pushable(self, call: Call, target: Target) -> None:
        """Raises ApiError where there is no such repository, and no creation template lets a push make it.

        Raises PushRefused where it is filled from an upstream.
        """
        self.push_admission.require_own(target)
        if not await self.run(self.pushed.may_create, target.repository):
            raise repository_not_found(call.registry, target.repository)
