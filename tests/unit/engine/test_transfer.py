"""The blocking half of a fill, with upstreams that are plain objects: resuming, comparing, sizes, digests, full disks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullthrough.engine.pull.fills.receiving import MAX_ATTEMPTS, MAX_BARREN_ATTEMPTS, Receiving
from pullthrough.engine.pull.fills.transfer import Transfer
from pullthrough.errors import DigestMismatch, SizeMismatch, UpstreamInvalid, UpstreamUnavailable
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.spans import Spans
from pullthrough.storage.bodies import Told
from pullthrough.storage.files.blobs import writing
from tests.effort import examples

BODY = bytes(range(256)) * 40
DIGEST = digest_of(BODY)


@dataclass
class FakeBody:
    """Gives `data` in pieces, then ends or breaks off."""

    start: int
    total_bytes: int | None
    data: bytes
    breaks: bool = False
    etag: str = '"e"'
    piece: int = 100

    def readinto(self, buffer: memoryview, /) -> int:
        if not self.data:
            if self.breaks:
                raise UpstreamUnavailable("reset", upstream="r.example")
            return 0
        count = min(self.piece, len(buffer), len(self.data))
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def close(self) -> None:
        pass


@dataclass
class Upstream:
    """Answers each opening by the next function; counts them."""

    answers: list[Callable[[int], FakeBody]]
    starts: list[int] = field(default_factory=list)
    if_ranges: list[str] = field(default_factory=list)

    def __call__(self, start: int, if_range: str, /) -> FakeBody:
        self.starts.append(start)
        self.if_ranges.append(if_range)
        return self.answers[min(len(self.starts), len(self.answers)) - 1](start)


def whole(start: int) -> FakeBody:
    return FakeBody(start, len(BODY), BODY[start:])


def cut(after: int) -> Callable[[int], FakeBody]:
    return lambda start: FakeBody(start, len(BODY), BODY[start : start + after], breaks=True)


def failing(error: UpstreamUnavailable) -> Callable[[int], FakeBody]:
    def opening(start: int) -> FakeBody:
        raise error

    return opening


HUNG = failing(UpstreamUnavailable("no answer in time", upstream="r.example", is_silence=True))
DOWN = failing(UpstreamUnavailable("connection refused", upstream="r.example"))


@dataclass
class FileSink:
    """Writes to an open file, and tells nobody."""

    fd: int

    def arrived(self) -> Spans:
        return Spans.of_first(os.fstat(self.fd).st_size)

    def read(self, buffer: memoryview, position: int) -> int:
        return os.preadv(self.fd, [buffer], position)

    def write(self, data: memoryview, position: int) -> int:
        with writing():
            return os.pwrite(self.fd, data, position)

    def tell(self, told: Told) -> None: ...


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "partial", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def transfer(
    fd: int,
    upstream: Upstream,
    *,
    digest: Digest = DIGEST,
    expected: int | None = None,
    make_room: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    return Transfer(
        digest=digest,
        sink=FileSink(fd),
        upstream="r.example",
        open_body=upstream,
        expected_bytes=expected,
        stop=threading.Event(),
        progress=lambda _, stop: progress(stop),
        size_known=lambda _: None,
        make_room=make_room,
        wait=lambda _: False,
    ).run()


def content(fd: int) -> bytes:
    return os.pread(fd, len(BODY) * 2, 0)


def test_a_whole_body_costs_one_request(file: int) -> None:
    upstream = Upstream([whole])
    assert transfer(file, upstream) == len(BODY)
    assert (content(file), upstream.starts) == (BODY, [0])


def test_a_broken_transfer_goes_on_at_the_last_good_byte(file: int) -> None:
    upstream = Upstream([cut(1000), cut(500), whole])
    transfer(file, upstream)
    assert (content(file), upstream.starts) == (BODY, [0, 1000, 1500])
    assert upstream.if_ranges == ["", '"e"', '"e"']


def test_what_an_earlier_attempt_left_is_not_transferred_again(file: int) -> None:
    os.write(file, BODY[:3000])
    upstream = Upstream([whole])
    transfer(file, upstream)
    assert (content(file), upstream.starts) == (BODY, [3000])


def test_a_whole_leftover_only_needs_its_check(file: int) -> None:
    os.write(file, BODY)
    upstream = Upstream([whole])
    assert transfer(file, upstream, expected=len(BODY)) == len(BODY)
    assert upstream.starts == []


def test_an_upstream_that_does_not_resume_is_compared_and_never_truncates(file: int) -> None:
    sizes: list[int] = []
    upstream = Upstream([cut(1000), lambda _: FakeBody(0, len(BODY), BODY)])
    transfer(file, upstream, progress=lambda _: sizes.append(os.fstat(file).st_size))
    assert (content(file), upstream.starts) == (BODY, [0, 1000])
    assert sizes == sorted(sizes)


def test_an_upstream_that_sends_other_bytes_the_second_time_is_caught(file: int) -> None:
    other = b"x" * len(BODY)
    upstream = Upstream([cut(1000), lambda _: FakeBody(0, len(BODY), other)])
    with pytest.raises(DigestMismatch, match="other bytes"):
        transfer(file, upstream)


def test_a_body_that_begins_too_late_is_refused(file: int) -> None:
    with pytest.raises(UpstreamInvalid, match="from byte 10"):
        transfer(file, Upstream([lambda _: FakeBody(10, len(BODY), BODY[10:])]))


def test_a_wrong_digest_names_both(file: int) -> None:
    wrong = b"y" * len(BODY)
    with pytest.raises(DigestMismatch) as caught:
        transfer(file, Upstream([lambda _: FakeBody(0, len(BODY), wrong)]))
    assert (caught.value.expected, caught.value.actual) == (DIGEST, digest_of(wrong))


@pytest.mark.parametrize(
    ("announced", "sent", "expected"),
    [
        (len(BODY) + 5, BODY, len(BODY)),  # the answer contradicts the manifest
        (len(BODY), BODY + b"more", None),  # more than announced
        (None, BODY[:-1], len(BODY)),  # a clean end, too early
    ],
)
def test_a_wrong_size_is_refused(file: int, announced: int | None, sent: bytes, expected: int | None) -> None:
    with pytest.raises((SizeMismatch, UpstreamUnavailable, DigestMismatch)):
        transfer(file, Upstream([lambda start: FakeBody(start, announced, sent[start:])]), expected=expected)


def test_a_leftover_that_is_too_long_is_refused(file: int) -> None:
    os.write(file, BODY + b"more")
    with pytest.raises(SizeMismatch):
        transfer(file, Upstream([whole]), expected=len(BODY))


def test_the_first_bytes_are_not_held_up_by_large_reads(file: int) -> None:
    body = bytes(3 * 1024 * 1024)
    progress: list[int] = []
    upstream = Upstream([lambda _: FakeBody(0, len(body), body, piece=len(body))])
    transfer(file, upstream, digest=digest_of(body), progress=progress.append)
    assert progress[0] == 128 * 1024
    assert progress[-2:] == [2 * 1024 * 1024, 3 * 1024 * 1024]


def test_an_unknown_size_ends_with_the_body(file: int) -> None:
    assert transfer(file, Upstream([lambda _: FakeBody(0, None, BODY)])) == len(BODY)


def test_an_empty_blob_is_asked_for_once(file: int) -> None:
    upstream = Upstream([lambda _: FakeBody(0, 0, b"")])
    assert transfer(file, upstream, digest=digest_of(b""), expected=0) == 0
    assert upstream.starts == [0]


def test_sha512_works(file: int) -> None:
    assert transfer(file, Upstream([whole]), digest=digest_of(BODY, "sha512")) == len(BODY)


def test_attempts_that_bring_nothing_are_bounded(file: int) -> None:
    upstream = Upstream([cut(0)])
    with pytest.raises(UpstreamUnavailable):
        transfer(file, upstream)
    assert len(upstream.starts) == MAX_BARREN_ATTEMPTS


def test_attempts_that_bring_almost_nothing_are_bounded(file: int) -> None:
    upstream = Upstream([cut(1)])
    with pytest.raises(UpstreamUnavailable):
        transfer(file, upstream)
    assert len(upstream.starts) == MAX_ATTEMPTS


@pytest.mark.parametrize("trouble", [HUNG, DOWN], ids=["hung", "down"])
def test_a_body_that_does_not_begin_is_asked_for_once(file: int, trouble: Callable[[int], FakeBody]) -> None:
    """Whoever opens it has tried as often as is worth it."""
    upstream = Upstream([trouble, whole])
    with pytest.raises(UpstreamUnavailable):
        transfer(file, upstream)
    assert upstream.starts == [0]


def test_a_body_that_has_begun_is_gone_on_with_unless_nothing_is_answered(file: int) -> None:
    """Silence takes its whole time limit, and would again."""
    upstream = Upstream([cut(1000), DOWN, cut(1000), HUNG, whole])
    with pytest.raises(UpstreamUnavailable) as caught:
        transfer(file, upstream)
    assert caught.value.is_silence
    assert upstream.starts == [0, 1000, 1000, 2000]


def test_what_a_failed_series_left_can_be_continued(file: int) -> None:
    with pytest.raises(UpstreamUnavailable):
        transfer(file, Upstream([cut(700), cut(0)]))
    upstream = Upstream([whole])
    transfer(file, upstream)
    assert (content(file), upstream.starts) == (BODY, [700])


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 3000), max_size=12), restarts=st.sets(st.integers(0, 12)))
def test_however_often_it_breaks_the_bytes_are_right(tmp_path: Path, cuts: list[int], restarts: set[int]) -> None:
    """Each attempt resumes, or begins again from zero, and is cut somewhere."""

    def attempt(number: int, length: int) -> Callable[[int], FakeBody]:
        def answer(start: int) -> FakeBody:
            begin = 0 if number in restarts else start
            return FakeBody(begin, len(BODY), BODY[begin : start + length], breaks=True)

        return answer

    fd = os.open(tmp_path / "partial", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        upstream = Upstream([*(attempt(number, length) for number, length in enumerate(cuts)), whole])
        assert transfer(fd, upstream) == len(BODY)
        assert content(fd) == BODY
    finally:
        os.close(fd)


def test_a_full_disk_is_told_apart_from_other_trouble() -> None:
    """/dev/full answers every write with ENOSPC."""
    from pullthrough.errors import DiskFull

    asked: list[int] = []
    fd = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(DiskFull) as caught:
            Transfer(
                digest=DIGEST,
                sink=FileSink(fd),
                upstream="r.example",
                open_body=Upstream([whole]),
                expected_bytes=len(BODY),
                stop=threading.Event(),
                progress=lambda _, __: None,
                size_known=lambda _: None,
                make_room=asked.append,
                wait=lambda _: False,
            )._receive(
                whole(0),
                DIGEST.hasher(),
                Receiving(DIGEST, "r.example", len(BODY), 0),
                memoryview(bytearray(1024)),
            )
    finally:
        os.close(fd)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert asked == [len(BODY)]
