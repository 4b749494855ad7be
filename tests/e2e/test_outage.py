"""The reason for a cache: what was pulled once can be pulled when the upstream is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.clients import Containerd, Podman, Skopeo
from tests.e2e.conftest import BUSYBOX, SIGNED, StartEngine, Stock, docker_hub
from tests.e2e.images import GREETING
from tests.e2e.registry import Registry


@pytest.mark.parametrize("workers", [1, 2])
def test_pulls_go_on_without_the_upstream_after_a_restart(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine, workers: int
) -> None:
    hub = engine(docker_hub(upstream), workers=workers)
    skopeo, podman, containerd = Skopeo(folder / "skopeo"), Podman(folder / "podman"), Containerd(folder / "containerd")
    name = f"{hub.address}/docker-hub/{BUSYBOX}"
    index, child = stock.busybox.digest, stock.busybox.native.digest
    with containerd.running():
        assert skopeo.pull(f"{name}:1.35") == child
        assert podman.pull(f"{name}:1.35") == index
        assert containerd.pull(f"{name}:1.35") == index

        upstream.stop()
        hub.restart()

        for reference in (f"{name}:1.35", f"{name}@{index}"):
            assert skopeo.pull(reference) == child
            assert podman.pull(reference) == index
            assert containerd.pull(reference) == index
            assert containerd.run_image(reference) == f"{GREETING}\n"
        assert skopeo.pull(f"{name}@{child}") == child


def test_stale_tag_is_served_when_the_upstream_is_gone(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine
) -> None:
    """Even where the rule wants every answer checked first."""
    rule = '[rules.docker-hub]\nupstream = "registry-1.docker.io"\nfreshness = "always"\nrevalidate = "before"\n'
    hub = engine(docker_hub(upstream, rule))
    skopeo = Skopeo(folder / "skopeo")
    reference = f"{hub.address}/docker-hub/{BUSYBOX}:1.35"
    assert skopeo.pull(reference) == stock.busybox.native.digest
    assert hub.get(f"/v2/docker-hub/{BUSYBOX}/manifests/1.35").outcome == "revalidated"
    checked = upstream.asked()
    assert (checked["GET manifest by tag"], checked["HEAD manifest by tag"]) == (1, 1)
    upstream.stop()
    assert skopeo.pull(reference) == stock.busybox.native.digest
    assert hub.get(f"/v2/docker-hub/{BUSYBOX}/manifests/1.35").outcome == "stale"


def test_engine_starts_and_serves_what_it_has_without_any_upstream(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine
) -> None:
    upstream.stop()
    hub = engine(docker_hub(upstream))
    answer = hub.get(f"/v2/docker-hub/{SIGNED}/manifests/1")
    assert answer.status in {502, 503}
    assert b'"errors"' in answer.body
    upstream.start()
    assert Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SIGNED}:1") == stock.signed.digest
