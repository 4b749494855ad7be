"""An upstream's connections are shared: an image that hangs leaves some to other images, a client some to other clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from pullthrough.demo.images import Blob, make_blob, make_image
from tests.fakes.upstream import Gate, Hang
from tests.integration.sites import Corner, Download, Site, open_site

SIZE = 1000
CONNECTIONS = 8
#: What one image has of them while nobody else wants any, and one client.
OF_ONE_IMAGE, OF_ONE_CLIENT = 5, 7


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("shares")
    reach = f'connections = {CONNECTIONS}\nstall_timeout = "10m"\nfirst_byte_timeout = "10m"'
    with open_site(folder, request.param, serve="prefetch = false", reach=reach) as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def image(corner: Corner, name: str, layers: int) -> tuple[Corner, tuple[Blob, ...]]:
    """Another repository of the corner's upstream, and the layers of its image."""
    blobs = tuple(make_blob(f"{corner.prefix} {name} {number}", SIZE + number) for number in range(layers))
    other = replace(corner, repository=f"{corner.repository}/{name}")
    other.add(make_image(f"{corner.prefix} {name}", layers=blobs))
    return other, blobs


def open_all(stack: ExitStack, corner: Corner, blobs: tuple[Blob, ...]) -> list[Download]:
    """At always the same worker: each has connections of its own."""
    pid = min(corner.site.pids)
    return [stack.enter_context(corner.open(blob, connection=corner.site.connect(pid))) for blob in blobs]


def test_an_image_whose_layers_all_hang_leaves_connections_to_other_images(corner: Corner) -> None:
    gate = Gate()
    with ExitStack() as stack:
        hanging, layers = image(corner, "hanging", CONNECTIONS)
        hanging.script(Hang(gate))
        downloads = open_all(stack, hanging, layers)
        gate.wait_reached(OF_ONE_IMAGE)
        for name in ("one", "two"):
            other, blobs = image(corner, name, 3)
            for blob, download in zip(blobs, open_all(stack, other, blobs), strict=True):
                assert download.rest() == blob.read()
                assert other.cost(blob) == {"GET": 1}
        # Those that came in between have left none behind for a sixth layer.
        assert gate.reached == OF_ONE_IMAGE
        gate.open()
        assert [download.rest() for download in downloads] == [blob.read() for blob in layers]
    assert [hanging.cost(blob) for blob in layers] == [{"GET": 1}] * CONNECTIONS


def hang_all(stack: ExitStack, corner: Corner, gate: Gate) -> list[tuple[Download, Blob]]:
    """Two images of one client, which has all connections that it may have then."""
    hanging: list[tuple[Download, Blob]] = []
    # One after the other: of two that grow together, each would leave more to the other.
    for name, reached in (("one", OF_ONE_IMAGE), ("two", OF_ONE_CLIENT)):
        each, layers = image(corner, name, CONNECTIONS)
        each.script(Hang(gate))
        hanging += zip(open_all(stack, each, layers), layers, strict=True)
        gate.wait_reached(reached)
    return hanging


def test_images_that_hang_together_leave_one_to_another_client(corner: Corner) -> None:
    """Of the same client a third image waits."""
    gate = Gate()
    with ExitStack() as stack:
        hanging = hang_all(stack, corner, gate)
        third, blobs = image(corner, "third", 1)
        hanging += zip(open_all(stack, third, blobs), blobs, strict=True)
        other, blobs = image(corner, "other", 3)
        for blob in blobs:
            connection = other.site.connect(min(other.site.pids), address="127.0.0.2")
            with other.open(blob, connection=connection) as download:
                assert download.rest() == blob.read()
        assert third.upstream.requests.count(kind="blob", repository=third.repository) == 0
        assert gate.reached == OF_ONE_CLIENT
        gate.open()
        for held, layer in hanging:
            assert held.rest() == layer.read()


def test_another_client_does_not_wait_in_the_line_of_one_that_wants_the_same(corner: Corner) -> None:
    """The first one waits for its own bodies, and could make whoever comes for the same blob wait for them too."""
    gate = Gate()
    with ExitStack() as stack:
        hanging = hang_all(stack, corner, gate)
        third, (blob,) = image(corner, "third", 1)
        hanging += zip(open_all(stack, third, (blob,)), (blob,), strict=True)
        connection = third.site.connect(min(third.site.pids), address="127.0.0.2")
        with third.open(blob, connection=connection) as download:
            assert download.rest() == blob.read()
        assert gate.reached == OF_ONE_CLIENT
        gate.open()
        for held, layer in hanging:
            assert held.rest() == layer.read()


def test_nor_for_an_answer_that_one_waits_for_behind_its_own_questions(corner: Corner) -> None:
    gate, pid = Gate(), min(corner.site.pids)
    image(corner, "asked", 1)
    corner.upstream.add(f"{corner.repository}/asked", make_image(f"{corner.prefix} wanted"), "wanted")
    path = f"/v2/{corner.prefix}/{corner.repository}/asked/manifests"
    corner.upstream.script(
        Hang(gate), kind="manifest", repository=f"{corner.repository}/asked", nth=range(1, 1 + OF_ONE_CLIENT)
    )
    with ExitStack() as stack:

        def ask(reference: str, address: str = "") -> Download:
            connection = corner.site.connect(pid, address=address)
            return stack.enter_context(Download(corner.engine, f"{path}/{reference}", connection=connection))

        for number in range(OF_ONE_CLIENT):
            ask(f"none-{number}")
        gate.wait_reached(OF_ONE_CLIENT)
        first, second = ask("wanted"), ask("wanted", "127.0.0.2")
        assert second.status == 200
        gate.open()
        assert first.rest() == second.rest()


def test_small_questions_do_not_wait_for_the_bodies_that_hang(corner: Corner) -> None:
    gate = Gate()
    with ExitStack() as stack:
        hanging, layers = image(corner, "hanging", CONNECTIONS)
        hanging.script(Hang(gate))
        open_all(stack, hanging, layers)
        gate.wait_reached(OF_ONE_IMAGE)
        other, (blob,) = image(corner, "other", 1)  # its manifest is fetched
        assert other.get(blob, method="HEAD").headers["content-length"] == str(SIZE)
        assert other.cost(blob) == {"HEAD": 1}
        gate.open()
