"""Documents of which only a part is ours: whatever is not stays, in a policy to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import PlanProblem
from pullthrough.provision.planning.merging import merge_filters, merge_statements

OURS: list[dict[str, Any]] = [
    {"Sid": "Ours1", "Effect": "Allow"},
    {"Sid": "Ours2", "Action": ["ecr:CreateRepository", "ü]}"]},
]
CHANGED: list[dict[str, Any]] = [{"Sid": "Ours1", "Effect": "Deny"}]


def is_ours(sid: object) -> bool:
    return sid in ("Ours1", "Ours2")


# JSON as others may write it

_white = st.text(alphabet=" \t\n\r", max_size=3)
_texts = st.text(max_size=6) | st.sampled_from(['{"Sid": "Ours1"}', "]", "}", ",", '\\"', "Statement"])


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """The value as a JSON text, with white space wherever it may be, and letters as they are or escaped."""
    before, behind = draw(_white), draw(_white)
    if isinstance(value, dict):
        parts = [f"{draw(written(name))}:{draw(written(entry))}" for name, entry in value.items()]
        inside = f"{{{','.join(parts) or draw(_white)}}}"
    elif isinstance(value, list):
        inside = f"[{','.join(draw(written(entry)) for entry in value) or draw(_white)}]"
    else:
        inside = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return f"{before}{inside}{behind}"


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_statements = st.dictionaries(st.sampled_from(["Effect", "Action", "Principal", "Resource"]), _values, max_size=3)
_theirs = st.lists(_statements, min_size=1, max_size=3) | _statements


@st.composite
def policies(draw: st.DrawFn) -> str:
    around = draw(st.dictionaries(st.sampled_from(["Version", "Id", "More"]), _values, max_size=3))
    names = [*around, "Statement"]
    policy = {**around, "Statement": draw(_theirs)}
    order = draw(st.permutations(names))
    return draw(written({name: policy[name] for name in order}))


def listed(statement: Any) -> list[Any]:
    return statement if isinstance(statement, list) else [statement]


@given(policies(), st.sampled_from([OURS, OURS[:1], CHANGED]))
def test_what_is_put_in_and_taken_out_leaves_the_text_as_it_was(text: str, wanted: list[dict[str, Any]]) -> None:
    merged = merge_statements(text, is_ours, wanted)
    theirs, after = json.loads(text), json.loads(merged)
    assert [entry for entry in after["Statement"] if is_ours(entry.get("Sid"))] == wanted
    assert [entry for entry in after["Statement"] if not is_ours(entry.get("Sid"))] == listed(theirs["Statement"])
    assert {**after, "Statement": 0} == {**theirs, "Statement": 0}
    assert merge_statements(merged, is_ours, []) == text


@given(policies())
def test_ours_are_replaced_as_if_they_had_never_been_there(text: str) -> None:
    merged = merge_statements(text, is_ours, OURS)
    assert merge_statements(merged, is_ours, OURS) == merged
    assert merge_statements(merged, is_ours, CHANGED) == merge_statements(text, is_ours, CHANGED)


@given(policies())
def test_a_policy_without_ours_stays_as_it_is(text: str) -> None:
    assert merge_statements(text, is_ours, []) == text


@given(policies(), st.integers(0, 3))
def test_theirs_keep_their_bytes_wherever_ours_stand(text: str, at: int) -> None:
    """Somebody may have moved our statements."""
    policy = json.loads(text)
    theirs = listed(policy["Statement"])
    policy["Statement"] = [*theirs[:at], OURS[0], *theirs[at:], OURS[1]]
    merged = json.loads(merge_statements(json.dumps(policy), is_ours, CHANGED))
    assert [entry for entry in merged["Statement"] if not is_ours(entry.get("Sid"))] == theirs
    assert [entry for entry in merged["Statement"] if is_ours(entry.get("Sid"))] == CHANGED


def test_without_a_policy_ours_make_one_and_take_it_with_them() -> None:
    text = merge_statements("", is_ours, OURS)
    assert json.loads(text) == {"Version": "2012-10-17", "Statement": OURS}
    assert merge_statements(text, is_ours, []) == ""
    assert merge_statements("", is_ours, []) == ""


def test_an_only_statement_without_brackets_may_be_ours() -> None:
    text = json.dumps({"Statement": OURS[0]})
    assert merge_statements(text, is_ours, []) == ""
    assert json.loads(merge_statements(text, is_ours, CHANGED)) == {"Statement": CHANGED}


def test_a_statement_that_others_added_behind_ours_keeps_its_brackets() -> None:
    text = json.dumps({"Statement": [OURS[0], {"Sid": "Theirs"}]})
    assert merge_statements(text, is_ours, []) == '{"Statement": [{"Sid": "Theirs"}]}'


@pytest.mark.parametrize(
    "text", ["x", "[]", "{}", '{"Statement": 1}', '{"Statement": [', '{"Statement"', "{", " ", '"', "[" * 100_000]
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PlanProblem, match="is no JSON object with statements"):
        merge_statements(text, is_ours, OURS)


# Scanning

FREQUENCIES = ("SCAN_ON_PUSH", "CONTINUOUS_SCAN")
_entries = st.sets(
    st.sampled_from([f"{frequency} {text}" for frequency in FREQUENCIES for text in ("a/*", "b/*", "*")])
)


@st.composite
def configurations(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [
        {
            "scanFrequency": frequency,
            "repositoryFilters": [
                {"filter": text, "filterType": "WILDCARD"}
                for text in draw(st.lists(st.sampled_from(["a/*", "c", "d*"]), unique=True))
            ],
        }
        for frequency in draw(st.lists(st.sampled_from(FREQUENCIES), unique=True))
    ]


def entries_of(rules: list[dict[str, Any]]) -> set[str]:
    return {f"{rule['scanFrequency']} {entry['filter']}" for rule in rules for entry in rule["repositoryFilters"]}


@given(configurations(), _entries)
def test_filters_that_are_added_and_removed_leave_the_configuration_as_it_was(
    rules: list[dict[str, Any]], wanted: set[str]
) -> None:
    there = {rule["scanFrequency"] for rule in rules}
    added = sorted(wanted - entries_of(rules))
    own = {*added, *({entry.partition(" ")[0] for entry in added} - there)}
    merged = merge_filters(rules, add=sorted(own), remove=[], own=[])
    assert entries_of(merged) == entries_of(rules) | wanted
    assert merge_filters(merged, add=[], remove=added, own=own) == rules
    assert merge_filters(merged, add=sorted(own), remove=[], own=own) == merged
