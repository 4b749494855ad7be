"""Clients push to the registry's own repositories, and pull what they pushed, with one worker and with two."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.aws import Account, key_settings
from tests.e2e.clients import Podman, Skopeo
from tests.e2e.conftest import BUSYBOX, StartEngine, Stock, docker_hub
from tests.e2e.engine import Engine
from tests.e2e.registry import Registry


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def hub(request: pytest.FixtureRequest, engine: StartEngine, upstream: Registry, folder: Path) -> Engine:
    """An engine for which the stock is Docker Hub; whoever pushes logs in."""
    return engine(docker_hub(upstream, key_settings(folder, Account(""))), workers=request.param)


def password(hub: Engine) -> str:
    """What `aws ecr get-login-password` prints."""
    data = Account(hub.url).client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, secret = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    return secret


def tags(hub: Engine, repository: str) -> list[str]:
    found: list[str] = json.loads(hub.get(f"/v2/{repository}/tags/list").body)["tags"]
    return found


def test_skopeo_copies_from_the_cache_to_a_repository_of_its_own(folder: Path, stock: Stock, hub: Engine) -> None:
    skopeo = Skopeo(folder / "skopeo")
    source, mine = f"{hub.address}/docker-hub/{BUSYBOX}:1.35", f"{hub.address}/team/busybox"
    with pytest.raises(AssertionError, match=r"authentication required|unauthorized"):
        skopeo.copy(source, f"{mine}:1")
    skopeo.login(hub.address, "AWS", password(hub))
    skopeo.copy(source, f"{mine}:1")
    assert Skopeo(folder / "stranger").pull(f"{mine}:1", everything=True) == stock.busybox.digest
    skopeo.copy(f"{mine}:1", f"{hub.address}/team/other:2")
    assert skopeo.inspect(f"{hub.address}/team/other:2") == stock.busybox.digest
    with pytest.raises(AssertionError, match=r"is filled from registry-1\.docker\.io by the rule 'docker-hub'"):
        skopeo.copy(f"{mine}:1", f"{hub.address}/docker-hub/team/busybox:1")
    skopeo.delete(f"{mine}:1")
    assert tags(hub, "team/busybox") == []
    assert tags(hub, "team/other") == ["2"]


def test_podman_pushes_what_it_pulled_and_pulls_it_again(folder: Path, hub: Engine) -> None:
    podman = Podman(folder / "podman")
    source, mine = f"{hub.address}/docker-hub/{BUSYBOX}:1.35", f"{hub.address}/team/app:1"
    podman.pull(source)
    podman.tag(source, mine)
    podman.login(hub.address, "AWS", password(hub))
    pushed = podman.push(mine)
    assert podman.push(mine) == pushed, "all of it is there already"
    assert podman.pull(mine) == pushed
    hub.restart()
    assert podman.pull(f"{hub.address}/team/app@{pushed}") == pushed
    assert hub.get("/v2/team/app/manifests/1").headers["docker-content-digest"] == pushed
