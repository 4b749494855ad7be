"""Conditions of policy statements: operators over what is known of a request. No I/O.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
A key that is not there does not match; negated operators, `...IfExists` and `ForAllValues:` hold without it, and
`ForAnyValue:` never does.

Nothing here may permit more than AWS would. So a condition on something that the engine does not know is refused if it would
make a Deny never apply, or an Allow always. Where nobody can say whether a condition holds, it holds for a Deny, and does not
for an Allow.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pullthrough.access.policy.context import Context, has_many_values, is_always_there, is_known, is_resource_tag
from pullthrough.access.policy.globs import literally, matches

#: Whether a value of the request is what a value of the policy asks for. Raises ValueError where one of them makes no
#: sense to the operator.
Compare = Callable[[str, str], bool]

#: Keys of tags may have spaces, and letters of all scripts.
_KEY = re.compile(r"[A-Za-z0-9-]+:[^\x00-\x1f\x7f]+")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
#: Variables that stand for themselves: `${*}` is a star that is not wild.
_SPECIAL = ("*", "?", "$")
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
    #: Whether the policy's values may have wildcards.
    has_wildcards: bool = False


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
    "StringLike": _Operator(_like, has_wildcards=True),
    "StringNotLike": _Operator(_like, negated=True, has_wildcards=True),
    "ArnEquals": _Operator(_arn_like, False, "arn:aws:iam::0:root", has_wildcards=True),
    "ArnLike": _Operator(_arn_like, False, "arn:aws:iam::0:root", has_wildcards=True),
    "ArnNotEquals": _Operator(_arn_like, True, "arn:aws:iam::0:root", has_wildcards=True),
    "ArnNotLike": _Operator(_arn_like, True, "arn:aws:iam::0:root", has_wildcards=True),
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
_IF_EXISTS = "IfExists"


class _Over(StrEnum):
    """What is asked of a key's values, by the prefix of the operator."""

    ONE = ""
    ALL = "ForAllValues:"
    ANY = "ForAnyValue:"


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator and key of a statement; all of a statement's must hold."""

    #: None is the operator Null: `values` say whether the key must be absent.
    operator: _Operator | None
    over: _Over
    if_exists: bool
    #: Lower case.
    key: str
    values: tuple[str, ...]

    @property
    def holds_without(self) -> bool:
        """Whether it holds where the request does not have the key."""
        if self.operator is None:
            return "true" in self.values
        # IfExists looks at one value after the other, of which ForAnyValue has none then.
        return self.over is not _Over.ANY and (self.if_exists or self.over is _Over.ALL or self.operator.negated)

    @property
    def asks_for_resource_tags(self) -> bool:
        return is_resource_tag(self.key) or any(asks_for_resource_tags(value) for value in self.values)

    def holds(self, context: Context, *, denies: bool, variables: bool) -> bool:
        """`denies` is the answer where nobody can say."""
        given = context.get(self.key, ())
        if not given:
            return denies if is_always_there(self.key) else self.holds_without
        if self.operator is None:
            return "false" in self.values if any(given) else denies
        each = (self._holds_for(value, context, self.operator, denies=denies, variables=variables) for value in given)
        match self.over:
            case _Over.ANY:
                return any(each) and (denies or any(given))  # AWS takes empty values for none at all
            case _Over.ALL:
                return all(each) or (denies and not any(given))
            case _Over.ONE:
                # Tags whose keys differ in case only: which of their values counts is nowhere said.
                return any(each) if denies else all(each)

    def _holds_for(self, given: str, context: Context, operator: _Operator, *, denies: bool, variables: bool) -> bool:
        unclear = False
        for value in self.values:
            try:
                wanted = substitute(value, context, is_pattern=operator.has_wildcards) if variables else value
                if wanted is not None and operator.compare(given, wanted):
                    return not operator.negated
            except ValueError:
                unclear = True  # one of them makes no sense to the operator
        return denies if unclear else operator.negated


