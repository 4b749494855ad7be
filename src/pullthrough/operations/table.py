"""All operations, and what does them in one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.errors import ConfigurationError
from pullthrough.operations import check, events, images, keys, room, status
from pullthrough.operations.operation import AnswerT, CacheOperation, GroupT, RequestT

AnyOperation = CacheOperation[Any, Any, Any]

TABLE: tuple[AnyOperation, ...] = (
    *images.OPERATIONS,
    *room.OPERATIONS,
    *events.OPERATIONS,
    *check.OPERATIONS,
    *keys.OPERATIONS,
    *status.OPERATIONS,
)


class Operations:
    """Does the operations of the groups that it was given, each made from its own parts."""

    def __init__(self, *groups: object) -> None:
        self._groups = {type(group): group for group in groups}

    async def perform(self, operation: CacheOperation[GroupT, RequestT, AnswerT], request: RequestT) -> AnswerT:
        group = self._groups[operation.group]
        assert isinstance(group, operation.group)
        return await operation.do(group, request)


def operations_named(method: str, name: str) -> list[AnyOperation]:
    """More than one where the request's `action` decides; none where there is no such operation."""
    return [operation for operation in TABLE if (operation.method, operation.name) == (method, name)]


def chosen(operations: list[AnyOperation], document: Mapping[str, Any]) -> AnyOperation:
    """The one of several of a name that the document is for. Raises ConfigurationError."""
    for operation in operations:
        if not operation.action or operation.action == document.get("action"):
            return operation
    raise ConfigurationError(f"the request is for no action on {operations[0].name} that there is")
