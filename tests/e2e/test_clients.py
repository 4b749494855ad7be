"""Every client, cold and warm, with one worker and with two: what it gets, and what that costs upstream.

The image is an index; a client fetches it, its own platform's manifest, a config and three layers.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.clients import Builtin, Containerd, Crane, Dockerd, Podman, Skopeo, write_hosts
from tests.e2e.conftest import BUSYBOX, DEBIAN, SCHEMA2, StartEngine, Stock, docker_hub
from tests.e2e.engine import Engine
from tests.e2e.images import GREETING, Image
from tests.e2e.processes import free_port, wait_for
from tests.e2e.registry import Registry

COLD = Counter({"GET manifest by tag": 1, "GET manifest by digest": 1, "GET blob": 4})


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
def hub(engine: StartEngine, upstream: Registry, workers: int) -> Engine:
    """An engine for which the stock is Docker Hub."""
    return engine(docker_hub(upstream), workers=workers)


def assert_asked(upstream: Registry, expected: Counter[str]) -> None:
    """Exactly this, once what goes on behind an answer has come to its end."""
    wait_for(lambda: upstream.asked().total() >= expected.total(), f"{expected} upstream")
    assert upstream.asked() == expected


def assert_cold_then_warm(
    upstream: Registry, pull: Callable[[], str], digest: str, *, cold: Counter[str] = COLD
) -> None:
    """The first pull asks upstream for each thing once, the second for nothing; both get the upstream's digest."""
    assert pull() == digest
    assert_asked(upstream, cold)
    assert pull() == digest
    assert upstream.asked() == cold


