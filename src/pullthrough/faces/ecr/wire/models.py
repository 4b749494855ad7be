"""The AWS service models that botocore ships, read once and kept as plain, immutable shapes.

The only importer of botocore. Loading takes a few tenths of a second, so it happens at the first API request and in a
thread. botocore makes a new object each time a shape is looked up; ours are made once, because every request walks them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.model import ServiceModel

#: The services whose operations can be called here.
SERVICES = ("ecr", "secretsmanager", "sts")


class ShapeType(StrEnum):
    """What a value of a shape is in a handler: a dict, a list, a str, an int, a float, a bool, bytes."""

    STRUCTURE = "structure"
    LIST = "list"
    MAP = "map"
    STRING = "string"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    #: Seconds since 1970, as a float.
    TIMESTAMP = "timestamp"
    BLOB = "blob"


@dataclass(slots=True, eq=False)
class Shape:
    """One type of a service model. Filled while it is read and left alone afterwards: shapes may contain themselves."""

    name: str
    kind: ShapeType
    sensitive: bool = False
    #: Bounds of a number, of a string's or blob's length, or of a list's or map's size.
    minimum: float | None = None
    maximum: float | None = None
    #: The pattern's text as AWS writes it, and compiled.
    pattern: str | None = None
    regex: re.Pattern[str] | None = None
    enum: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    members: dict[str, Shape] = field(default_factory=dict)
    #: A list's items or a map's values.
    item: Shape | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """`errors` are the codes of the errors that the model gives this operation. `output` is None where there is none."""

    service: str
    name: str
    input: Shape
    output: Shape | None
    result_wrapper: str | None
    errors: frozenset[str]


class Service:
    """One service model. Operations are read when they are first asked for; safe to use from many threads."""

    def __init__(self, model: ServiceModel, name: str) -> None:
        self.name = name
        self.api_version: str = model.metadata["apiVersion"]
        self.xml_namespace: str | None = model.metadata.get("xmlNamespace")
        #: HTTP status by error code.
        self.statuses: Mapping[str, int] = {
            shape.error_code: _status(shape.metadata, model.metadata, shape.name, model) for shape in model.error_shapes
        }
        self.operation_names: frozenset[str] = frozenset(model.operation_names)
        self._model = model
        self._shapes: dict[str, Shape] = {}
        self._operations: dict[str, Operation] = {}
        self._lock = threading.Lock()

    def operation(self, name: str) -> Operation:
        """Raises KeyError where the model has no such operation."""
        found = self._operations.get(name)
        if found is not None:
            return found
        if name not in self.operation_names:
            raise KeyError(name)
        with self._lock:
            model = self._model.operation_model(name)
            self._operations[name] = operation = Operation(
                service=self.name,
                name=name,
                input=self._shape(model.input_shape)
                if model.input_shape
                else Shape(f"{name}Request", ShapeType.STRUCTURE),
                output=self._shape(model.output_shape) if model.output_shape else None,
                result_wrapper=(model.output_shape.serialization.get("resultWrapper") if model.output_shape else None),
                errors=frozenset(shape.error_code for shape in model.error_shapes),
            )
        return operation

    def _shape(self, model: Any) -> Shape:
        found = self._shapes.get(model.name)
        if found is not None:
            return found
        facts = model.metadata
        shape = self._shapes[model.name] = Shape(
            name=model.name,
            kind=ShapeType(model.type_name),
            sensitive=bool(facts.get("sensitive")),
            minimum=facts.get("min"),
            maximum=facts.get("max"),
            pattern=facts.get("pattern"),
            regex=compile_pattern(facts["pattern"]) if "pattern" in facts else None,
            enum=tuple(facts.get("enum", ())),
            required=tuple(facts.get("required", ())),
        )
        if shape.kind is ShapeType.STRUCTURE:
            shape.members.update({name: self._shape(member) for name, member in model.members.items()})
        elif shape.kind is ShapeType.LIST:
            shape.item = self._shape(model.member)
        elif shape.kind is ShapeType.MAP:
            shape.item = self._shape(model.value)
        return shape


def _status(facts: Mapping[str, Any], service: Mapping[str, Any], name: str, model: ServiceModel) -> int:
    status: int | None = facts.get("error", {}).get("httpStatusCode")
    if status is not None:
        return status
    # botocore's shapes leave the trait `fault` out: what is the server's fault has 500 where the model gives no status.
    return 500 if model._service_description["shapes"][name].get("fault") else 400


#: The same languages, written so that no text makes Python's matcher try exponentially many ways. AWS's form of the
#: first repeats a repetition.
_EQUIVALENTS = {
    r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$": r"[a-z0-9*]+(?:[._\-/][a-z0-9*]+)*",
}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of a model, to be used with `fullmatch`, as AWS's services do whether or not it is anchored.

    They are Java's: without flags `\\w`, `\\d` and `\\s` mean ASCII there.
    """
    return re.compile(_EQUIVALENTS.get(pattern, pattern), re.ASCII)


_models: dict[str, Service] = {}
_loading = threading.Lock()


def service_model(name: str) -> Service:
    """The model of one of SERVICES. Reads and unpacks files at the first call: not for the event loop."""
    found = _models.get(name)
    if found is not None:
        return found
    with _loading:
        if name not in _models:
            from botocore.loaders import Loader
            from botocore.model import ServiceModel

            _models[name] = Service(ServiceModel(Loader().load_service_model(name, "service-2"), name), name)
        return _models[name]
