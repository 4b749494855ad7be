"""Restarts, orderly and not: what is stored stays, what was half done goes on or goes away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.processes import wait_for
from tests.fakes.upstream import Throttle, Valve
from tests.integration.sites import Broken, open_site

SIZE = 400_000


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def test_a_partial_body_survives_kill_9_and_is_resumed(tmp_path: Path, workers: int) -> None:
    with open_site(tmp_path, workers, serve="prefetch = false", corners=1) as site:
        corner, valve = site.corner(), Valve(200_000)
        kept, cut = corner.blob(SIZE), corner.blob(SIZE + 1)
        corner.get(kept)
        corner.wait_published(kept)
        script = corner.script(Throttle(valve), reference=cut.digest)
        with corner.open(cut) as download:
            download.read(100)
            wait_for(lambda: corner.partial(cut).stat().st_size == 200_000, "what the upstream has sent")
            workers_left = [] if workers == 1 else site.pids
            site.engine.kill()
            with pytest.raises(Broken):
                download.rest()
        script.remove()
        wait_for(lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in workers_left), "the workers to die")
        site.engine.start()
        for blob in (kept, cut):
            assert corner.get(blob).body == blob.read()
        assert corner.cost(kept) == {"GET": 1}
        assert [record.range for record in corner.asked(cut)] == ["", "bytes=200000-"]
        site.engine.stop()
        report = json.loads(site.engine.command("check", "--json"))
        assert report["problems"] == []


def test_leftovers_that_nothing_can_go_on_from_are_removed_at_the_start(tmp_path: Path, workers: int) -> None:
    with open_site(tmp_path, workers, serve="prefetch = false", corners=1) as site:
        corner = site.corner()
        blob = corner.blob(SIZE)
        site.engine.stop()
        partial = corner.partial(blob)
        partial.write_bytes(b"no sidecar says what this is")
        stray = partial.with_name("sha256-" + "0" * 64 + ".json")
        stray.write_text("{}")
        site.engine.start()
        assert not partial.exists()
        assert not stray.exists()
        assert corner.get(blob).body == blob.read()
        assert corner.cost(blob) == {"GET": 1}


def test_a_partial_body_of_another_boot_is_not_continued(tmp_path: Path, workers: int) -> None:
    """A power failure may have spoiled what was not synced."""
    with open_site(tmp_path, workers, serve="prefetch = false", corners=1) as site:
        corner, valve = site.corner(), Valve(200_000)
        blob = corner.blob(SIZE)
        script = corner.script(Throttle(valve))
        with corner.open(blob) as download:
            download.read(100)
            wait_for(lambda: corner.partial(blob).stat().st_size == 200_000, "what the upstream has sent")
        site.engine.stop()
        script.remove()
        sidecar = corner.partial(blob).with_name(corner.partial(blob).name + ".json")
        sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"boot_id": "another"}))
        with corner.partial(blob).open("r+b") as file:
            file.write(b"\0" * 1000)
        site.engine.start()
        assert corner.get(blob).body == blob.read()
        assert [record.range for record in corner.asked(blob)] == ["", ""]
