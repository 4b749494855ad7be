"""Conditions of policy statements: operators over what is known of a request. No I/O.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
A key that is not known of a request does not match; negated operators, `...IfExists` and `ForAllValues:` hold without it.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pullthrough.access.globs import matches

#: What is known of a request: lower-case key -> value. Truth is `true` or `false`, times are ISO 8601.
Context = Mapping[str, str]

#: Whether a value of the request is what a value of the policy asks for. Raises ValueError where one of them makes no
#: sense to the operator.
Compare = Callable[[str, str], bool]

_KEY = re.compile(r"[A-Za-z0-9-]+:[\x21-\x7e]+", re.ASCII)
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


def _same_text(given: str, wanted: str) -> bool:
    return given == wanted


def _same_text_any_case(given: str, wanted: str) -> bool:
    return given.casefold() == wanted.casefold()


def _like(given: str, wanted: str) -> bool:
    return matches(wanted, given)


def _arn_like(given: str, wanted: str) -> bool:
    """Part by part: a wildcard does not reach over a colon, but in the last part."""
    parts, patterns = given.split(":", 5), wanted.split(":", 5)
    if len(patterns) != 6 and wanted != "*":
        raise ValueError("is not an ARN")
    return wanted == "*" or (
        len(parts) == 6 and all(matches(pattern, part) for pattern, part in zip(patterns, parts, strict=True))
    )


def _in_network(given: str, wanted: str) -> bool:
    network = ipaddress.ip_network(wanted, strict=False)
    address = ipaddress.ip_address(given)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in network


def _same_truth(given: str, wanted: str) -> bool:
    if wanted.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return given.lower() == wanted.lower()


def _same_bytes(given: str, wanted: str) -> bool:
    return base64.b64decode(given, validate=True) == base64.b64decode(wanted, validate=True)


def _number(text: str) -> float:
    if re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text, re.ASCII) is None:
        raise ValueError("is not a number")
    return float(text)


def _date(text: str) -> float:
    """Seconds since 1970, from ISO 8601 or from such seconds."""
    if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        return float(text)
    if _DATE.fullmatch(text) is None:
        raise ValueError("is not a date such as 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date such as 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _ordered(read: Callable[[str], float], holds: Callable[[float, float], bool]) -> Compare:
    def compare(given: str, wanted: str) -> bool:
        limit = read(wanted)
        return holds(read(given), limit)

    return compare


@dataclass(frozen=True, slots=True)
class _Operator:
    compare: Compare
    #: Holds where the comparison does not.
    negated: bool = False
    #: A value of a request that this accepts, to try a policy's values with.
    sample: str = ""


_ORDERS: Mapping[str, tuple[Callable[[float, float], bool], bool]] = {
    "Equals": (lambda given, wanted: given == wanted, False),
    "NotEquals": (lambda given, wanted: given == wanted, True),
    "LessThan": (lambda given, wanted: given < wanted, False),
    "LessThanEquals": (lambda given, wanted: given <= wanted, False),
    "GreaterThan": (lambda given, wanted: given > wanted, False),
    "GreaterThanEquals": (lambda given, wanted: given >= wanted, False),
}
_OPERATORS: Mapping[str, _Operator] = {
    "StringEquals": _Operator(_same_text),
    "StringNotEquals": _Operator(_same_text, negated=True),
    "StringEqualsIgnoreCase": _Operator(_same_text_any_case),
    "StringNotEqualsIgnoreCase": _Operator(_same_text_any_case, negated=True),
    "StringLike": _Operator(_like),
    "StringNotLike": _Operator(_like, negated=True),
    "ArnEquals": _Operator(_arn_like, sample="arn:aws:iam::0:root"),
    "ArnLike": _Operator(_arn_like, sample="arn:aws:iam::0:root"),
    "ArnNotEquals": _Operator(_arn_like, negated=True, sample="arn:aws:iam::0:root"),
    "ArnNotLike": _Operator(_arn_like, negated=True, sample="arn:aws:iam::0:root"),
    "Bool": _Operator(_same_truth, sample="true"),
    "BinaryEquals": _Operator(_same_bytes),
    "IpAddress": _Operator(_in_network, sample="0.0.0.0"),
    "NotIpAddress": _Operator(_in_network, negated=True, sample="0.0.0.0"),
    **{
        f"Numeric{name}": _Operator(_ordered(_number, holds), negated, "0")
        for name, (holds, negated) in _ORDERS.items()
    },
    **{f"Date{name}": _Operator(_ordered(_date, holds), negated, "0") for name, (holds, negated) in _ORDERS.items()},
}
_ALL, _ANY = "ForAllValues:", "ForAnyValue:"
_IF_EXISTS = "IfExists"


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator and key of a statement; all of a statement's must hold."""

    #: None is the operator Null: `values` say whether the key must be absent.
    operator: _Operator | None
    #: Lower case.
    key: str
    values: tuple[str, ...]
    #: Whether it holds where the request does not have the key.
    holds_without: bool

    def holds(self, context: Context, *, variables: bool) -> bool:
        given = context.get(self.key)
        if self.operator is None:
            return any((value == "true") is (given is None) for value in self.values)
        if given is None:
            return self.holds_without
        for value in self.values:
            wanted = substitute(value, context) if variables else value
            try:
                if wanted is not None and self.operator.compare(given, wanted):
                    return not self.operator.negated
            except ValueError:
                continue  # a value that only a variable could make senseless
        return self.operator.negated


