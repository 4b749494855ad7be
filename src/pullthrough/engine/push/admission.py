"""Who may be pushed to: the registry's own repositories, and on a full disk once there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from pullthrough.engine.bodies import ROW_BYTES
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.rules import Target
from pullthrough.errors import DiskFull, PushRefused
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.threads import Runner

P = ParamSpec("P")
T = TypeVar("T")


class PushAdmission:
    """`strict` makes no repository without a creation template that says so, as AWS. `make_room` frees so many bytes."""

    def __init__(
        self,
        *,
        own: OwnRepositories,
        pushed: Pushed,
        call: Runner,
        make_room: Callable[[int], Awaitable[None]],
        strict: bool,
    ) -> None:
        self._own = own
        self._pushed = pushed
        self._call = call
        self._make_room = make_room
        self._strict = strict

    def require_own(self, target: Target) -> None:
        if not target.is_own:
            raise PushRefused(
                f"{target.repository} is filled from {target.upstream} by the rule {target.rule.prefix!r}: nothing is "
                "pushed to it or deleted from it",
                hint="push to a name under no rule",
            )

    async def admit(self, target: Target) -> None:
        """Raises PushRefused or RepositoryUnknown."""
        self.require_own(target)
        if self._strict and not await self._call(self._pushed.may_create, target.repository):
            raise self._own.unknown(target.repository)

    async def require_there(self, target: Target) -> None:
        """Raises PushRefused or RepositoryUnknown: there is nothing to delete."""
        self.require_own(target)
        await self._own.require(target.repository)

    async def with_room(self, write: Callable[[], Awaitable[T]], needed_bytes: int = ROW_BYTES) -> T:
        """Where the disk is full, once more after making room. Raises DiskFull."""
        try:
            return await write()
        except DiskFull:
            await self._make_room(needed_bytes)
            return await write()

    async def write(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Write to the catalog; where the disk is full, once more after making room. Raises DiskFull."""
        return await self.with_room(lambda: self._call(function, *args, **kwargs))