def test_skopeo_by_prefix(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    skopeo = Skopeo(folder / "skopeo")
    child = stock.busybox.native.digest  # of an index skopeo copies one platform, and so gets that one's digest
    assert_cold_then_warm(upstream, lambda: skopeo.pull(f"{hub.address}/docker-hub/{BUSYBOX}:1.35"), child)


def test_skopeo_copies_every_platform(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    skopeo = Skopeo(folder / "skopeo")
    assert_cold_then_warm(
        upstream,
        lambda: skopeo.pull(f"{hub.address}/docker-hub/{BUSYBOX}:1.35", everything=True),
        stock.busybox.digest,
        cold=Counter(
            {
                "GET manifest by tag": 1,
                "GET manifest by digest": len(stock.busybox.children),
                "GET blob": len(stock.busybox.everything),
            }
        ),
    )


def test_skopeo_gets_docker_schema_2_unchanged(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    skopeo = Skopeo(folder / "skopeo")
    assert_cold_then_warm(
        upstream,
        lambda: skopeo.pull(f"{hub.address}/docker-hub/{SCHEMA2}:1"),
        stock.schema2.digest,
        cold=Counter({"GET manifest by tag": 1, "GET blob": 4}),
    )


def test_reading_a_manifest_transfers_no_layer(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    skopeo = Skopeo(folder / "skopeo")
    assert_cold_then_warm(
        upstream,
        lambda: skopeo.inspect(f"{hub.address}/docker-hub/{BUSYBOX}:1.35"),
        stock.busybox.digest,
        cold=Counter({"GET manifest by tag": 1}),
    )


def test_official_image_without_library_is_the_same(
    folder: Path, stock: Stock, upstream: Registry, hub: Engine
) -> None:
    skopeo = Skopeo(folder / "skopeo")
    child = stock.busybox.native.digest
    assert skopeo.pull(f"{hub.address}/docker-hub/busybox:1.35") == child
    assert skopeo.pull(f"{hub.address}/docker-hub/{BUSYBOX}:1.35") == child
    assert_asked(upstream, COLD)


def test_podman_by_prefix(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    podman = Podman(folder / "podman")
    reference = f"{hub.address}/docker-hub/{BUSYBOX}:1.35"
    assert_cold_then_warm(upstream, lambda: podman.pull(reference), stock.busybox.digest)


def test_podman_by_mirror_of_registries_conf(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    podman = Podman(folder / "podman", mirror=f"{hub.address}/docker-hub")
    reference = f"docker.io/{BUSYBOX}:1.35"
    assert_cold_then_warm(upstream, lambda: podman.pull_from_mirror(reference), stock.busybox.digest)


def test_containerd_by_prefix(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    containerd = Containerd(folder / "containerd")
    reference = f"{hub.address}/docker-hub/{BUSYBOX}:1.35"
    with containerd.running():
        assert_cold_then_warm(upstream, lambda: containerd.pull(reference), stock.busybox.digest)
        assert containerd.run_image(reference) == f"{GREETING}\n"


def test_containerd_by_hosts_dir(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    """The host alone in hosts.toml: the name comes as it is, and `ns=docker.io` says whose it is."""
    containerd = Containerd(folder / "containerd")
    hosts = write_hosts(folder / "hosts", "docker.io", hub.url)
    reference = f"docker.io/{BUSYBOX}:1.35"
    with containerd.running():
        assert_cold_then_warm(upstream, lambda: containerd.pull(reference, hosts=hosts), stock.busybox.digest)
        assert containerd.run_image(reference) == f"{GREETING}\n"


def test_containerd_by_hosts_dir_with_path(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    """As ECR's users write it: prefix and `ns` both. The literal name is asked for once, and found absent once."""
    containerd = Containerd(folder / "containerd")
    hosts = write_hosts(folder / "hosts", "docker.io", hub.url, path="/v2/docker-hub")
    reference = f"docker.io/{BUSYBOX}:1.35"
    with containerd.running():
        assert_cold_then_warm(
            upstream,
            lambda: containerd.pull(reference, hosts=hosts),
            stock.busybox.digest,
            cold=COLD + Counter({"GET manifest by tag -> 404": 1}),
        )


def test_dockerd_by_mirror_listener(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine, workers: int
) -> None:
    mirror = f"127.0.0.1:{free_port()}"
    engine(docker_hub(upstream), serve=f'mirrors = {{ "{mirror}" = "docker-hub" }}', workers=workers)
    dockerd = Dockerd(folder / "docker", mirror=f"http://{mirror}")
    with dockerd.running():
        assert_cold_then_warm(upstream, lambda: dockerd.pull("busybox:1.35"), stock.busybox.digest)


def test_crane_by_prefix(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    crane = Crane(folder / "crane")
    repository = f"{hub.address}/docker-hub/{SCHEMA2}"
    assert_cold_then_warm(
        upstream,
        lambda: crane.pull(f"{repository}:1"),
        stock.schema2.digest,
        cold=Counter({"GET manifest by tag": 1, "GET blob": 4}),
    )
    assert crane.digest(f"{repository}:1") == stock.schema2.digest
    assert crane.tags(repository) == ["1"]


def test_builtin_client_by_prefix(folder: Path, stock: Stock, upstream: Registry, hub: Engine) -> None:
    client = Builtin(folder / "client")
    assert_cold_then_warm(
        upstream,
        lambda: client.pull(f"docker-hub/{BUSYBOX}:1.35", registry=hub.url),
        stock.busybox.digest,
    )


@pytest.mark.slow
def test_all_clients_at_once_cost_one_transfer(
    folder: Path, debian: Image, upstream: Registry, engine: StartEngine, workers: int
) -> None:
    mirror = f"127.0.0.1:{free_port()}"
    hub = engine(docker_hub(upstream), serve=f'mirrors = {{ "{mirror}" = "docker-hub" }}', workers=workers)
    reference = f"{hub.address}/docker-hub/{DEBIAN}:12"
    containerd, dockerd = Containerd(folder / "containerd"), Dockerd(folder / "docker", mirror=f"http://{mirror}")
    pulls: list[Callable[[], str]] = [
        lambda: Skopeo(folder / "skopeo").pull(reference),
        lambda: Podman(folder / "podman").pull(reference),
        lambda: containerd.pull(reference),
        lambda: dockerd.pull("debian:12"),
        lambda: Builtin(folder / "client").pull(f"docker-hub/{DEBIAN}:12", registry=hub.url),
    ]
    got: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(containerd.running())
        stack.enter_context(dockerd.running())
        threads = [threading.Thread(target=lambda pull=pull: got.append(pull())) for pull in pulls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [debian.digest] * len(pulls)
        assert containerd.run_image(reference) == f"{GREETING}\n"
    assert upstream.asked() == {"GET manifest by tag": 1, "GET blob": 2}
