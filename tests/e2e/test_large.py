"""Sizes that break things: a layer beyond 2 GiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.clients import Builtin, Skopeo
from tests.e2e.conftest import BIG, StartEngine, docker_hub
from tests.e2e.images import Image
from tests.e2e.registry import Registry


@pytest.mark.slow
def test_layer_beyond_2_gib_arrives_whole_cold_and_warm(
    folder: Path, big: Image, upstream: Registry, engine: StartEngine
) -> None:
    """Each client checks the digest of what it got."""
    hub = engine(docker_hub(upstream))
    cold = {"GET manifest by tag": 1, "GET blob": 2}
    assert Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{BIG}:1") == big.digest
    assert upstream.asked() == cold
    assert Builtin(folder / "client").pull(f"docker-hub/{BIG}:1", registry=hub.url) == big.digest
    assert upstream.asked() == cold
