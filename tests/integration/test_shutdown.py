"""SIGTERM: what is under way ends well, and what is not finished can be continued."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.processes import wait_for
from tests.fakes.upstream import Gate, Hang, ScriptedUpstream, Throttle, Valve
from tests.integration.sites import Broken, Site, open_site

SIZE = 400_000


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def refuses(site: Site) -> bool:
    host, _, port = site.engine.address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def test_answers_under_way_finish_and_new_connections_are_refused(tmp_path: Path, workers: int) -> None:
    with open_site(tmp_path, workers, serve="prefetch = false", corners=1) as site:
        corner, valve = site.corner(), Valve(200_000)
        cold, warm = corner.blob(SIZE), corner.blob(8_000_000)
        corner.get(warm)
        corner.wait_published(warm)
        corner.script(Throttle(valve), reference=cold.digest)
        with corner.open(cold) as growing, corner.open(warm) as stored:
            growing.read(100)
            stored.read(100)
            site.engine.signal(signal.SIGTERM)
            wait_for(lambda: "stopping" in site.logged(), "the signal to be seen")
            valve.let_all()
            assert growing.rest() == cold.read(100)
            assert stored.rest() == warm.read(100)
        site.engine.wait_ended()
        assert refuses(site)
        assert corner.is_published(cold)
        assert not (site.engine.data / "control.sock").exists()


def test_a_fill_that_nobody_waits_for_is_left_to_be_resumed(tmp_path: Path, workers: int) -> None:
    with open_site(tmp_path, workers, serve="prefetch = false", corners=1) as site:
        corner, valve = site.corner(), Valve(200_000)
        blob = corner.blob(SIZE)
        script = corner.script(Throttle(valve))
        with corner.open(blob) as download:
            download.read(100)
            wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
        site.engine.stop()
        assert corner.partial(blob).read_bytes() == blob.read(0, 200_000)
        assert not corner.is_published(blob)

        script.remove()
        site.engine.start()
        answer = corner.get(blob)
        assert (answer.status, answer.body) == (200, blob.read())
        assert [record.range for record in corner.asked(blob)] == ["", "bytes=200000-"]
        corner.wait_published(blob)
        assert not corner.partial(blob).exists()


def test_a_second_signal_ends_it_at_once_and_leaves_the_fill(tmp_path: Path, workers: int) -> None:
    with open_site(tmp_path, workers, serve="prefetch = false", corners=1) as site:
        corner, gate = site.corner(), Gate()
        blob = corner.blob(SIZE)
        script = corner.script(Hang(gate, after_bytes=200_000))
        with corner.open(blob) as download:
            download.read(100)
            wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
            pids = site.pids
            site.engine.signal(signal.SIGTERM)
            wait_for(lambda: site.logged().count("stopping") == workers, "the signal to be seen")

            def ended() -> bool:
                # One that comes close behind the first is taken for the same: from a terminal and from the parent.
                site.engine.signal(signal.SIGTERM)
                return not any(Path(f"/proc/{pid}/fd/0").exists() for pid in pids)

            wait_for(ended, "the end")
            with pytest.raises(Broken):
                download.rest()
        site.engine.kill()
        script.remove()
        site.engine.start()
        assert corner.get(blob).body == blob.read()
        assert corner.asked(blob)[-1].range == "bytes=200000-"


def test_idle_connections_do_not_hold_it_up(tmp_path: Path, workers: int, upstream: ScriptedUpstream) -> None:
    with open_site(tmp_path, workers, corners=1) as site:
        connections = [site.connect(pid) for pid in site.pids]
        site.engine.stop()
        for connection in connections:
            assert connection.recv(1) == b""
            connection.close()
