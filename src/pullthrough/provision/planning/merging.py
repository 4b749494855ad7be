"""The registry's two documents, of which only a part is ours: its policy and its scanning configuration. Pure.

Everything else stays, in the policy to the byte: our statements are cut out of its text and put in behind the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from pullthrough.errors import PlanProblem

_DECODER = json.JSONDecoder()
_WHITE = " \t\n\r"


class _Span(NamedTuple):
    """A value of a JSON text, from its first character to the one behind its last."""

    start: int
    end: int
    value: Any


def merge_statements(text: str, is_ours: Callable[[object], bool], wanted: Iterable[Mapping[str, Any]]) -> str:
    """The policy with our statements, told by their `Sid`, taken out and `wanted` put in behind the others.

    Empty where no statement is left, and the policy is to go. Raises PlanProblem for a text that is no policy.
    """
    wanted = list(wanted)
    if not text:
        return json.dumps({"Version": "2012-10-17", "Statement": wanted}) if wanted else ""
    statement = _statement_of(text)
    if isinstance(statement.value, dict):
        if not is_ours(statement.value.get("Sid")):
            return _bracketed(text, statement, wanted)
        text = f"{text[: statement.start]}[{text[statement.start : statement.end]}]{text[statement.end :]}"
        statement = _statement_of(text)
    elements = _elements(text, statement)
    ours = [span for span in elements if isinstance(span.value, dict) and is_ours(span.value.get("Sid"))]
    others = [span for span in elements if span not in ours]
    if not others and not wanted:
        return ""
    if not ours and not wanted:
        return text
    if len(others) == 1 and ours and _is_bracketed(text, statement, others[0]):
        bare = f"{text[: statement.start]}{text[others[0].start : others[0].end]}{text[statement.end :]}"
        return _bracketed(bare, _statement_of(bare), wanted)
    for span in reversed(ours):
        text = _without(text, elements, span)
        elements = _elements(text, _statement_of(text))
    for document in wanted:
        statement = _statement_of(text)
        elements = _elements(text, statement)
        at = elements[-1].end if elements else statement.start + 1
        text = f"{text[:at]}{', ' if elements else ''}{json.dumps(document)}{text[at:]}"
    return text


def _bracketed(text: str, statement: _Span, wanted: list[Mapping[str, Any]]) -> str:
    """The policy whose only statement stands without brackets, with ours: before it, so that it can be told later."""
    if not wanted:
        return text
    ours = ", ".join(map(json.dumps, wanted))
    return f"{text[: statement.start]}[ {ours}, {text[statement.start : statement.end]} ]{text[statement.end :]}"


def _is_bracketed(text: str, statement: _Span, only: _Span) -> bool:
    """Whether the brackets were put there by `_bracketed`; others write neither these spaces nor ours first."""
    ours_first = text.startswith("[ {", statement.start) and only.start > statement.start + len("[ ")
    return ours_first and text[only.end : statement.end] == " ]"


def _without(text: str, elements: list[_Span], span: _Span) -> str:
    """The text without one element of an array, and the comma that parted it from its neighbour."""
    index = elements.index(span)
    if index > 0:
        return text[: elements[index - 1].end] + text[span.end :]
    if len(elements) > 1:
        return text[: span.start] + text[elements[1].start :]
    return text[: span.start] + text[span.end :]


def _statement_of(text: str) -> _Span:
    try:
        position = _skip(text, 0)
        if text[position] != "{":
            raise ValueError("not an object")
        position = _skip(text, position + 1)
        while text[position] != "}":
            name, position = _DECODER.raw_decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
            value, end = _DECODER.raw_decode(text, position)
            if name == "Statement" and isinstance(value, (dict, list)):
                return _Span(position, end, value)
            position = _skip(text, end)
            position = _skip(text, position + 1) if text[position] == "," else position
    except (ValueError, IndexError, RecursionError):
        pass
    raise PlanProblem(
        "the registry's policy is no JSON object with statements, so that nothing can be put into it or taken out",
        hint="`aws ecr get-registry-policy` shows it",
    )


def _elements(text: str, array: _Span) -> list[_Span]:
    spans = []
    position = _skip(text, array.start + 1)
    while text[position] != "]":
        value, end = _DECODER.raw_decode(text, position)
        spans.append(_Span(position, end, value))
        position = _skip(text, end)
        position = _skip(text, position + 1) if text[position] == "," else position
    return spans


def _skip(text: str, position: int) -> int:
    while text[position] in _WHITE:
        position += 1
    return position


def merge_filters(
    rules: Iterable[Mapping[str, Any]], *, add: Collection[str], remove: Collection[str], own: Collection[str]
) -> list[dict[str, Any]]:
    """The rules of a scanning configuration with filters added and removed.

    Entries are `SCAN_ON_PUSH docker-hub/*`. A frequency alone in `own` is a rule that was made for such filters: it goes
    with its last one.
    """
    merged = [{**rule, "repositoryFilters": list(rule["repositoryFilters"])} for rule in rules]
    for entry in remove:
        frequency, _, text = entry.partition(" ")
        for rule in merged:
            if rule["scanFrequency"] == frequency:
                rule["repositoryFilters"] = [kept for kept in rule["repositoryFilters"] if kept["filter"] != text]
    for entry in add:
        frequency, _, text = entry.partition(" ")
        rule = next((rule for rule in merged if rule["scanFrequency"] == frequency), {})
        if not rule:
            rule = {"scanFrequency": frequency, "repositoryFilters": []}
            merged.append(rule)
        if text and all(there["filter"] != text for there in rule["repositoryFilters"]):
            rule["repositoryFilters"].append({"filter": text, "filterType": "WILDCARD"})
    return [rule for rule in merged if rule["repositoryFilters"] or rule["scanFrequency"] not in own]
