"""Lists as they are kept: every page and every filter is what parsing the whole would give."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pullthrough.oci.lists import (
    Page,
    dump_referrers,
    dump_tags,
    page_of_tags,
    parse_referrers,
    referrers_of_type,
    whole,
)

TAGS = st.lists(st.from_regex(r"[a-z0-9_][a-z0-9._-]{0,5}", fullmatch=True), max_size=30)
#: Texts that look like the beginning of an entry.
TRICKY = st.sampled_from(
    [
        "",
        "a",
        "b",
        '"',
        "\\",
        "{",
        "\n",
        ',\n{"artifactType":"a",',
        '},\n{"artifactType":"a",',
        "artifactType",
        "\ud800",
        "ü",
    ]
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"mediaType": TRICKY, "digest": st.just("sha256:0"), "size": st.integers(0, 9)},
        optional={"artifactType": TRICKY, "annotations": st.dictionaries(TRICKY, TRICKY, max_size=3)},
    ),
    max_size=8,
)


def parsed(page: Page) -> list[Any]:
    entries: list[Any] = json.loads(b"[" + bytes(page.entries) + b"]")
    return entries


@given(TAGS, st.one_of(st.text(max_size=4), st.from_regex(r"[a-z0-9_.-]{1,4}", fullmatch=True)), st.integers(0, 40))
def test_a_page_of_tags_is_the_part_of_the_sorted_list(tags: list[str], after: str, most: int) -> None:
    body, above = dump_tags(tags), [tag for tag in sorted(set(tags)) if tag > after]
    assert parsed(whole(body)) == sorted(set(tags))
    assert parsed(page_of_tags(body, after=after)) == above
    page = page_of_tags(body, after=after, most=most)
    assert parsed(page) == above[:most]
    assert page.last == (above[most - 1] if 0 < most < len(above) else "")


@given(TAGS, st.integers(1, 7))
def test_pages_one_after_the_other_are_the_whole(tags: list[str], most: int) -> None:
    body, found, last = dump_tags(tags), [], ""
    while True:
        page = page_of_tags(body, after=last, most=most)
        found += parsed(page)
        if not (last := page.last):
            break
    assert found == sorted(set(tags))


@given(ENTRIES, TRICKY)
@example([{"artifactType": "", "size": 0}, {"size": 0}, {"artifactType": "", "size": 1}, {"size": 1}], "")
def test_the_referrers_of_a_type_are_those_that_say_so(entries: list[dict[str, Any]], artifact_type: str) -> None:
    body = dump_referrers(entries)

    def in_order(some: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(entry, sort_keys=True) for entry in some)

    assert in_order(parsed(whole(body))) == in_order(parse_referrers(body)) == in_order(entries)
    wanted = [entry for entry in entries if entry.get("artifactType") == artifact_type]
    assert in_order(parsed(referrers_of_type(body, artifact_type))) == in_order(wanted)


def test_no_page_copies_the_list() -> None:
    body = dump_tags(str(number) for number in range(1000))
    assert page_of_tags(body, after="5", most=3).entries.obj is body
    assert whole(body).entries.obj is body


@pytest.mark.parametrize("most", [0, 1, 5, None])
def test_an_empty_list_has_empty_pages(most: int | None) -> None:
    assert page_of_tags(dump_tags([]), after="a", most=most) == Page(memoryview(b""))
    assert page_of_tags(dump_tags([]), most=most) == Page(memoryview(b""))
