"""Real clients where pulls are open and pushes are not: who has logged in pushes, who has not pulls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.aws import Account
from tests.e2e.clients import AwsCli, Podman, Skopeo
from tests.e2e.conftest import BUSYBOX, StartEngine, Stock, docker_hub
from tests.e2e.engine import Engine
from tests.e2e.registry import Registry


@pytest.fixture
def hub(engine: StartEngine, upstream: Registry) -> Engine:
    return engine(docker_hub(upstream))


def password(engine: Engine, folder: Path) -> str:
    key = json.loads(engine.command("keys", "show", "--json"))
    account = Account(engine.url, key["access_key_id"], key["secret_access_key"])
    return AwsCli(folder / "aws", account.environ).text("ecr", "get-login-password").strip()


def test_skopeo_pushes_once_it_has_logged_in(folder: Path, stock: Stock, hub: Engine) -> None:
    skopeo = Skopeo(folder / "skopeo")
    child = skopeo.pull(f"{hub.address}/docker-hub/{BUSYBOX}:1.35")
    copy = folder / "skopeo" / "copy-1"
    with pytest.raises(AssertionError, match=r"unauthorized|authentication required"):
        skopeo.push(copy, f"{hub.address}/own/busybox:1.35")
    skopeo.login(hub.address, "AWS", password(hub, folder))
    skopeo.push(copy, f"{hub.address}/own/busybox:1.35")
    assert skopeo.pull(f"{hub.address}/own/busybox:1.35") == child
    # Others still pull without.
    assert Skopeo(folder / "other").pull(f"{hub.address}/own/busybox:1.35") == child


def test_podman_pulls_without_a_login(folder: Path, stock: Stock, hub: Engine) -> None:
    assert Podman(folder / "podman").pull(f"{hub.address}/docker-hub/{BUSYBOX}:1.35")


def test_a_wrong_password_does_not_log_in(folder: Path, stock: Stock, engine: StartEngine, upstream: Registry) -> None:
    hub = engine(docker_hub(upstream), serve="pull_auth = true")
    skopeo = Skopeo(folder / "skopeo")
    with pytest.raises(AssertionError, match="invalid username/password"):
        skopeo.login(hub.address, "AWS", "wrong")
    with pytest.raises(AssertionError, match=r"unauthorized|authentication required"):
        skopeo.pull(f"{hub.address}/docker-hub/{BUSYBOX}:1.35")
