"""The command line beside a running engine, and on its folder when it is stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e import images
from tests.e2e.clients import Builtin, Skopeo, pullthrough
from tests.e2e.conftest import BUSYBOX, SCHEMA2, StartEngine, Stock, docker_hub
from tests.e2e.engine import Engine
from tests.e2e.processes import environment, run
from tests.e2e.registry import Registry
from tests.programs import needs

MOVING = "acme/moving"


@pytest.mark.parametrize("workers", [1, 2])
def test_refresh_brings_a_moved_tag(folder: Path, upstream: Registry, engine: StartEngine, workers: int) -> None:
    busybox = Path(needs("busybox"))
    old, new = (images.image(images.busybox_layers(busybox, mark=f"{mark}{workers}")) for mark in ("old", "new"))
    upstream.push(MOVING, "1", old)
    hub = engine(docker_hub(upstream), workers=workers)
    skopeo, reference = Skopeo(folder / "skopeo"), f"{hub.address}/docker-hub/{MOVING}:1"
    assert skopeo.pull(reference) == old.digest

    upstream.push(MOVING, "1", new)
    assert skopeo.pull(reference) == old.digest, "a fresh tag is not checked"
    said = said_by(hub, "refresh", f"docker-hub/{MOVING}:1")
    assert (said["changed"], said["digest"]) == (True, new.digest)
    # Whichever worker answers, and however often it had the old one in memory.
    assert {skopeo.inspect(reference) for _ in range(6)} == {new.digest}
    assert skopeo.pull(reference) == new.digest


def test_check_finds_nothing_wrong_beside_an_engine_and_without_it(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine
) -> None:
    hub = engine(docker_hub(upstream))
    Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SCHEMA2}:1")
    live = said_by(hub, "check")
    assert (live["blobs"], live["manifests"], live["problems"]) == (4, 1, [])
    hub.stop()
    assert said_by(hub, "check") == live


def test_pin_and_evict_reach_the_running_engine(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine
) -> None:
    hub = engine(docker_hub(upstream))
    Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SCHEMA2}:1")
    assert said_by(hub, "pin", f"docker-hub/{SCHEMA2}:1")["pinned"] is True
    assert said_by(hub, "evict", "--dry-run")["evicted"] == []
    assert said_by(hub, "unpin", f"docker-hub/{SCHEMA2}:1")["pinned"] is False


def test_builtin_client_says_where_each_blob_came_from(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine
) -> None:
    hub = engine(docker_hub(upstream))
    client = Builtin(folder / "client")
    for outcomes in ({"miss", "joined", "hit"}, {"hit"}):
        said = client.report(f"docker.io/{BUSYBOX}:1.35", registry=hub.url)
        assert said["digest"] == stock.busybox.digest
        assert said["manifest_digest"] == stock.busybox.native.digest
        assert {blob["digest"] for blob in said["blobs"]} == {blob.digest for blob in stock.busybox.native.blobs}
        assert {blob["source"]["outcome"] for blob in said["blobs"]} <= outcomes
        assert {manifest["source"]["rule"] for manifest in said["manifests"]} == {"docker-hub"}


def test_engine_says_what_to_paste(folder: Path, engine: StartEngine) -> None:
    """Without any configuration of rules: the address, the five prefixes, and a pull command."""
    hub = engine()
    log = hub.log.read_text()
    for prefix in ("docker-hub", "github", "quay", "kubernetes", "ecr-public"):
        assert prefix in log
    assert f"{hub.address}/docker-hub/library/" in log
    assert hub.get("/healthz").status == 200


def test_second_engine_on_the_port_or_the_folder_is_refused(folder: Path, engine: StartEngine) -> None:
    hub = engine()
    for arguments, reason in (
        (("--listen", hub.address, "--data", str(folder / "other")), "in use"),
        (("--listen", "127.0.0.1:0", "--data", str(hub.data)), "lock|another"),
    ):
        with pytest.raises(AssertionError, match=reason):
            run([pullthrough(), "serve", *arguments], env=environment(folder))
    assert hub.get("/readyz").status == 200


def said_by(hub: Engine, *arguments: str) -> Mapping[str, object]:
    said: Mapping[str, object] = json.loads(hub.command(*arguments, "--json"))
    return said
