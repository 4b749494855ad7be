"""Every file of `examples/`: that the product takes it, and that what it tells clients leads where it says.

Those of clients go with `examples/pullthrough.toml`: the addresses and names that they ask for are resolved by its rules.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pullthrough.addressing.addresses import addresses
from pullthrough.engine.rules import RuleBook
from pullthrough.errors import ConfigurationError
from pullthrough.faces.distribution.routes import parse_path
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.names import canonical_host
from pullthrough.provision.model.accounts import placeholder_accounts
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.resources import ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.settings import Loaded, load_settings
from tests.programs import ROOT, needs

EXAMPLES = ROOT / "examples"
CONFIGURATION = EXAMPLES / "pullthrough.toml"
ENGINE = DeploymentTarget("123456789012", "us-east-1", "http://127.0.0.1:5000", is_engine=True, has_iam=False)

#: By file, where it is tried.
TRIED = {
    "containerd/certs.d/docker.io/hosts.toml": "here",
    "containerd/config.toml": "here",
    "containerd-with-path/certs.d/docker.io/hosts.toml": "here",
    "containers/registries.conf.d/50-pullthrough.conf": "here",
    "docker/daemon.json": "here",
    "pullthrough.toml": "here",
    "systemd/pullthrough.service": "tests/integration/test_service_unit.py",
    "terraform/main.tf": "tests/terraform/test_terraform.py",
    "terraform/provider-6.tf": "tests/terraform/test_terraform.py",
}
HOSTS_FILES = ("containerd", "containerd-with-path")


def test_each_of_them_is_tried() -> None:
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    assert found == set(TRIED)
    for file, where in TRIED.items():
        assert where == "here" or Path(file).parts[0] in (ROOT / where).read_text()


# --- pullthrough.toml


def loaded(path: Path = CONFIGURATION) -> Loaded:
    return load_settings(path, {"HOME": "/nowhere"}, {}, require_tokens=False)


def rules() -> RuleBook:
    return RuleBook(loaded().settings.rules)


def test_the_configuration_is_taken() -> None:
    settings = loaded().settings
    assert {rule.prefix for rule in settings.rules} >= {"docker-hub", "quay", "internal", "github"}
    target = rules().resolve(parse_name("internal/app")).literal
    assert (target.upstream, target.upstream_repository) == ("registry.example.com", "team/app")


def test_what_is_commented_out_is_taken_too(tmp_path: Path) -> None:
    """All of it at once: only what is not there, files and tokens, is said to be wrong."""
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", CONFIGURATION.read_text(), flags=re.MULTILINE)
    assert text.count("\n# ") < CONFIGURATION.read_text().count("\n# ") - 15
    path = tmp_path / "pullthrough.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        loaded(path)
    problems = raised.value.message.split("\n  - ")[1:]
    assert problems
    assert [problem for problem in problems if "/etc/pullthrough/" not in problem] == []


def test_its_declaration_is_one_that_an_engine_can_have() -> None:
    declaration = loaded().settings.declaration
    desired = build_desired(
        declaration, placeholder_accounts(declaration, ENGINE), Fingerprints(Path("/nowhere"), bytes), ENGINE
    )
    assert {rule.key.name for rule in desired.of(ResourceKind.RULE)} == {rule.prefix for rule in declaration.rules}
    assert "internal_registry" in {address.name for address in addresses(declaration, "127.0.0.1:5000")}


# --- clients


def parse_name(name: str) -> Any:
    return parse_path(f"/v2/{name}/manifests/latest").name


def hosts_of(folder: str) -> tuple[str, dict[str, Any]]:
    path = EXAMPLES / folder / "certs.d" / "docker.io" / "hosts.toml"
    text = path.read_text()
    assert text.startswith("# /etc/containerd/certs.d/docker.io/hosts.toml\n")
    return path.parent.name, tomllib.loads(text)


def listeners() -> Iterable[str]:
    serve = loaded().settings.serve
    return (serve.listen, *serve.mirrors)


@pytest.mark.parametrize("folder", HOSTS_FILES)
def test_containerd_asks_the_cache_for_what_docker_hub_has(folder: str) -> None:
    """As containerd makes a request of a host: its path behind `/v2`, or instead of it, and `ns`.

    https://github.com/containerd/containerd/blob/main/docs/hosts.md
    """
    registry, document = hosts_of(folder)
    ((url, host),) = document["host"].items()
    parts = urlsplit(url)
    assert parts.netloc in listeners()
    assert {"pull", "resolve"} == set(host["capabilities"])
    above = parts.path if host.get("override_path") else f"{parts.path}/v2"
    name = parse_path(f"{above}/library/nginx/manifests/latest").name
    assert name is not None
    targets = rules().resolve(name, ns=registry)
    assert ("registry-1.docker.io", "library/nginx") in {
        (target.upstream, target.upstream_repository) for target in targets.all
    }
    assert urlsplit(document["server"]).netloc == canonical_host(registry) == targets.literal.upstream


def test_containerd_looks_for_the_hosts_files_where_they_say_that_they_are() -> None:
    document = tomllib.loads((EXAMPLES / "containerd" / "config.toml").read_text())
    assert document["version"] == 2
    registry = document["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    assert registry == {"config_path": "/etc/containerd/certs.d"}


def test_containerd_takes_its_file() -> None:
    path = EXAMPLES / "containerd" / "config.toml"
    command = [needs("containerd"), "--config", str(path), "config", "dump"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    # Version 2 of containerd writes what it read in its own words.
    assert re.search(r"config_path = ['\"]/etc/containerd/certs\.d['\"]", done.stdout)


def test_podman_and_its_kind_ask_the_cache_by_the_prefix_of_a_rule() -> None:
    """https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md"""
    path = EXAMPLES / "containers" / "registries.conf.d" / "50-pullthrough.conf"
    entries = tomllib.loads(path.read_text())["registry"]
    assert {entry["prefix"] for entry in entries} == {"docker.io", "quay.io"}
    for entry in entries:
        assert entry["location"] == entry["prefix"]
        (mirror,) = entry["mirror"]
        host, _, prefix = mirror["location"].partition("/")
        assert (host in listeners(), mirror["insecure"]) == (True, True)
        target = rules().resolve(parse_name(f"{prefix}/prometheus/node-exporter")).literal
        assert (target.upstream, target.upstream_repository) == (
            canonical_host(entry["prefix"]),
            "prometheus/node-exporter",
        )


def test_docker_asks_the_mirror_listener_of_docker_hub() -> None:
    (mirror,) = json.loads((EXAMPLES / "docker" / "daemon.json").read_text())["registry-mirrors"]
    prefix = loaded().settings.serve.mirrors[urlsplit(mirror).netloc]
    target = rules().resolve(parse_name("library/nginx"), mirror=prefix).literal
    assert (target.upstream, target.upstream_repository) == ("registry-1.docker.io", "library/nginx")
