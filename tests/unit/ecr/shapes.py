"""Hypothesis strategies over the service models: documents that fit a shape, and such with one thing wrong."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

from pullthrough.faces.ecr.calls import Handlers
from pullthrough.faces.ecr.handlers import make_handlers
from pullthrough.faces.ecr.wire.models import SERVICES, Operation, Shape, ShapeType, service_model

#: Bigger values cost much and show nothing new.
_MAX_LENGTH = 12
_MAX_ITEMS = 3

#: Values of every JSON type, the odd ones among them.
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "x" * 3000, "\x00", "{}", "ROOT", "=="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@cache
def handlers() -> Handlers:
    """The table, made of nothing: for its names."""
    nothing: dict[str, Any] = dict.fromkeys(inspect.signature(make_handlers).parameters)
    return make_handlers(**nothing)


def offered() -> list[Operation]:
    """Every operation of the models that has a handler, and all of ECR's."""
    table = handlers()
    return [
        model.operation(name)
        for model in map(service_model, SERVICES)
        for name in sorted(model.operation_names)
        if model.name == "ecr" or name in table[model.name] or model.name == "secretsmanager"
    ]


def documents(shape: Shape, *, depth: int = 0) -> st.SearchStrategy[Any]:
    """JSON documents that a client may send for the shape."""
    low = int(shape.minimum or 0)
    high = int(min(shape.maximum if shape.maximum is not None else low + _MAX_LENGTH, low + _MAX_LENGTH))
    match shape.kind:
        case ShapeType.STRUCTURE:
            return structures(
                shape, {name: documents(member, depth=depth + 1) for name, member in shape.members.items()}
            )
        case ShapeType.LIST:
            assert shape.item is not None
            items = documents(shape.item, depth=depth + 1)
            return st.lists(items, min_size=low, max_size=max(low, min(high, _MAX_ITEMS)))
        case ShapeType.MAP:
            assert shape.item is not None
            return st.dictionaries(st.text(max_size=5), documents(shape.item, depth=depth + 1), max_size=_MAX_ITEMS)
        case ShapeType.STRING:
            return _strings(shape, low, high)
        case ShapeType.BLOB:
            return st.binary(min_size=low, max_size=high).map(lambda value: base64.b64encode(value).decode())
        case ShapeType.BOOLEAN:
            return st.booleans()
        case ShapeType.INTEGER | ShapeType.LONG:
            return st.integers(low, int(shape.maximum) if shape.maximum is not None else 2**31 - 1)
        case ShapeType.FLOAT | ShapeType.DOUBLE | ShapeType.TIMESTAMP:
            return st.integers(0, 2**40).map(lambda value: value / 8)


def structures(shape: Shape, members: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {name: member for name, member in members.items() if name in shape.required},
        optional={name: member for name, member in members.items() if name not in shape.required},
    )


def _strings(shape: Shape, low: int, high: int) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    if shape.regex is None:
        return st.text(st.characters(codec="utf-8"), min_size=low, max_size=high)
    limit = shape.maximum
    found = st.from_regex(shape.regex, fullmatch=True)
    return found.filter(lambda text: low <= len(text) and (limit is None or len(text) <= limit))


def values(shape: Shape) -> st.SearchStrategy[Any]:
    """What a handler may give for an output shape."""
    match shape.kind:
        case ShapeType.STRUCTURE:
            return st.fixed_dictionaries(
                {}, optional={name: st.none() | values(member) for name, member in shape.members.items()}
            )
        case ShapeType.LIST:
            assert shape.item is not None
            return st.lists(values(shape.item), max_size=2)
        case ShapeType.MAP:
            assert shape.item is not None
            return st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), values(shape.item), max_size=2)
        case ShapeType.STRING:
            return st.text(st.characters(codec="utf-8"), max_size=5)
        case ShapeType.BLOB:
            return st.binary(max_size=5)
        case ShapeType.BOOLEAN:
            return st.booleans()
        case ShapeType.INTEGER | ShapeType.LONG:
            return st.integers(-(2**31), 2**31 - 1)
        case ShapeType.FLOAT | ShapeType.DOUBLE:
            return st.floats(allow_nan=False, allow_infinity=False)
        case ShapeType.TIMESTAMP:
            return st.integers(0, 2**42).map(lambda milliseconds: milliseconds / 1000)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    found: list[tuple[Any, Any]] = []
    pairs = (
        list(document.items())
        if isinstance(document, dict)
        else list(enumerate(document))
        if isinstance(document, list)
        else []
    )
    for key, value in pairs:
        found.append((document, key))
        found += places(value)
    return found