def parse_conditions(block: object) -> tuple[Condition, ...]:
    """Raises ValueError with a sentence that continues "the Condition of statement 1"."""
    if not isinstance(block, dict):
        raise ValueError("is not a JSON object")
    return tuple(
        _condition(name, key, value) for name, keys in block.items() for key, value in _keys(name, keys).items()
    )


def _keys(name: str, keys: object) -> dict[str, object]:
    if not isinstance(keys, dict) or not keys:
        raise ValueError(f"has no keys for {name[:80]}")
    return keys


def _condition(name: str, key: str, value: object) -> Condition:
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"has the key {key[:80]!r}, which is not of the form aws:SourceIp")
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str | bool | int | float) for entry in entries):
        raise ValueError(f"has no text, or list of texts, for {key[:80]}")
    values = tuple(str(entry).lower() if isinstance(entry, bool) else str(entry) for entry in entries)
    plain = name.removeprefix(_ALL).removeprefix(_ANY).removesuffix(_IF_EXISTS)
    if name == "Null":
        if any(entry.lower() not in ("true", "false") for entry in values):
            raise ValueError(f"has a value for Null of {key[:80]} that is neither true nor false")
        return Condition(None, key.lower(), tuple(entry.lower() for entry in values), False)
    operator = _OPERATORS.get(plain)
    if operator is None or (name.startswith(_ALL) and name.removeprefix(_ALL).startswith(_ANY)):
        raise ValueError(f"has the operator {name[:80]!r}, which does not exist")
    for entry in values:
        if _VARIABLE.search(entry) is None:
            _try(operator, entry, name, key)
    holds_without = name.endswith(_IF_EXISTS) or name.startswith(_ALL) or operator.negated
    if name.startswith(_ANY) and not name.endswith(_IF_EXISTS):
        holds_without = False
    return Condition(operator, key.lower(), values, holds_without)


def _try(operator: _Operator, value: str, name: str, key: str) -> None:
    try:
        operator.compare(operator.sample, value)
    except ValueError as error:
        raise ValueError(f"has a value for {name[:80]} of {key[:80]} that is wrong: {value[:80]!r} {error}") from None


def substitute(text: str, context: Context) -> str | None:
    """The text with its variables, such as `${aws:username}`, filled in; None where one is not known.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    if "${" not in text:
        return text
    missing = False

    def fill(match: re.Match[str]) -> str:
        nonlocal missing
        name, comma, default = match[1].partition(",")
        name = name.strip()
        if name == "$":
            return name
        # ${*} and ${?}, a star and a question mark that are not wild, are of no name here: not known.
        value = context.get(name.lower())
        if value is None and comma:
            return default.strip().strip("'")
        missing = missing or value is None
        return value or ""

    filled = _VARIABLE.sub(fill, text)
    return None if missing else filled
