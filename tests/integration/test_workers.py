"""Two workers: what they share, and what one's death does to the other's clients."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.e2e.processes import free_port, wait_for
from tests.fakes.upstream import Throttle, Valve
from tests.integration.lanes import sample
from tests.integration.sites import HELD_BACK, Broken, Corner, Download, Site, children, configuration, open_site

SIZE = 400_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path, 2, serve="prefetch = false", corners=3) as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_death_of_the_leader_costs_the_other_workers_clients_nothing(site: Site, corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(200_000)
    script = corner.script(Throttle(valve))
    leader, follower = site.pids
    led = corner.open(blob, connection=site.connect(leader))
    assert led.read(100) == blob.read(0, 100)
    followed = [corner.open(blob, connection=site.connect(follower)) for _ in range(3)]
    for download in followed:
        assert download.read(100) == blob.read(0, 100)
    valve.wait_dry()
    wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
    assert site.leader_of(corner.partial(blob)) == leader

    script.remove()
    os.kill(leader, signal.SIGKILL)
    for download in followed:
        assert download.rest() == blob.read(100)
        download.close()
    with pytest.raises(Broken):
        led.rest()
    led.close()
    assert [record.range for record in corner.asked(blob)] == ["", "bytes=200000-"]
    corner.wait_published(blob)

    # The parent starts another one, which serves.
    wait_for(lambda: len(site.pids) == 2 and leader not in site.pids, "a new worker")
    new = next(pid for pid in site.pids if pid != follower)
    wait_for(lambda: site.engine.get("/healthz").status == 200, "answers")
    with corner.open(blob, connection=site.connect(new)) as download:
        assert (download.rest(), download.outcome) == (blob.read(), "hit")
    assert corner.cost(blob) == {"GET": 2}
    assert new in site.pids
    assert site.logged().count("is started again") == 1


def test_the_death_of_a_follower_costs_the_leaders_clients_nothing(site: Site, corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(200_000)
    corner.script(Throttle(valve))
    leader, follower = site.pids
    with corner.open(blob, connection=site.connect(leader)) as led:
        led.read(100)
        with corner.open(blob, connection=site.connect(follower)) as followed:
            followed.read(100)
            os.kill(follower, signal.SIGKILL)
            with pytest.raises(Broken):
                followed.rest()
        valve.let_all()
        assert led.rest() == blob.read(100)
    assert corner.cost(blob) == {"GET": 1}
    wait_for(lambda: len(site.pids) == 2 and follower not in site.pids, "a new worker")


def test_a_client_that_comes_after_the_leaders_death_goes_on_with_its_bytes(site: Site, corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(200_000)
    script = corner.script(Throttle(valve))
    leader = site.pids[0]
    led = corner.open(blob, connection=site.connect(leader))
    led.read(100)
    wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
    script.remove()
    os.kill(leader, signal.SIGKILL)
    led.close()
    assert corner.get(blob).body == blob.read()
    assert [record.range for record in corner.asked(blob)] == ["", "bytes=200000-"]


def test_what_one_worker_stores_the_other_serves_at_once(site: Site, corner: Corner) -> None:
    blob = corner.blob(SIZE)
    first, second = site.pids
    with corner.open(blob, connection=site.connect(first)) as download:
        download.rest()
    corner.wait_published(blob)
    with corner.open(blob, connection=site.connect(second)) as download:
        assert (download.rest(), download.outcome) == (blob.read(), "hit")
    path = f"/v2/{corner.prefix}/{corner.repository}/manifests/{SIZE}"
    for pid in (first, second):
        with Download(site.engine, path, connection=site.connect(pid)) as download:
            assert download.outcome == "hit"
    assert corner.upstream.requests.count(kind="manifest", repository=corner.repository) == 1


def test_metrics_are_those_of_all_workers(site: Site, corner: Corner) -> None:
    blob = corner.blob(SIZE)
    for pid in site.pids:
        with corner.open(blob, connection=site.connect(pid)) as download:
            download.rest()
    for pid in site.pids:
        with Download(site.engine, "/metrics", connection=site.connect(pid)) as download:
            text = download.rest().decode()
        assert sample(text, "pullthrough_requests_total", kind="blob", rule=corner.prefix) == 2


def test_workers_die_with_their_parent_and_another_engine_can_start(tmp_path: Path, site: Site, corner: Corner) -> None:
    blob, valve = corner.blob(SIZE), Valve(200_000)
    script = corner.script(Throttle(valve))
    workers = site.pids
    with corner.open(blob) as download:
        download.read(100)
        wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
        script.remove()
        site.engine.kill()
        with pytest.raises(Broken):
            download.rest()
    wait_for(lambda: not any(map(is_alive, workers)), "the workers to die")
    site.engine.start()
    assert corner.get(blob).body == blob.read()
    assert [record.range for record in corner.asked(blob)] == ["", "bytes=200000-"]
    assert len(site.pids) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_engine_on_the_port_or_the_folder_says_so_and_ends(tmp_path: Path, site: Site, workers: int) -> None:
    config = configuration(site.upstream, workers)
    other = Engine(tmp_path / "other", config)
    other.url = site.engine.url
    with pytest.raises(AssertionError, match=rf"ended with [^0].*[\s\S]*{other.address} is in use"):
        other.start()

    same = Engine(tmp_path / "same", config)
    same.data = site.engine.data
    with pytest.raises(AssertionError, match=r"ended with [^0].*[\s\S]*is in use by process"):
        same.start()
    assert site.engine.get("/healthz").status == 200
    assert len(children(site.engine.pid)) == 2


def test_a_port_that_another_program_has_is_named(tmp_path: Path, site: Site) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        other = Engine(tmp_path / "other", configuration(site.upstream, 1))
        other.url = f"http://127.0.0.1:{port}"
        with pytest.raises(AssertionError, match=rf"127.0.0.1:{port} is in use"):
            other.start()


def test_the_leaders_death_leaves_a_stranger_with_its_own_upstream(site: Site) -> None:
    """The other worker's only client is of a repository that was never confirmed: it must neither hang nor get bytes."""
    owner, stranger = site.corner(), site.corner()
    blob, valve = owner.blob(SIZE), Valve(HELD_BACK + 1000)
    script = owner.script(Throttle(valve))
    leader, follower = site.pids
    with owner.open(blob, connection=site.connect(leader)) as led:
        led.read(100)
        with stranger.open(blob, connection=site.connect(follower)) as other:
            assert other.status in (403, 404)
        script.remove()
        os.kill(leader, signal.SIGKILL)
        wait_for(lambda: leader not in site.pids, "its end")
        with owner.open(blob, connection=site.connect(follower)) as download:
            assert download.rest() == blob.read()
    stranger.add(make_image("late", layers=(blob,)))
    assert stranger.get(blob).status in (200, 404)
