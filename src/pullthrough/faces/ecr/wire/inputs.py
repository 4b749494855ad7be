"""From a request's body to a handler's input: parse the JSON, convert it to the shape's types, check the shape's bounds.

Two kinds of wrong, as on AWS: what is not the shape at all (malformed JSON, a number for a string) is a
SerializationException; what has the right types but breaks a bound of the model is a validation error, and all of those
are told at once. Members that the model does not have are ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.models import Operation, Shape, ShapeType
from pullthrough.oci.documents import check_values

_INTEGER_BITS = {ShapeType.INTEGER: 31, ShapeType.LONG: 63}
#: So many violations are told; a list of a hundred broken items needs no longer message.
_MAX_TOLD = 10
_MAX_SHOWN_CHARACTERS = 200


def parse_json(body: bytes) -> dict[str, Any]:
    """The body's object. Raises ApiError SerializationException for everything else."""
    if not body:
        return {}
    try:
        check_values(body)
        text = body.decode()
    except UnicodeDecodeError:
        _malformed("the body is not UTF-8")
    except ValueError as error:
        _malformed(f"the body cannot be read: {error}")
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        _malformed("the body is nested too deeply")
    except ValueError as error:
        # The decoder's own words name a position, never content.
        _malformed(
            f"the body is not JSON: {error}" if isinstance(error, json.JSONDecodeError) else "a number is too long"
        )
    if not isinstance(document, dict):
        _malformed("the body is not a JSON object")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        _malformed("an object has the same key twice")
    return document


def _constant(name: str) -> NoReturn:
    _malformed(f"{name} is no JSON number")


def _malformed(reason: str) -> NoReturn:
    raise ApiError("SerializationException", f"The request cannot be read: {reason}", 400) from None


@dataclass(frozen=True, slots=True)
class _Violation:
    path: str
    constraint: str
    #: What was given, where it may be shown: neither for secrets nor for whole structures and lists.
    shown: str | None = None


def read_input(operation: Operation, document: Mapping[str, Any]) -> dict[str, Any]:
    """The operation's input: converted, and within all bounds. Raises ApiError."""
    violations: list[_Violation] = []
    value: dict[str, Any] = _Reader(violations).structure(operation.input, document, "", False)
    if violations:
        raise _validation_error(operation.service, violations)
    return value


def _validation_error(service: str, violations: list[_Violation]) -> ApiError:
    """In the words of each service: ECR has its own, the others those of AWS's common framework."""
    told = violations[:_MAX_TOLD]
    if service == "ecr":
        sentences = [f"Invalid parameter at '{v.path}' failed to satisfy constraint: '{v.constraint}'" for v in told]
        return ApiError("InvalidParameterException", "; ".join(sentences))
    sentences = [
        f"Value{'' if v.shown is None else ' ' + v.shown} at '{v.path}' failed to satisfy constraint: {v.constraint}"
        for v in told
    ]
    count = f"{len(violations)} validation error{'s' if len(violations) > 1 else ''} detected: "
    code = "ValidationError" if service == "sts" else "InvalidParameterException"
    return ApiError(code, count + "; ".join(sentences))