def parse_conditions(block: object, *, denies: bool, variables: bool) -> tuple[tuple[Condition, ...], list[str]]:
    """The conditions of a statement, and a sentence for each part that is not known here and does no harm.

    Raises ValueError. All sentences continue "the Condition of statement 1".
    """
    if not isinstance(block, dict):
        raise ValueError("is not a JSON object")
    conditions: list[Condition] = []
    unknown: list[str] = []
    for name, keys in block.items():
        for key, value in _keys(name, keys).items():
            condition = _condition(name, key, value)
            conditions.append(condition)
            if not is_known(condition.key):
                what = f"has the key {key[:200]!r}, which this engine does not know"
                unknown.append(_harmless(what, without=condition.holds_without, denies=denies))
            if variables and condition.operator is not None:
                for text in condition.values:
                    unknown += check_variables(text, without=condition.operator.negated, denies=denies)
    return tuple(conditions), unknown


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
    if name == "Null":
        if any(entry.lower() not in ("true", "false") for entry in values):
            raise ValueError(f"has a value for Null of {key[:80]} that is neither true nor false")
        return Condition(None, _Over.ONE, False, key.lower(), tuple(entry.lower() for entry in values))
    over = next(prefix for prefix in (_Over.ALL, _Over.ANY, _Over.ONE) if name.startswith(prefix))
    plain = name.removeprefix(over)
    operator = _OPERATORS.get(plain.removesuffix(_IF_EXISTS))
    if operator is None:
        raise ValueError(f"has the operator {name[:80]!r}, which does not exist")
    if over is _Over.ONE and has_many_values(key.lower()):
        raise ValueError(f"has {name[:80]} of {key}, which has many values: {_Over.ALL} or {_Over.ANY} goes before it")
    for entry in values:
        if _VARIABLE.search(entry) is None:
            _try(operator, entry, name, key)
    return Condition(operator, over, plain.endswith(_IF_EXISTS), key.lower(), values)


def _try(operator: _Operator, value: str, name: str, key: str) -> None:
    try:
        operator.compare(operator.sample, value)
    except ValueError as error:
        raise ValueError(f"has a value for {name[:80]} of {key[:80]} that is wrong: {value[:80]!r} {error}") from None


# --- variables -------------------------------------------------------------------------------------------------------
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html


def substitute(text: str, context: Context, *, is_pattern: bool) -> str | None:
    """The text with its variables, such as `${aws:username}`, filled in; None where one has no value.

    What is filled in has no wildcards. Raises ValueError where a value should be there, or there are several.
    """
    if "${" not in text:
        return text
    missing = False

    def fill(match: re.Match[str]) -> str:
        nonlocal missing
        name, default = _variable(match)
        values = (name,) if name in _SPECIAL else context.get(name, ())
        if len(values) > 1 or (not values and is_always_there(name)):
            raise ValueError("has a variable whose value is not clear")
        if not values and default is None:
            missing = True
            return ""
        value = values[0] if values else default or ""
        return literally(value) if is_pattern else value

    filled = _VARIABLE.sub(fill, text)
    return None if missing else filled


def check_variables(text: str, *, without: bool, denies: bool) -> list[str]:
    """A sentence for each variable that is not known here and does no harm. Raises ValueError; see `parse_conditions`.

    `without`: whether the element applies where a variable has no value.
    """
    if "${" in _VARIABLE.sub("", text):
        raise ValueError(f"has a variable that does not end: {text[:200]!r}")
    unknown = []
    for match in _VARIABLE.finditer(text):
        name, default = _variable(match)
        if name not in _SPECIAL and (not is_known(name) or has_many_values(name)):
            what = f"has the variable {match[0][:200]!r}, which this engine does not know"
            # A default would be the value of everybody.
            unknown.append(_harmless(what, without=without if default is None else not denies, denies=denies))
    return unknown


def asks_for_resource_tags(text: str) -> bool:
    """By its variables."""
    return any(is_resource_tag(_variable(match)[0]) for match in _VARIABLE.finditer(text))


def _variable(match: re.Match[str]) -> tuple[str, str | None]:
    """A variable's name, which is a key in lower case, and its default."""
    name, comma, default = match[1].partition(",")
    return name.strip().lower(), default.strip().strip("'") if comma else None


def _harmless(what: str, *, without: bool, denies: bool) -> str:
    """The sentence for something that is ignored. Raises ValueError where to ignore it permits more than AWS would."""
    if without is denies:
        return f"{what}: it counts as not there, and the condition {'always' if without else 'never'} holds"
    effect = "this Deny would never apply" if denies else "this Allow would allow more than it says"
    raise ValueError(f"{what}, so that {effect} (the page Security of the documentation lists what is known)")
