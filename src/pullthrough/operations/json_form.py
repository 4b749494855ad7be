"""Requests and answers as JSON objects: the fields of a frozen dataclass are the members of its object, in their order.

Fields are texts, numbers, booleans, other dataclasses, tuples and mappings of these, or None beside one of them. `Any` is
JSON that somebody else has made.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

#: The type of each field of a dataclass, by its name.
types_of_fields: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)
_NAMES = {str: "a text", int: "a number", float: "a number", bool: "true or false", tuple: "a list"}


def to_json(record: Any) -> dict[str, Any]:
    """The object of a dataclass."""
    return dataclasses.asdict(record)


def from_json(cls: type[T], document: object) -> T:
    """The dataclass of an object. A member that is missing counts as null; members that it has no field for are left out.

    Raises ValueError with a sentence that names the member which is not as it should be.
    """
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return cls(**{name: _value(kind, document.get(name), name) for name, kind in types_of_fields(cls).items()})


def _value(kind: Any, value: Any, name: str, or_null: str = "") -> Any:
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is types.UnionType:
        return None if value is None else _value(of[0], value, name, " or null")
    if origin is tuple and isinstance(value, list):
        return tuple(_value(of[0], item, name) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(of[1], item, name) for key, item in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return from_json(kind, value)
    if type(value) is kind or (kind is float and type(value) is int):  # not isinstance: true is no number
        return value
    raise ValueError(f"the member {name} must be {_NAMES.get(origin or kind, 'an object')}{or_null}")
