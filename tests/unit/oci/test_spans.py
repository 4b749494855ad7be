"""What has arrived of a body, as spans: held against a set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pullthrough.oci.spans import Spans

PIECES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20)


def spans_of(pieces: list[tuple[int, int]]) -> tuple[Spans, set[int]]:
    spans, numbers = Spans(), set[int]()
    for start, stop in pieces:
        spans = spans.add(start, stop)
        numbers |= set(range(start, stop))
    return spans, numbers


@given(PIECES)
def test_they_hold_what_was_added_whatever_the_order(pieces: list[tuple[int, int]]) -> None:
    spans, numbers = spans_of(pieces)
    assert {number for start, stop in spans.spans for number in range(start, stop)} == numbers
    assert spans.size_bytes == len(numbers)
    assert spans.end == max(numbers, default=-1) + 1
    edges = [edge for span in spans.spans for edge in span]
    assert edges == sorted(set(edges)), "sorted, and none touches the next"


@given(PIECES, st.integers(0, 70))
def test_bytes_are_here_up_to_the_first_gap(pieces: list[tuple[int, int]], offset: int) -> None:
    spans, numbers = spans_of(pieces)
    end = offset
    while end in numbers:
        end += 1
    assert spans.end_from(offset) == end


def test_the_first_bytes_are_one_span() -> None:
    assert Spans.of_first(7) == Spans().add(0, 3).add(3, 7)
    assert Spans.of_first(0) == Spans()
