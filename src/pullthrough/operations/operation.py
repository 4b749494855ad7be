"""An entry of the table of operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pullthrough.operations.json_form import to_json

GroupT = TypeVar("GroupT")
RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class NoInput:
    """The request of an operation that needs to know nothing."""


@dataclass(frozen=True, slots=True)
class CacheOperation(Generic[GroupT, RequestT, AnswerT]):
    """One operation. `request` and `answer` are frozen dataclasses; their fields are the members of the JSON objects."""

    #: The path on the control socket, without its slash.
    name: str
    request: type[RequestT]
    answer: type[AnswerT]
    #: The class that has the operation's parts, and its method.
    group: type[GroupT]
    do: Callable[[GroupT, RequestT], Awaitable[AnswerT]]
    #: Where several operations have one name: the request's member `action`, which tells them apart.
    action: str = ""
    method: str = "POST"

    @property
    def has_input(self) -> bool:
        """Whether it needs to know what the request's JSON object says."""
        return bool(self.action) or self.request is not NoInput

    def document(self, request: RequestT) -> dict[str, Any]:
        """The JSON object that asks for it."""
        return {**({"action": self.action} if self.action else {}), **to_json(request)}


class Performer(Protocol):
    """Performs operations for the command line: a running engine, or this process on a folder that no engine holds."""

    def perform(self, operation: CacheOperation[GroupT, RequestT, AnswerT], request: RequestT) -> AnswerT:
        """Raises the operation's error."""
        ...
