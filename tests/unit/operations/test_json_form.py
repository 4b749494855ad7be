"""Dataclasses as JSON objects, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from pullthrough.operations.json_form import from_json, to_json


@dataclass(frozen=True)
class Leaf:
    name: str
    size: float


@dataclass(frozen=True)
class Tree:
    count: int
    found: bool
    note: str | None
    tags: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    by_name: Mapping[str, Leaf]
    anything: tuple[Mapping[str, Any], ...]


TREE = Tree(3, True, None, ("a", "b"), (Leaf("x", 1.5),), {"y": Leaf("y", 2.0)}, ({"n": [1, None]},))


def test_what_is_written_is_read_again_in_its_order() -> None:
    text = json.dumps(to_json(TREE))
    assert list(json.loads(text)) == ["count", "found", "note", "tags", "leaves", "by_name", "anything"]
    assert from_json(Tree, json.loads(text)) == TREE


def test_members_that_nobody_knows_are_left_out_and_one_that_may_be_null_may_be_missing() -> None:
    document = {**json.loads(json.dumps(to_json(TREE))), "news": 1}
    del document["note"]
    assert from_json(Tree, document) == TREE


@pytest.mark.parametrize(
    ("member", "value", "sentence"),
    [
        ("count", "3", "count must be a number"),
        ("count", True, "count must be a number"),
        ("count", 1.5, "count must be a number"),
        ("found", 1, "found must be true or false"),
        ("note", 1, "note must be a text or null"),
        ("tags", "ab", "tags must be a list"),
        ("tags", [1], "tags must be a text"),
        ("leaves", [1], "leaves must be an object"),
        ("leaves", [{"name": "x", "size": None}], "size must be a number"),
        ("by_name", [], "by_name must be an object"),
        ("anything", {}, "anything must be a list"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(member: str, value: object, sentence: str) -> None:
    document = {**json.loads(json.dumps(to_json(TREE))), member: value}
    with pytest.raises(ValueError, match=f"the member {sentence}"):
        from_json(Tree, document)


@pytest.mark.parametrize("document", [None, [], "{}", 1])
def test_what_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        from_json(Leaf, document)
