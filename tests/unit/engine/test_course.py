"""What to do about a body on its way in, told what was seen of it: no file, no clock, no loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.engine.pull.fills.course import HOLD_BACK_BYTES, Course, LookAgain, Next
from pullthrough.errors import BlobUnknown, UpstreamDenied, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.oci.spans import Spans
from pullthrough.storage.bodies import Sight, State, Told
from tests.owners import OWNER
from tests.unit.engine.house import OTHER

SIZE = 200_000
FILLING = Told(OWNER, total_bytes=SIZE, attempt="one")
#: Another worker leads, and has written half of it.
FOLLOWED = Sight(
    leads=False, is_current=True, is_published=False, arrived=Spans.of_first(SIZE // 2), told=FILLING, is_sound=True
)
#: Nobody did; this worker does now.
LED = replace(FOLLOWED, leads=True)


def course() -> Course:
    return Course(digest_of(b"x"), OWNER, "r.example", None)


def test_what_nobody_leads_is_led_from_what_is_there() -> None:
    mine = course()
    assert mine.seen(LED) is Next.LEAD
    assert mine.may_continue(LED)
    assert not mine.follows


@pytest.mark.parametrize(
    "left", [replace(LED, is_sound=False), replace(LED, told=None), replace(LED, told=replace(FILLING, owner=OTHER))]
)
def test_what_cannot_be_trusted_is_begun_again_unless_readers_have_it(left: Sight) -> None:
    mine = course()
    assert not mine.may_continue(left)
    assert mine.may_continue(replace(left, arrived=Spans()))
    mine.seen(FOLLOWED)
    with pytest.raises(UpstreamUnavailable, match="cannot go on"):
        mine.may_continue(left)


def test_who_follows_takes_over_size_and_bytes() -> None:
    mine = course()
    assert mine.seen(FOLLOWED) is Next.FOLLOW
    assert (mine.follows, mine.size_bytes, mine.arrived) == (True, SIZE, FOLLOWED.arrived)


def test_a_failure_is_believed_only_of_an_attempt_that_was_seen() -> None:
    failed = Told(OWNER, State.FAILED, error={"type": "UpstreamDenied", "message": "no"}, attempt="one")
    mine = course()
    assert mine.seen(replace(FOLLOWED, told=failed)) is Next.FOLLOW
    mine.seen(FOLLOWED)
    with pytest.raises(UpstreamDenied, match="no"):
        mine.seen(replace(FOLLOWED, told=failed))


def test_a_verified_body_is_one_of_the_size_that_was_told() -> None:
    mine = course()
    verified = Told(OWNER, State.VERIFIED, total_bytes=SIZE, attempt="one")
    mine.seen(replace(FOLLOWED, told=verified))
    assert not mine.is_verified
    mine.seen(replace(FOLLOWED, told=verified, arrived=Spans.of_first(SIZE)))
    assert mine.is_verified
    assert mine.visible_end(0) == SIZE


def test_what_was_given_up_is_opened_anew_unless_readers_have_bytes_of_it() -> None:
    gone = replace(LED, is_current=False, told=None)
    mine = course()
    assert mine.seen(gone) is Next.ANOTHER
    mine.seen(FOLLOWED)
    with pytest.raises(UpstreamUnavailable, match="ended in another worker"):
        mine.seen(gone)


def test_what_is_published_has_ended_if_anything_of_it_was_seen() -> None:
    done = replace(FOLLOWED, is_published=True, is_current=False, arrived=Spans.of_first(SIZE))
    with pytest.raises(LookAgain):
        course().seen(replace(done, told=None))
    mine = course()
    mine.seen(FOLLOWED)
    assert mine.seen(done) is Next.ENDED
    assert (mine.is_verified, mine.size_bytes) == (True, SIZE)


@given(st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8), st.integers(0, SIZE))
def test_the_newest_bytes_are_held_back_until_the_digest_matches(pieces: list[tuple[int, int]], offset: int) -> None:
    """Also where they come in several parts at once."""
    mine = course()
    for start, stop in pieces:
        mine.wrote(start, stop)
    end = mine.visible_end(offset)
    assert end == offset or end <= mine.arrived.end - HOLD_BACK_BYTES
    assert end <= mine.arrived.end_from(offset)
    mine.verified(Spans.of_first(SIZE))
    assert mine.visible_end(offset) == SIZE


def test_a_failure_takes_nothing_from_who_has_all_of_it() -> None:
    mine = course()
    mine.verified(Spans.of_first(SIZE))
    mine.failed(BlobUnknown("too late"))
    assert mine.error is None
    late = course()
    late.failed(BlobUnknown("gone"))
    assert late.is_over
