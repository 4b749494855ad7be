"""The table: what is asked finds its entry, and the entries say what goes over the wire."""

from __future__ import annotations

import dataclasses

import pytest

from pullthrough.errors import ConfigurationError
from pullthrough.operations.json_form import from_json
from pullthrough.operations.operation import CacheOperation, NoInput
from pullthrough.operations.table import TABLE, AnyOperation, Operations, chosen, operations_named


@dataclasses.dataclass(frozen=True)
class Name:
    name: str


class Greetings:
    def __init__(self, word: str) -> None:
        self._word = word

    async def greet(self, request: Name) -> Name:
        return Name(f"{self._word}, {request.name}")


GREET = CacheOperation("greet", Name, Name, Greetings, Greetings.greet)


async def test_an_operation_is_done_by_the_parts_that_were_given() -> None:
    assert await Operations(Greetings("hello")).perform(GREET, Name("you")) == Name("hello, you")


@pytest.mark.parametrize("operation", TABLE, ids=lambda operation: f"{operation.name} {operation.action}".strip())
def test_what_asks_for_an_operation_finds_it(operation: AnyOperation) -> None:
    values = {field.name: "x" for field in dataclasses.fields(operation.request)}
    document = {"action": operation.action, **values} if operation.action else values
    assert chosen(operations_named(operation.method, operation.name), document) is operation
    assert operation.has_input == (document != {})


@pytest.mark.parametrize(("method", "name"), [("GET", "refresh"), ("POST", "status"), ("DELETE", "keys"), ("GET", "")])
def test_what_is_not_in_the_table_is_not_found(method: str, name: str) -> None:
    assert operations_named(method, name) == []


@pytest.mark.parametrize("asked", [{}, {"action": "dance"}, {"action": 3}, {"action": ""}])
def test_an_action_on_keys_that_makes_no_sense_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="no action on keys"):
        chosen(operations_named("POST", "keys"), asked)


@pytest.mark.parametrize(
    ("name", "document", "sentence"),
    [
        ("keys", {"action": "create", "name": "bob"}, "the member role must be a text"),
        ("keys", {"action": "renew", "name": 3}, "the member name must be a text"),
        ("refresh", {"image": 1}, "the member image must be a text"),
        ("evict", {"dry_run": "no"}, "the member dry_run must be true or false"),
        ("evict", {}, "the member dry_run must be true or false"),
        ("lifecycle", {"repository": 1, "dry_run": True}, "the member repository must be a text or null"),
        ("events", {"limit": "9"}, "the member limit must be a number"),
        ("events", {"limit": True}, "the member limit must be a number"),
        ("events", {"limit": 0}, "the member limit must be a number from 1 to 10000"),
        ("events", {"limit": 10_001}, "the member limit must be a number from 1 to 10000"),
    ],
)
def test_a_request_that_makes_no_sense_names_the_member(name: str, document: dict[str, object], sentence: str) -> None:
    operation = chosen(operations_named("POST", name), document)
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        from_json(operation.request, document)


def test_operations_without_input_ask_with_an_empty_object() -> None:
    (check,) = operations_named("POST", "check")
    assert check.document(NoInput()) == {}
