"""The operations on API keys. They share the name `keys`; what is asked says which of them it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pullthrough.access.api_keys.records import KeyList, NewKey, RemovedKey, RotatedKeys
from pullthrough.operations.operation import CacheOperation, NoInput

if TYPE_CHECKING:
    from pullthrough.access.api_keys.administration import KeyAdministration
    from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class KeyRequest:
    name: str


@dataclass(frozen=True, slots=True)
class NewKeyRequest:
    name: str
    #: A role's name, or a policy document.
    role: str


class KeyOperations:
    """`KeyAdministration`, which blocks, in the catalog's threads."""

    def __init__(self, administration: KeyAdministration, call: Runner) -> None:
        self._administration = administration
        self._call = call

    async def list(self, request: NoInput) -> KeyList:
        return await self._call(self._administration.list)

    async def show(self, request: NoInput) -> NewKey:
        return await self._call(self._administration.show)

    async def create(self, request: NewKeyRequest) -> NewKey:
        return await self._call(self._administration.create, request.name, request.role)

    async def renew(self, request: KeyRequest) -> NewKey:
        return await self._call(self._administration.renew, request.name)

    async def remove(self, request: KeyRequest) -> RemovedKey:
        return await self._call(self._administration.remove, request.name)

    async def rotate(self, request: NoInput) -> RotatedKeys:
        return await self._call(self._administration.rotate)


LIST_KEYS = CacheOperation("keys", NoInput, KeyList, KeyOperations, KeyOperations.list, "list")
SHOW_KEY = CacheOperation("keys", NoInput, NewKey, KeyOperations, KeyOperations.show, "show")
CREATE_KEY = CacheOperation("keys", NewKeyRequest, NewKey, KeyOperations, KeyOperations.create, "create")
RENEW_KEY = CacheOperation("keys", KeyRequest, NewKey, KeyOperations, KeyOperations.renew, "renew")
REMOVE_KEY = CacheOperation("keys", KeyRequest, RemovedKey, KeyOperations, KeyOperations.remove, "remove")
ROTATE_KEYS = CacheOperation("keys", NoInput, RotatedKeys, KeyOperations, KeyOperations.rotate, "rotate")
OPERATIONS = (LIST_KEYS, SHOW_KEY, CREATE_KEY, RENEW_KEY, REMOVE_KEY, ROTATE_KEYS)
