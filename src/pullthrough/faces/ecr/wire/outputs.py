"""From a handler's output to the body of an answer, by the operation's output shape.

A member that the model does not have, or a value of another type, is a mistake of the handler: OutputMismatch, which
tests find.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from pullthrough.faces.ecr.wire.models import Operation, Shape, ShapeType

#: https://www.w3.org/TR/xml/#charsets
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


_MANY_ITEMS = 50
#: In characters.
_MUCH_TEXT = 64 * 1024


class OutputMismatch(TypeError):
    """A handler's output is not what the service's model says. Names the place, never a value."""


def is_large(output: Mapping[str, Any]) -> bool:
    """Whether writing it would hold the event loop up for more than a millisecond or so: long pages, and manifests."""
    for value in output.values():
        if isinstance(value, list | tuple):
            if len(value) > _MANY_ITEMS:
                return True
            mappings = (item for item in value if isinstance(item, Mapping))
            if sum(len(text) for item in mappings for text in item.values() if isinstance(text, str)) > _MUCH_TEXT:
                return True
    return False


def json_output(operation: Operation, output: Mapping[str, Any]) -> bytes:
    document = _json(operation.output, output, operation.name) if operation.output else {}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _json(shape: Shape, value: Any, path: str) -> Any:
    """What json.dumps takes. Members that are None are left out, as AWS leaves out what is not set."""
    match shape.kind:
        case ShapeType.STRUCTURE:
            return {
                # Most members are strings: a call for each would be half the cost of a page.
                name: item
                if member.kind is ShapeType.STRING and type(item) is str
                else _json(member, item, f"{path}.{name}")
                for name, member, item in _set_members(shape, value, path)
            }
        case ShapeType.LIST:
            assert shape.item is not None
            _check(isinstance(value, list | tuple), path, shape)
            return [_json(shape.item, item, path) for item in value]
        case ShapeType.MAP:
            assert shape.item is not None
            _check(isinstance(value, Mapping), path, shape)
            return {str(key): _json(shape.item, item, path) for key, item in value.items()}
        case ShapeType.STRING:
            _check(isinstance(value, str), path, shape)
            return value
        case ShapeType.BLOB:
            _check(isinstance(value, bytes), path, shape)
            return base64.b64encode(value).decode()
        case ShapeType.BOOLEAN:
            _check(isinstance(value, bool), path, shape)
            return value
        case ShapeType.INTEGER | ShapeType.LONG:
            _check(isinstance(value, int) and not isinstance(value, bool), path, shape)
            return value
        case ShapeType.FLOAT | ShapeType.DOUBLE | ShapeType.TIMESTAMP:
            _check(isinstance(value, int | float) and not isinstance(value, bool), path, shape)
            # Seconds since 1970; AWS's own have milliseconds.
            return round(value, 3) if shape.kind is ShapeType.TIMESTAMP else value


def xml_output(operation: Operation, output: Mapping[str, Any], namespace: str, request_id: str) -> bytes:
    """The query protocol's answer.

    https://smithy.io/2.0/aws/protocols/aws-query-protocol.html#response-serialization
    """
    assert operation.output is not None
    assert operation.result_wrapper is not None
    answer = f"{operation.name}Response"
    result = _xml(operation.output, output, operation.name)
    return (
        f'<{answer} xmlns="{escape(namespace)}"><{operation.result_wrapper}>{result}</{operation.result_wrapper}>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{answer}>"
    ).encode()


def _xml(shape: Shape, value: Any, path: str) -> str:
    """Strings and structures, which is all that the operations of this protocol answer here."""
    if shape.kind is ShapeType.STRUCTURE:
        return "".join(
            f"<{name}>{_xml(member, item, f'{path}.{name}')}</{name}>"
            for name, member, item in _set_members(shape, value, path)
        )
    _check(shape.kind is ShapeType.STRING and isinstance(value, str), path, shape)
    return xml_text(value)


def xml_text(text: str) -> str:
    """Escaped, and without the characters that XML 1.0 cannot hold at all."""
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _set_members(shape: Shape, value: Any, path: str) -> Iterator[tuple[str, Shape, Any]]:
    _check(isinstance(value, Mapping), path, shape)
    for name, item in value.items():
        member = shape.members.get(name)
        if member is None:
            raise OutputMismatch(f"{path} has no member {name} in the service's model")
        if item is not None:
            yield name, member, item


def _check(fits: bool, path: str, shape: Shape) -> None:
    if not fits:
        raise OutputMismatch(f"{path} should be a {shape.kind} ({shape.name})")
