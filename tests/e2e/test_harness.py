"""The upstreams and clients of these tests, without an engine between them: what they say can be relied on."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.clients import Containerd, Crane, Dockerd, Podman, Skopeo
from tests.e2e.conftest import BUSYBOX, SCHEMA2, Stock
from tests.e2e.images import GREETING
from tests.e2e.registry import Registry, TokenServer


def test_registry_counts_what_skopeo_asks(folder: Path, stock: Stock, upstream: Registry) -> None:
    assert Skopeo(folder / "skopeo").pull(f"{upstream.address}/{SCHEMA2}:1") == stock.schema2.digest
    assert upstream.asked() == {"GET ping": 1, "GET manifest by tag": 1, "GET blob": 4}


def test_skopeo_copies_every_platform_of_an_index(folder: Path, stock: Stock, upstream: Registry) -> None:
    assert Skopeo(folder / "skopeo").pull(f"{upstream.address}/{BUSYBOX}:1.35", everything=True) == stock.busybox.digest


def test_podman_pulls_into_its_own_storage(folder: Path, stock: Stock, upstream: Registry) -> None:
    podman = Podman(folder / "podman", mirror=upstream.address)
    assert podman.pull(f"{upstream.address}/{SCHEMA2}:1") == stock.schema2.digest
    before = upstream.asked()["GET blob"]
    assert podman.pull_from_mirror(f"docker.io/{SCHEMA2}:1") == stock.schema2.digest
    assert upstream.asked()["GET blob"] - before == 4


def test_containerd_runs_what_it_pulled(folder: Path, stock: Stock, upstream: Registry) -> None:
    containerd = Containerd(folder / "containerd")
    with containerd.running():
        for _ in range(2):
            assert containerd.pull(f"{upstream.address}/{BUSYBOX}:1.35") == stock.busybox.digest
            assert containerd.run_image(f"{upstream.address}/{BUSYBOX}:1.35") == f"{GREETING}\n"
    assert upstream.asked()["GET blob"] == 2 * 4


def test_dockerd_asks_its_mirror(folder: Path, stock: Stock, upstream: Registry) -> None:
    dockerd = Dockerd(folder / "docker", mirror=upstream.url)
    with dockerd.running():
        for _ in range(2):
            assert dockerd.pull("busybox:1.35") == stock.busybox.digest
    assert upstream.asked()["GET blob"] == 2 * 4


def test_crane_pulls(folder: Path, stock: Stock, upstream: Registry) -> None:
    assert Crane(folder / "crane").pull(f"{upstream.address}/{SCHEMA2}:1") == stock.schema2.digest


def test_guarded_registry_wants_a_token(folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer) -> None:
    assert Skopeo(folder / "skopeo").pull(f"{guarded.address}/{SCHEMA2}:1") == stock.schema2.digest
    assert tokens.asked == {"anonymous repository:library/schema2:pull": 1}
    assert guarded.asked() == {"GET ping -> 401": 1, "GET manifest by tag": 1, "GET blob": 4}
