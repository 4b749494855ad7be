"""Prefetch and the queue: what a pull of one layer begins, in which order, and how much at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.demo.images import Image, make_blob, make_image
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Gate, Hang, Headers
from tests.integration.sites import Corner, Site, open_files, open_site


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("prefetch"), request.param) as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def image_of(corner: Corner, layers: int) -> Image:
    return corner.add(make_image(corner.prefix, layer_sizes=tuple(1000 + number for number in range(layers))))


def test_a_layer_brings_the_config_and_the_other_layers(corner: Corner) -> None:
    image = image_of(corner, 4)
    assert corner.get(image.blobs[2]).status == 200
    for blob in image.blobs:
        corner.wait_published(blob)
        assert corner.get(blob).outcome == "hit"
        assert corner.cost(blob) == {"GET": 1}


def test_manifests_configs_heads_and_ranges_bring_no_layer(corner: Corner) -> None:
    image = image_of(corner, 3)
    config, layer, *others = image.blobs
    assert corner.get(config).status == 200
    assert corner.get(layer, method="HEAD").status == 200
    assert corner.get(layer, headers={"Range": "bytes=0-10"}).status == 206
    corner.wait_published(layer)
    assert corner.engine.get(f"/v2/{corner.prefix}/{corner.repository}/manifests/{image.digest}").status == 200
    assert [corner.cost(blob) for blob in others] == [{}, {}]


def test_a_whole_layer_asked_for_during_its_range_brings_the_others(corner: Corner) -> None:
    image, gate = image_of(corner, 2), Gate()
    layer, other = image.blobs[1:]
    corner.script(Hang(gate), reference=layer.digest)
    with corner.open(layer, headers={"Range": "bytes=0-10"}) as ranged:
        gate.wait_reached()
        with corner.open(layer) as whole:
            wait_for(lambda: corner.site.is_idle, "the second request to be taken in")
            gate.open()
            assert whole.rest() == layer.read()
        assert ranged.rest() == layer.read(0, 11)
    corner.wait_published(other)


def test_at_most_three_at_once_come_from_one_upstream_behind_clients(corner: Corner) -> None:
    image, gate = image_of(corner, 9), Gate()
    layer, *others = image.blobs[1:]
    for blob in (image.blobs[0], *others):
        corner.script(Hang(gate), reference=blob.digest)
    first, second = corner.site.two_connections()
    with corner.open(layer, connection=first) as one, corner.open(layer, connection=second) as two:
        assert one.rest() == two.rest() == layer.read()
    gate.wait_reached(3)
    assert gate.reached == 3

    # A client that asks for one that is still in the queue does not wait for the three, whichever worker it reaches.
    waiting = [blob for blob in others if not corner.asked(blob)]
    free = Gate()
    free.open()
    for blob, connection in zip(waiting[:2], corner.site.two_connections(), strict=True):
        corner.script(Hang(free), reference=blob.digest)
        with corner.open(blob, connection=connection) as download:
            assert download.rest() == blob.read()
    gate.open()
    for blob in image.blobs:
        corner.wait_published(blob)
        assert corner.cost(blob) == {"GET": 1}


def test_prefetch_can_be_switched_off(tmp_path: Path, site: Site) -> None:
    with open_site(tmp_path, site.workers, serve="prefetch = false") as quiet:
        corner = quiet.corner()
        image = image_of(corner, 3)
        layer, *others = image.blobs[1:]
        assert corner.get(layer).status == 200
        corner.wait_published(layer)
        assert [corner.cost(blob) for blob in others] == [{}, {}]


def test_more_fills_than_the_limit_wait_for_a_turn(tmp_path: Path, site: Site) -> None:
    with open_site(tmp_path, site.workers, serve=f"prefetch = false\nmax_fills = {2 * site.workers}") as small:
        corner, gate = small.corner(), Gate()
        blobs = corner.blobs(*range(1000, 1006))
        corner.script(Hang(gate))
        connections = [small.connect(small.pids[0]) for _ in blobs]
        downloads = [
            corner.open(blob, connection=connection) for blob, connection in zip(blobs, connections, strict=True)
        ]
        gate.wait_reached(2)
        # All have been accepted, and what waits has no file.
        wait_for(
            lambda: "pullthrough_fills_queued 4.0" in small.engine.get("/metrics").body.decode(), "four in the queue"
        )
        assert len(list(small.engine.data.glob("fills/sha256-*.json"))) == 2
        assert gate.reached == 2
        gate.open()
        for blob, download in zip(blobs, downloads, strict=True):
            assert download.rest() == blob.read()
            download.close()
        assert [corner.cost(blob) for blob in blobs] == [{"GET": 1}] * 6


def test_an_image_of_ten_thousand_layers_opens_no_more_than_a_small_one(tmp_path: Path, site: Site) -> None:
    with open_site(tmp_path, site.workers) as other:
        corner, gate = other.corner(), Gate()
        layers = tuple(make_blob(f"layer {number}", 100) for number in range(9990))
        image = corner.add(make_image("many", layers=layers))
        first, *others = image.blobs[1:]
        corner.script(Hang(gate))
        corner.upstream.script(Headers(), kind="blob", reference=first.digest)
        before = sum(map(open_files, other.pids))
        assert corner.get(first).body == first.read()
        gate.wait_reached(3)
        corner.wait_published(first)
        assert gate.reached == 3
        assert len(list(other.engine.data.glob("fills/sha256-*.json"))) == 3
        # Of each: a connection, the partial body, the locks on it and on its place among the three. And a few for all.
        assert sum(map(open_files, other.pids)) <= before + 3 * 5 + 20
        # A client that wants one of them waits for none.
        last = others[-1]
        corner.upstream.script(Headers(), kind="blob", reference=last.digest)
        assert corner.get(last).body == last.read()
        assert corner.cost(last) == {"GET": 1}
