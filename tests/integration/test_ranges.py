"""Ranges and HEAD: before, during and after a fill."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pullthrough.demo.images import Blob
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Action, Close, Gate, Hang, IgnoreRange, NoLength, Status, Throttle, Valve
from tests.integration.sites import HELD_BACK, MIB, Corner, Site, gather, open_site

SIZE = 300_000


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    serve = 'prefetch = false\nrange_ahead = "1MiB"'
    with open_site(tmp_path_factory.mktemp("ranges"), request.param, serve=serve, rule='negative = "never"') as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def ranged(text: str, **more: str) -> dict[str, str]:
    return {"Range": f"bytes={text}", **more}


CASES = [
    ("0-0", 0, 1),
    ("0-99", 0, 100),
    ("100-", 100, SIZE),
    (f"{SIZE - 1}-", SIZE - 1, SIZE),
    ("-1", SIZE - 1, SIZE),
    ("-100000", SIZE - 100_000, SIZE),
    (f"-{SIZE * 2}", 0, SIZE),
    (f"7-{SIZE * 2}", 7, SIZE),
]


@pytest.fixture(scope="module")
def warm(site: Site) -> tuple[Corner, Blob]:
    corner = site.corner()
    blob = corner.blob(SIZE)
    corner.get(blob)
    corner.wait_published(blob)
    return corner, blob


@pytest.mark.parametrize(("text", "start", "stop"), CASES)
def test_a_range_of_a_warm_blob_is_that_range(warm: tuple[Corner, Blob], text: str, start: int, stop: int) -> None:
    corner, blob = warm
    answer = corner.get(blob, headers=ranged(text))
    assert (answer.status, answer.body) == (206, blob.read(start, stop))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.outcome == "hit"
    assert "unverified" not in answer.headers["x-cache"]
    assert corner.cost(blob) == {"GET": 1}


@pytest.mark.parametrize(("text", "start", "stop"), CASES)
def test_a_range_of_a_cold_blob_costs_one_request_for_all_of_it(
    corner: Corner, text: str, start: int, stop: int
) -> None:
    blob = corner.blob(SIZE)
    answer = corner.get(blob, headers=ranged(text))
    assert (answer.status, answer.body) == (206, blob.read(start, stop))
    corner.wait_published(blob)
    assert corner.get(blob).outcome == "hit"
    assert [record.range for record in corner.asked(blob)] == [""]


@pytest.mark.parametrize("text", [f"{SIZE}-", f"{SIZE + 5}-{SIZE + 9}", "-0"])
@pytest.mark.parametrize("state", ["cold", "filling", "warm"])
def test_a_range_without_a_byte_is_not_satisfiable(
    corner: Corner, warm: tuple[Corner, Blob], text: str, state: str
) -> None:
    valve = Valve(HELD_BACK + 1000)
    if state == "warm":
        corner, blob = warm
    else:
        blob = corner.blob(SIZE)
    if state == "filling":
        corner.script(Throttle(valve))
    answer = corner.get(blob, headers=ranged(text))
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    valve.let_all()


@pytest.mark.parametrize("text", ["a-b", "", "0-1,5-9", "-", "0x1-5"])
def test_a_range_that_is_none_gives_the_whole(warm: tuple[Corner, Blob], text: str) -> None:
    corner, blob = warm
    answer = corner.get(blob, headers=ranged(text))
    assert (answer.status, answer.body) == (200, blob.read())


def test_if_range_with_another_entity_tag_gives_the_whole(warm: tuple[Corner, Blob]) -> None:
    corner, blob = warm
    same, other = f'"{blob.digest}"', '"something else"'
    assert corner.get(blob, headers=ranged("0-9", **{"If-Range": same})).status == 206
    answer = corner.get(blob, headers=ranged("0-9", **{"If-Range": other}))
    assert (answer.status, answer.body) == (200, blob.read())


def test_if_none_match_needs_no_body(warm: tuple[Corner, Blob]) -> None:
    corner, blob = warm
    answer = corner.get(blob, headers={"If-None-Match": f'"{blob.digest}"'})
    assert (answer.status, answer.body) == (304, b"")


def test_a_range_of_what_has_arrived_is_answered_during_the_fill(corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(200_000)
    corner.script(Throttle(valve))
    with corner.open(blob) as download:
        download.read(100_000)
        answer = corner.get(blob, headers=ranged("50000-99999"))
        assert (answer.status, answer.body, answer.outcome) == (206, blob.read(50_000, 100_000), "joined")
        valve.let_all()
        assert download.rest() == blob.read(100_000)
    assert corner.cost(blob) == {"GET": 1}


def test_a_range_a_little_ahead_waits_for_the_fill(corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(HELD_BACK + 10)
    corner.script(Throttle(valve))
    with corner.open(blob, headers=ranged("200000-200099")) as download:
        valve.wait_dry()
        assert download.is_silent
        valve.let_all()
        assert download.rest() == blob.read(200_000, 200_100)
    assert corner.cost(blob) == {"GET": 1}


# --- far ahead -------------------------------------------------------------------------------------------------------


def far(corner: Corner, size_bytes: int = 16 * MIB) -> tuple[Blob, Valve]:
    """A large blob whose fill stands still after the first bytes."""
    blob, valve = corner.blob(size_bytes), Valve(HELD_BACK + 1000)
    corner.script(Throttle(valve), nth=1)
    return blob, valve


def test_a_range_far_ahead_is_fetched_by_itself_and_marked_unverified(corner: Corner) -> None:
    blob, valve = far(corner)
    footer = corner.get(blob, headers=ranged("-1000"))
    size = blob.size_bytes
    assert (footer.status, footer.body) == (206, blob.read(size - 1000))
    assert footer.headers["content-range"] == f"bytes {size - 1000}-{size - 1}/{size}"
    assert "; unverified" in footer.headers["x-cache"]
    assert [record.range for record in corner.asked(blob)] == ["", f"bytes={size - 1000}-{size - 1}"]
    assert corner.asked(blob)[1].bytes_sent == 1000

    valve.let_all()
    corner.wait_published(blob)
    again = corner.get(blob, headers=ranged("-1000"))
    assert "unverified" not in again.headers["x-cache"]
    assert corner.cost(blob) == {"GET": 2}


def test_one_range_for_many_clients_is_fetched_once_by_each_worker(corner: Corner) -> None:
    blob, valve = far(corner)
    gate = Gate()
    with corner.open(blob) as download:
        download.read(10)
        corner.script(Hang(gate), nth=range(1, 99))
        arrived = threading.Barrier(21)

        def work(_: int) -> bytes:
            with corner.open(blob, headers=ranged("8000000-8000999")) as one:
                arrived.wait(30)
                return one.rest()

        def let_through() -> None:
            arrived.wait(30)
            gate.wait_reached()
            wait_for(lambda: corner.site.is_idle, "all requests to be taken in")
            gate.open()

        opener = threading.Thread(target=let_through)
        opener.start()
        assert set(gather(20, work)) == {blob.read(8_000_000, 8_001_000)}
        opener.join()
        assert 1 <= len(corner.asked(blob)) - 1 <= corner.site.workers
    valve.let_all()


def test_a_range_of_more_than_8_mib_waits_for_the_fill(corner: Corner) -> None:
    blob, valve = far(corner)
    start = blob.size_bytes - 8 * MIB - 1
    with corner.open(blob, headers=ranged(f"{start}-")) as download:
        valve.wait_dry()
        assert download.is_silent
        valve.let_all()
        assert download.rest() == blob.read(start)
    assert corner.cost(blob) == {"GET": 1}


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(IgnoreRange(), id="sends the whole"),
        pytest.param(Status(503), id="503"),
        pytest.param(Status(403), id="403"),
        pytest.param(Status(416), id="416"),
        pytest.param(Close(after_bytes=10), id="breaks off"),
    ],
)
def test_a_range_that_is_not_to_be_had_ahead_waits_for_the_fill(corner: Corner, action: Action) -> None:
    blob, valve = far(corner)
    corner.script(action, nth=range(2, 99))
    with corner.open(blob, headers=ranged("-1000")) as download:
        valve.wait_dry()
        wait_for(lambda: len(corner.asked(blob)) > 1, "the range to be asked for by itself")
        assert download.is_silent
        valve.let_all()
        assert (download.status, download.rest()) == (206, blob.read(blob.size_bytes - 1000))
        assert "unverified" not in download.headers["x-cache"] or "ahead" not in download.headers["x-cache"]
    corner.wait_published(blob)


# --- HEAD ------------------------------------------------------------------------------------------------------------


def test_head_of_what_is_not_cached_asks_once_and_begins_no_fill(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    answer = corner.get(blob, method="HEAD")
    assert (answer.status, answer.headers["content-length"]) == (200, str(SIZE))
    assert answer.headers["docker-content-digest"] == blob.digest
    assert corner.cost(blob) == {"HEAD": 1}
    assert not corner.partial(blob).exists()


def test_head_during_a_fill_costs_nothing_in_any_worker(corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(HELD_BACK + 1000)
    corner.script(Throttle(valve))
    with corner.open(blob) as download:
        download.read(10)
        for connection in corner.site.two_connections():
            connection.sendall(
                f"HEAD {corner.path(blob.digest)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            head = b""
            while part := connection.recv(65536):
                head += part
            connection.close()
            assert head.startswith(b"HTTP/1.1 200")
            assert f"content-length: {SIZE}".encode() in head.lower()
            assert b"x-cache: joined" in head.lower()
        valve.let_all()
        download.rest()
    assert corner.cost(blob) == {"GET": 1}


def test_head_of_a_warm_blob_costs_nothing(warm: tuple[Corner, Blob]) -> None:
    corner, blob = warm
    answer = corner.get(blob, method="HEAD")
    assert (answer.status, answer.outcome, answer.headers["content-length"]) == (200, "hit", str(SIZE))
    assert corner.cost(blob) == {"GET": 1}


def test_a_range_of_a_blob_of_unknown_size_gives_the_whole(corner: Corner) -> None:
    blob, gate = corner.blob(SIZE, known=False), Gate()
    corner.script(NoLength(), Hang(gate, after_bytes=SIZE - 1))
    with corner.open(blob, headers=ranged("0-9")) as download:
        assert download.status == 200
        gate.open()
        assert download.rest() == blob.read()