class _Reader:
    """Walks a document beside its shape and collects violations."""

    def __init__(self, violations: list[_Violation]) -> None:
        self._violations = violations

    def structure(self, shape: Shape, document: Any, path: str, secret: bool) -> dict[str, Any]:
        if not isinstance(document, dict):
            _wrong_type(document, "a structure", path)
        value = {}
        for name, member in shape.members.items():
            given = document.get(name)
            where = _join(path, name)
            if given is not None:
                value[name] = self._value(member, given, where, secret)
            elif name in shape.required:
                self._violations.append(_Violation(where, "Member must not be null", "null"))
        return value

    def _value(self, shape: Shape, given: Any, path: str, secret: bool) -> Any:
        secret = secret or shape.sensitive
        match shape.kind:
            case ShapeType.STRUCTURE:
                return self.structure(shape, given, path, secret)
            case ShapeType.LIST:
                return self._list(shape, given, path, secret)
            case ShapeType.MAP:
                return self._map(shape, given, path, secret)
            case ShapeType.STRING:
                return self._string(shape, given, path, secret)
            case ShapeType.BLOB:
                return self._blob(shape, given, path)
            case ShapeType.BOOLEAN:
                if not isinstance(given, bool):
                    _wrong_type(given, "a Boolean", path)
                return given
            case ShapeType.INTEGER | ShapeType.LONG:
                return self._integer(shape, given, path, secret)
            case ShapeType.FLOAT | ShapeType.DOUBLE | ShapeType.TIMESTAMP:
                return self._float(shape, given, path)

    def _list(self, shape: Shape, given: Any, path: str, secret: bool) -> list[Any]:
        if not isinstance(given, list):
            _wrong_type(given, "a list", path)
        assert shape.item is not None
        self._check_size(shape, len(given), path)
        value = []
        for number, item in enumerate(given, 1):
            where = f"{path}.{number}.member"
            if item is None:
                self._violations.append(_Violation(where, "Member must not be null", "null"))
            else:
                value.append(self._value(shape.item, item, where, secret))
        return value

    def _map(self, shape: Shape, given: Any, path: str, secret: bool) -> dict[str, Any]:
        if not isinstance(given, dict):
            _wrong_type(given, "a map", path)
        assert shape.item is not None
        self._check_size(shape, len(given), path)
        value = {}
        for key, item in given.items():
            where = f"{path}.{_checked_text(key, path)}.member"
            if item is None:
                self._violations.append(_Violation(where, "Member must not be null", "null"))
            else:
                value[key] = self._value(shape.item, item, where, secret)
        return value

    def _string(self, shape: Shape, given: Any, path: str, secret: bool) -> str:
        if not isinstance(given, str):
            _wrong_type(given, "a String", path)
        text = _checked_text(given, path)
        shown = None if secret else f"'{text[:_MAX_SHOWN_CHARACTERS]}'"
        self._check_size(shape, len(text), path, shown)
        if shape.enum and text not in shape.enum:
            allowed = ", ".join(shape.enum)
            self._violations.append(_Violation(path, f"Member must satisfy enum value set: [{allowed}]", shown))
        too_long = shape.maximum is not None and len(text) > shape.maximum
        if shape.regex is not None and not too_long and shape.regex.fullmatch(text) is None:
            self._violations.append(
                _Violation(path, f"Member must satisfy regular expression pattern: {shape.pattern}", shown)
            )
        return text

    def _blob(self, shape: Shape, given: Any, path: str) -> bytes:
        if not isinstance(given, str):
            _wrong_type(given, "a Blob", path)
        try:
            value = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            _malformed(f"'{path}' is not base64")
        self._check_size(shape, len(value), path)
        return value

    def _integer(self, shape: Shape, given: Any, path: str, secret: bool) -> int:
        if isinstance(given, bool) or not isinstance(given, int):
            _wrong_type(given, "an Integer" if shape.kind is ShapeType.INTEGER else "a Long", path)
        if not -(2 ** _INTEGER_BITS[shape.kind]) <= given < 2 ** _INTEGER_BITS[shape.kind]:
            _malformed(f"the number at '{path}' is too large")
        shown = None if secret else f"'{given}'"
        self._check_bounds(shape, given, path, "value", shown)
        return given

    def _float(self, shape: Shape, given: Any, path: str) -> float:
        """No input of the services has bounds for these."""
        if isinstance(given, bool) or not isinstance(given, int | float):
            _wrong_type(given, "a Timestamp" if shape.kind is ShapeType.TIMESTAMP else "a Double", path)
        try:
            value = float(given)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            _malformed(f"the number at '{path}' is too large")
        return value

    def _check_size(self, shape: Shape, size: int, path: str, shown: str | None = None) -> None:
        self._check_bounds(shape, size, path, "length", shown)

    def _check_bounds(self, shape: Shape, number: int, path: str, what: str, shown: str | None) -> None:
        if shape.minimum is not None and number < shape.minimum:
            constraint = f"Member must have {what} greater than or equal to {shape.minimum}"
            self._violations.append(_Violation(path, constraint, shown))
        if shape.maximum is not None and number > shape.maximum:
            constraint = f"Member must have {what} less than or equal to {shape.maximum}"
            self._violations.append(_Violation(path, constraint, shown))


def _join(path: str, name: str) -> str:
    """AWS writes members with a small letter in these messages, whatever their case in the request."""
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _checked_text(text: str, path: str) -> str:
    """JSON can write half a character (`"\\ud800"`), which no database and no answer can hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            _malformed(f"the text at '{path}' is not Unicode")
    return text


_TYPES = ((bool, "BOOLEAN"), (int | float, "NUMBER"), (str, "STRING"), (list, "LIST"), (dict, "STRUCTURE"))


def _wrong_type(given: Any, wanted: str, path: str) -> NoReturn:
    kind = next((name for type_, name in _TYPES if isinstance(given, type_)), "NULL")
    where = f" at '{path}'" if path else ""
    _malformed(f"{kind}_VALUE can not be converted to {wanted}{where}")
