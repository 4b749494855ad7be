"""What the `repositoryName` of an operation means, and whether its caller may have what is missing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.parameters import repository_name, repository_not_found
from pullthrough.engine.rules import Target
from pullthrough.errors import AccessDenied, Denied, ImageArchived, RepositoryUnknown
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference, RepositoryName
from pullthrough.oci.owners import Owner


def stored_name(call: Call, operation: str, input: Mapping[str, Any]) -> RepositoryName:
    """The name under which it is kept: `docker-hub/nginx` is `docker-hub/library/nginx`.

    Raises AccessDenied where the caller may not do this to the repository of that name.
    """
    return stored_content(call, operation, input)[0]


def stored_content(call: Call, operation: str, input: Mapping[str, Any]) -> tuple[RepositoryName, Owner | None]:
    """The name under which it is kept, and whose content is shown under it; None for whoever has it. Raises as
    `stored_name` does."""
    name = repository_name(input)
    target = _shown(call, name)
    if target is None:
        return name, None
    if target.repository != name:
        # What was allowed was allowed for the name as it was given.
        authorize(call, operation, target.repository)
    return target.repository, target.owner


def shown_owner(call: Call, name: RepositoryName) -> Owner | None:
    """Whose content is shown under a name that something is kept under; None for whoever has it."""
    target = _shown(call, name)
    return None if target is None else target.owner


def _shown(call: Call, name: RepositoryName) -> Target | None:
    """None where no rule serves the name any more; what is cached under it can be looked at."""
    try:
        return call.engine.rules.resolve(name).literal
    except (Denied, RepositoryUnknown):
        return None


def pull_target(call: Call, operation: str, input: Mapping[str, Any]) -> Target:
    """Where the repository's content comes from. Raises Denied too, where the rule does not serve the name."""
    name = stored_name(call, operation, input)
    return call.engine.rules.resolve(name).literal


async def require_repository(call: Call, name: RepositoryName) -> None:
    """Raises ApiError where there is no such repository."""
    if not await call.engine.call(call.engine.catalog.has_repository, name, None):
        raise repository_not_found(call, name)


async def require_pushable(call: Call, target: Target) -> None:
    """Raises ApiError where there is no such repository, and no creation template lets a push make it.

    Raises PushRefused where it is filled from an upstream.
    """
    call.engine.pushes.require_own(target)
    if not await call.engine.call(call.engine.pushed.may_create, target.repository):
        raise repository_not_found(call, target.repository)


def authorize(call: Call, operation: str, name: RepositoryName) -> None:
    """Raises AccessDenied."""
    call.authorize(f"ecr:{operation}", call.registry.repository_arn(name), repository=name)


async def check_import(call: Call, target: Target, reference: Reference) -> None:
    """A manifest that is not here needs two more rights: to have it fetched, and to make its repository.

    Raises AccessDenied where the first is missing. Where the second is, ApiError, as AWS says it, with the reason.
    """
    if target.is_own:
        return
    try:
        authorize(call, "CreateRepository", target.repository)
        authorize(call, "BatchImportUpstreamImage", target.repository)
        return
    except AccessDenied:
        if await call.engine.call(_is_cached, call, target, reference):
            return
    if not await call.engine.call(call.engine.catalog.has_repository, target.repository, None):
        try:
            authorize(call, "CreateRepository", target.repository)
        except AccessDenied as error:
            missing = repository_not_found(call, target.repository)
            raise ApiError(missing.code, f"{missing.message} ({error.message})") from error
    authorize(call, "BatchImportUpstreamImage", target.repository)


def _is_cached(call: Call, target: Target, reference: Reference) -> bool:
    catalog = call.engine.catalog
    try:
        if isinstance(reference, Digest):
            return catalog.find_manifest(target.repository, target.owner, reference) is not None
        return catalog.find_tag(target.repository, target.owner, reference) is not None
    except ImageArchived:
        return True
