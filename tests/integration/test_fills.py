"""Fills: what reaches clients when, what a blob costs the upstream, and what happens when the upstream misbehaves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import pytest

from pullthrough.demo.images import blob_of
from tests.e2e.processes import wait_for
from tests.fakes.upstream import (
    ChangedETag,
    ClaimLength,
    Close,
    Corrupt,
    Gate,
    Gzip,
    Hang,
    Headers,
    Html,
    IgnoreRange,
    NoLength,
    Replace,
    Reset,
    Status,
    Throttle,
    Valve,
)
from tests.integration.lanes import sample
from tests.integration.sites import (
    HELD_BACK,
    KIB,
    MIB,
    Broken,
    Corner,
    Site,
    gather,
    is_whole,
    open_files,
    open_site,
    resident_bytes,
)

SIZE = 300_000


@pytest.fixture(scope="module", params=[(1, "asyncio"), (2, "auto")], ids=["one-worker-asyncio", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    workers, loop = request.param
    folder = tmp_path_factory.mktemp("fills")
    with open_site(folder, workers, serve=f'prefetch = false\nloop = "{loop}"') as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


# --- one transfer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, HELD_BACK, HELD_BACK + 1, SIZE])
def test_a_cold_blob_costs_one_request_and_a_warm_one_none(corner: Corner, size: int) -> None:
    blob = corner.blob(size)

    cold = corner.get(blob)
    assert (cold.status, cold.body, cold.outcome) == (200, blob.read(), "miss")
    assert cold.headers["content-length"] == str(size)
    assert cold.headers["docker-content-digest"] == blob.digest
    corner.wait_published(blob)
    warm = corner.get(blob)
    assert (warm.status, warm.body, warm.outcome) == (200, blob.read(), "hit")
    assert corner.cost(blob) == {"GET": 1}


def test_a_sha512_blob_is_filled_like_any_other(corner: Corner) -> None:
    blob = corner.blob(SIZE, algorithm="sha512")
    assert corner.get(blob).body == blob.read()
    corner.wait_published(blob)
    assert corner.get(blob).outcome == "hit"
    assert corner.cost(blob) == {"GET": 1}


def test_a_blob_that_no_manifest_names_is_filled_as_well(corner: Corner) -> None:
    blob = corner.blob(SIZE, known=False)
    answer = corner.get(blob)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, blob.read(), str(SIZE))
    assert corner.cost(blob) == {"GET": 1}


@pytest.mark.parametrize("clients", [50, 200])
def test_many_clients_at_once_cost_one_request_and_all_get_the_right_bytes(corner: Corner, clients: int) -> None:
    blob, valve = corner.blob(MIB), Valve()
    corner.script(Throttle(valve))

    began = threading.Barrier(clients + 1)

    def work(_: int) -> bytes:
        with corner.open(blob) as download:
            began.wait(60)
            return download.rest()

    def feed() -> None:
        began.wait(60)
        valve.let(MIB // 2)
        valve.wait_dry()
        valve.let_all()

    feeder = threading.Thread(target=feed)
    feeder.start()
    bodies = gather(clients, work)
    feeder.join()
    assert {hashlib.sha256(body).hexdigest() for body in bodies} == {blob.digest.partition(":")[2]}
    assert corner.cost(blob) == {"GET": 1}


def test_clients_of_both_workers_share_one_transfer(corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(HELD_BACK + 1000)
    corner.script(Throttle(valve))
    first, second = corner.site.two_connections()
    with corner.open(blob, connection=first) as one:
        assert one.read(1000) == blob.read(0, 1000)
        two = corner.open(blob, connection=second)
        assert two.read(1000) == blob.read(0, 1000)
        assert (one.outcome, two.outcome) == ("miss", "joined")
        valve.let_all()
        assert one.rest() == two.rest() == blob.read(1000)
        two.close()
    assert corner.cost(blob) == {"GET": 1}


# --- when bytes reach clients ----------------------------------------------------------------------------------------


def test_the_first_bytes_reach_the_client_while_the_upstream_still_sends(corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(HELD_BACK + 1)
    corner.script(Throttle(valve))
    with corner.open(blob) as download:
        assert download.status == 200
        assert download.read(1) == blob.read(0, 1)
        valve.let(1000)
        assert download.read(1000) == blob.read(1, 1001)
        valve.let_all()
        assert download.rest() == blob.read(1001)


def test_a_late_joiner_reads_from_the_start(corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(200_000)
    corner.script(Throttle(valve))
    with corner.open(blob) as early:
        early.read(100_000)
        with corner.open(blob) as late:
            assert late.read(100_000) == blob.read(0, 100_000)
            assert late.outcome == "joined"
            valve.let_all()
            assert late.rest() == early.rest() == blob.read(100_000)
    assert corner.cost(blob) == {"GET": 1}


@pytest.mark.parametrize("length", ["known", "chunked"])
def test_the_newest_64_kib_are_held_back_until_the_digest_matches(corner: Corner, length: str) -> None:
    blob, gate = corner.blob(SIZE, known=length == "known"), Gate()
    actions = [Hang(gate, after_bytes=SIZE - 1)]
    corner.script(*actions, *([] if length == "known" else [NoLength()]))
    with corner.open(blob) as download:
        assert download.read(SIZE - 1 - HELD_BACK) == blob.read(0, SIZE - 1 - HELD_BACK)
        gate.wait_reached()
        assert download.is_silent
        gate.open()
        assert download.rest() == blob.read(SIZE - 1 - HELD_BACK)


@pytest.mark.parametrize("length", ["known", "chunked", "until it closes"])
def test_a_wrong_digest_breaks_the_connection_off_and_publishes_nothing(corner: Corner, length: str) -> None:
    blob = corner.blob(SIZE, known=length == "known")
    wrong = corner.script(Corrupt(at=SIZE - 1), *([] if length == "known" else [NoLength(chunked=length == "chunked")]))
    with corner.open(blob) as download:
        assert download.status == 200
        assert ("content-length" in download.headers) == (length == "known")
        with pytest.raises(Broken) as broken:
            download.rest()
    assert isinstance(broken.value.args[0], bytes)
    assert len(broken.value.args[0]) <= SIZE - HELD_BACK
    assert not corner.is_published(blob)
    got = bytearray(blob.read())
    got[-1] ^= 0xFF
    logged = corner.site.logged()
    assert blob.digest in logged
    assert f"sha256:{hashlib.sha256(got).hexdigest()}" in logged
    metrics = corner.engine.metrics()
    assert sample(metrics, "pullthrough_digest_mismatches_total", upstream=f"{corner.prefix}.example") == 1

    wrong.remove()
    fresh = corner.get(blob)
    assert (fresh.status, fresh.body) == (200, blob.read())
    assert [record.range for record in corner.asked(blob)] == ["", ""]


def test_a_wrong_digest_of_a_small_blob_is_an_error_and_not_a_body(corner: Corner) -> None:
    blob = corner.blob(1000)
    corner.script(Corrupt(at=5), nth=1)
    answer = corner.get(blob)
    assert answer.status == 502
    assert blob.digest.encode() in answer.body
    assert corner.get(blob).body == blob.read()


def test_a_slow_reader_slows_nobody_else(corner: Corner) -> None:
    blob = corner.blob(8 * MIB)
    with corner.open(blob) as slow:
        slow.read(10)
        assert is_whole(blob, corner.get(blob).body)
        corner.wait_published(blob)
        assert is_whole(blob, corner.get(blob).body)
        assert slow.rest() == blob.read(10)
    assert corner.cost(blob) == {"GET": 1}


# --- clients that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("staying", [0, 1])
def test_a_fill_goes_on_when_clients_leave(corner: Corner, staying: int) -> None:
    blob, valve = corner.blob(SIZE), Valve(150_000)
    corner.script(Throttle(valve))
    first = corner.open(blob)
    first.read(1000)
    others = [corner.open(blob) for _ in range(3)]
    for other in others:
        other.read(1000)
    first.close()
    for other in others[staying:]:
        other.close()
    valve.let_all()
    for other in others[:staying]:
        assert other.rest() == blob.read(1000)
        other.close()
    corner.wait_published(blob)
    assert corner.get(blob).outcome == "hit"
    assert corner.cost(blob) == {"GET": 1}


def test_a_client_that_leaves_before_the_first_byte_changes_nothing(corner: Corner) -> None:
    blob, gate = corner.blob(SIZE), Gate()
    corner.script(Hang(gate))
    with corner.open(blob):
        gate.wait_reached()
        corner.open(blob).close()
    gate.open()
    corner.wait_published(blob)
    assert corner.cost(blob) == {"GET": 1}


def test_the_engine_rests_after_clients_vanish_in_the_middle_of_a_body(corner: Corner) -> None:
    warm, cold, valve = corner.blob(20 * MIB), corner.blob(SIZE), Valve(HELD_BACK + 1000)
    corner.get(warm)
    corner.wait_published(warm)
    corner.script(Throttle(valve), reference=cold.digest)
    files = [open_files(pid) for pid in corner.site.pids]
    downloads = [corner.open(blob) for blob in (warm, cold) for _ in range(10)]
    for download in downloads:
        download.read(500)
    for download in downloads:
        download.close()
    valve.let_all()
    corner.wait_published(cold)
    # Some for connections to the upstream and to the catalog, which are kept.
    wait_for(
        lambda: all(open_files(pid) <= before + 8 for pid, before in zip(corner.site.pids, files, strict=True)),
        "the files of clients that left to be closed",
    )
    wait_for(lambda: corner.site.is_idle, "the engine to rest")


# --- an upstream that breaks off -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "reset", "stall"])
def test_a_broken_transfer_is_resumed_at_the_last_good_byte(site: Site, how: str) -> None:
    corner = site.hasty_corner() if how == "stall" else site.corner()
    blob = corner.blob(SIZE)
    faults = {"cut": Close(100_000), "reset": Reset(100_000), "stall": Hang(Gate(), after_bytes=100_000)}
    corner.script(faults[how], nth=1)
    answer = corner.get(blob)
    assert (answer.status, answer.body) == (200, blob.read())
    first, second = corner.asked(blob)
    assert (first.range, second.range) == ("", "bytes=100000-")
    assert second.headers["if-range"] == f'"{blob.digest}"'
    assert "if-range" not in first.headers
    assert second.status == 206
    assert second.bytes_sent == SIZE - 100_000


def test_a_transfer_that_breaks_again_and_again_goes_on_each_time(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    corner.script(Close(90_000))
    assert corner.get(blob).body == blob.read()
    assert [record.range for record in corner.asked(blob)] == ["", *(f"bytes={n * 90_000}-" for n in (1, 2, 3))]


@pytest.mark.parametrize("fault", [IgnoreRange(), ChangedETag('"other"')], ids=["ignores Range", "changed ETag"])
def test_a_transfer_that_begins_anew_is_compared_and_never_truncates_what_is_read(
    corner: Corner, fault: IgnoreRange | ChangedETag
) -> None:
    blob, gate = corner.blob(SIZE), Gate()
    corner.script(Close(200_000), nth=1)
    corner.script(fault, Hang(gate, after_bytes=150_000), nth=2)
    with corner.open(blob) as download:
        assert download.read(200_000 - HELD_BACK) == blob.read(0, 200_000 - HELD_BACK)
        gate.wait_reached()
        assert corner.partial(blob).stat().st_size == 200_000
        gate.open()
        assert download.rest() == blob.read(200_000 - HELD_BACK)
    assert [(record.range, record.status) for record in corner.asked(blob)] == [("", 200), ("bytes=200000-", 200)]


def test_other_bytes_the_second_time_are_no_body(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    corner.script(Close(200_000), nth=1)
    corner.script(IgnoreRange(), Corrupt(at=10), nth=2)
    with corner.open(blob) as download, pytest.raises(Broken):
        download.rest()
    assert not corner.is_published(blob)
    assert corner.get(blob).body == blob.read()


def test_nonsense_in_answer_to_a_range_makes_the_whole_be_read_again(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    corner.script(Close(100_000), nth=1)
    corner.script(Headers({"Content-Range": f"bytes 7-{SIZE - 1}/{SIZE}"}), nth=2)
    assert corner.get(blob).body == blob.read()
    assert [record.range for record in corner.asked(blob)] == ["", "bytes=100000-", ""]


def test_an_upstream_that_stays_broken_is_asked_a_few_times_and_the_next_request_goes_on(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    corner.script(Close(100_000), nth=1)
    broken = corner.script(Close(0), nth=range(2, 99))
    with corner.open(blob) as download, pytest.raises(Broken) as error:
        download.rest()
    assert error.value.args[0] == blob.read(0, 100_000 - HELD_BACK)
    wait_for(lambda: "could not be filled" in corner.site.logged(), "the end of the fill")
    assert len(corner.asked(blob)) == 1 + 4
    broken.remove()
    corner.upstream.clear_scripts()

    answer = corner.get(blob)
    assert (answer.status, answer.body) == (200, blob.read())
    assert corner.asked(blob)[-1].range == "bytes=100000-"
    assert corner.asked(blob)[-1].bytes_sent == SIZE - 100_000


def test_a_failed_fill_is_begun_again_while_a_slow_client_still_reads_what_came(corner: Corner) -> None:
    blob = corner.blob(20 * MIB)
    corner.script(Close(19 * MIB), nth=1)
    corner.script(Status(403), nth=2)
    slow = corner.open(blob)
    slow.read(10)
    wait_for(lambda: f"{blob.digest} could not be filled" in corner.site.logged(), "the end of the fill")
    for _ in range(2):
        answer = corner.get(blob)
        assert (answer.status, is_whole(blob, answer.body)) == (200, True)
    with pytest.raises(Broken):
        slow.rest()
    slow.close()
    assert corner.asked(blob)[-1].range == f"bytes={19 * MIB}-"


# --- lies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", [-1000, 1000])
@pytest.mark.parametrize("known", [True, False])
def test_a_lie_about_the_length_gives_no_body(corner: Corner, difference: int, known: bool) -> None:
    blob = corner.blob(SIZE, known=known)
    lie = corner.script(ClaimLength(difference))
    with corner.open(blob) as download:
        if download.status == 200:
            with pytest.raises(Broken):
                download.rest()
        else:
            assert download.status in (502, 503)
    assert not corner.is_published(blob)
    lie.remove()
    wait_for(lambda: corner.get(blob).body == blob.read(), "a right body once the upstream is honest")


def test_a_compressed_body_is_not_the_blob(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    assert corner.get(blob).body == blob.read()
    assert corner.asked(blob)[0].headers["accept-encoding"] == "identity"
    other = corner.blob(SIZE + 1)
    corner.script(Gzip(), reference=other.digest, nth=1)
    assert corner.get(other).status == 502
    assert corner.get(other).body == other.read()


def test_a_web_page_is_not_the_blob(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    corner.script(Html(), nth=1)
    assert corner.get(blob).status == 502
    assert corner.get(blob).body == blob.read()


def test_a_body_of_another_blob_is_refused(corner: Corner) -> None:
    blob = corner.blob(1000)
    corner.script(Replace(b"x" * 1000), nth=1)
    assert corner.get(blob).status == 502
    assert corner.get(blob).body == blob.read()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_without_a_length_is_sent_in_chunks(corner: Corner, chunked: bool) -> None:
    blob = corner.blob(SIZE, known=False)
    gate = Gate()
    corner.script(NoLength(chunked=chunked), Hang(gate, after_bytes=SIZE - 1))
    with corner.open(blob) as download:
        assert download.headers["transfer-encoding"] == "chunked"
        gate.open()
        assert download.rest() == blob.read()
    corner.wait_published(blob)
    assert corner.get(blob).headers["content-length"] == str(SIZE)


def test_a_client_of_http_1_0_waits_for_the_whole_where_the_length_is_unknown(corner: Corner) -> None:
    blob, gate = corner.blob(SIZE, known=False), Gate()
    corner.script(NoLength(), Hang(gate, after_bytes=200_000))
    with corner.open(blob, version="HTTP/1.0") as download:
        gate.wait_reached()
        wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
        assert download.is_silent
        gate.open()
        assert download.rest() == blob.read()
        assert download.headers["content-length"] == str(SIZE)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "told"), [(404, 404), (403, 403), (500, 503), (429, 429)])
def test_an_error_of_the_upstream_is_told_to_all_who_wait(corner: Corner, said: int, told: int) -> None:
    blob, gate = corner.blob(SIZE), Gate()
    # A gate that opens says the status to one request only.
    corner.script(Hang(gate), Status(said, retry_after=120))
    downloads = [corner.open(blob, connection=connection) for connection in corner.site.two_connections()]
    gate.wait_reached()
    gate.open()
    for download in downloads:
        assert download.status == told
        download.close()
    assert not list(corner.engine.data.glob(f"fills/{blob.digest.replace(':', '-')}"))


def test_failed_fills_leave_no_files_behind(corner: Corner) -> None:
    missing = [blob_of(b"nowhere %d %s" % (number, corner.prefix.encode())) for number in range(5)]
    assert {corner.get(blob).status for blob in missing} == {404}
    wait_for(
        lambda: (
            not any(corner.partial(blob).with_name(f"{corner.partial(blob).name}.json").exists() for blob in missing)
        ),
        "the sidecars to go",
    )
    assert not any(corner.partial(blob).exists() for blob in missing)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_two_hundred_slow_clients_on_a_growing_blob_take_no_memory(corner: Corner) -> None:
    blob, valve = corner.blob(128 * MIB), Valve(8 * MIB)
    corner.script(Throttle(valve))
    downloads = [corner.open(blob) for _ in range(200)]
    for download in downloads:
        assert download.read(1000) == blob.read(0, 1000)
    before = sum(map(resident_bytes, corner.site.pids))
    valve.let_all()
    corner.wait_published(blob)
    for download in downloads:
        assert download.read(500_000) == blob.read(1000, 501_000)
    grown = sum(map(resident_bytes, corner.site.pids)) - before
    for download in downloads:
        download.close()
    assert grown < 200 * 100 * KIB, f"{grown / MIB:.1f} MiB for 200 slow clients"
    assert corner.cost(blob) == {"GET": 1}
