"""Rules made through the API lead to public addresses, unless the settings name the host; their answers tell no port."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.aws import unique
from tests.fakes.upstream import RawUpstream, ScriptedUpstream
from tests.integration.ecr import Site, open_site

#: Of this machine, as getaddrinfo understands them, and what class of address that is.
HERE = {
    "127.0.0.1": "loopback",
    "localhost": "loopback",
    "[::1]": "loopback",
    "[::ffff:127.0.0.1]": "loopback",
    "2130706433": "loopback",
    "0x7f000001": "loopback",
    "127.1": "loopback",
    "0.0.0.0": "unspecified",
    "[::]": "unspecified",
}


@dataclass(frozen=True)
class Place:
    site: Site
    ecr: Any
    #: One that [upstreams] names, one that a rule of the file names, and one that nobody does.
    named: ScriptedUpstream
    in_a_rule: RawUpstream
    unnamed: RawUpstream

    def rule(self, url: str, **more: str) -> str:
        """The prefix of a new rule."""
        prefix = unique("p")
        self.ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl=url, **more)
        return prefix

    def remove(self, prefix: str) -> None:
        self.ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix)

    def validate(self, prefix: str) -> str:
        """The failure; empty where there is none."""
        found = self.ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
        assert found["isValid"] is ("failure" not in found)
        return str(found.get("failure", ""))

    def answers(self, url: str) -> dict[str, tuple[int, str]]:
        """What a rule for this upstream is told, by every way that leads to the upstream."""
        prefix = self.rule(url)
        try:
            told = {"validate": (0, self.validate(prefix))}
            digest = "sha256:" + "0" * 64
            for path in ("manifests/1", f"blobs/{digest}", "tags/list", f"referrers/{digest}"):
                for method in ("GET", "HEAD"):
                    answer = self.site.engine.get(f"/v2/{prefix}/team/app/{path}", method=method)
                    message = json.loads(answer.body)["errors"][0]["message"] if method == "GET" else ""
                    told[f"{method} {path}"] = answer.status, message.replace(prefix, "PREFIX")
        finally:
            self.remove(prefix)
        return told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        named = stack.enter_context(ScriptedUpstream())
        in_a_rule, unnamed = stack.enter_context(RawUpstream(b"")), stack.enter_context(RawUpstream(b""))
        more = (
            f'[upstreams."{named.host}"]\nendpoint = "{named.url}"\nretries = 0\n'
            f'[rules.of-the-file]\nupstream = "{in_a_rule.host}"\n'
            '[upstreams."169.254.169.254"]\nretries = 0\n'
        )
        site = stack.enter_context(open_site(tmp_path_factory.mktemp("public"), 1, more=more))
        yield Place(site, site.client(), named, in_a_rule, unnamed)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("host", HERE)
def test_a_rule_for_this_machine_is_told_the_same_of_open_and_closed_ports(place: Place, host: str) -> None:
    told = []
    for port in (place.unnamed.port, closed_port()):
        answers = place.answers(f"{host}:{port}")
        told.append({what: (status, text.replace(str(port), "PORT")) for what, (status, text) in answers.items()})
    assert told[0] == told[1]
    assert place.unnamed.connections == 0
    failure = told[0].pop("validate")[1]
    assert failure.startswith("UPSTREAM_INVALID: ")
    for what, (status, text) in told[0].items():
        assert status == 502, what
        assert not text or f"it has a {HERE[host]} address, and the settings do not name {host}:PORT" in text
    assert f"it has a {HERE[host]} address" in failure
    assert f'name it in pullthrough.toml: [upstreams."{host}:PORT"]' in failure


@pytest.mark.parametrize("host", ["10.0.0.5:5000", "[::ffff:10.0.0.5]:5000", "[fd00::5]:5000", "0x0a000005:5000"])
def test_a_rule_for_the_neighbourhood_is_refused_at_once(place: Place, host: str) -> None:
    answers = place.answers(host)
    assert answers.pop("validate")[1].startswith("UPSTREAM_INVALID: ")
    assert {status for status, _ in answers.values()} == {502}
    assert all("it has a private address" in text for what, (_, text) in answers.items() if what.startswith("GET"))


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "metadata.google.internal"])
def test_a_rule_for_where_clouds_hand_out_credentials_is_refused_whoever_names_it(place: Place, host: str) -> None:
    answers = place.answers(host)
    assert "cloud metadata addresses are never connected to" in answers["validate"][1]
    assert {status for what, (status, _) in answers.items() if what != "validate"} == {502}


def test_a_rule_for_what_the_settings_name_works(place: Place) -> None:
    image = place.site.add("team/app")
    place.named.add("team/app", image, "latest")
    prefix = place.rule(place.named.host)
    try:
        assert place.validate(prefix) == ""
        assert place.site.pull(f"{prefix}/team/app").headers["docker-content-digest"] == image.digest
        for blob in image.blobs:
            assert place.site.engine.get(f"/v2/{prefix}/team/app/blobs/{blob.digest}").body == blob.read()
    finally:
        place.remove(prefix)


def test_what_the_settings_name_is_named_by_that_name_only(place: Place) -> None:
    before = place.named.requests.count()
    for host in ("localhost", "[::ffff:127.0.0.1]", "2130706433"):
        assert "it has a loopback address" in place.answers(f"{host}:{place.named.port}")["validate"][1]
    assert place.named.requests.count() == before


def test_a_rule_of_the_file_names_its_upstream_for_all_rules(place: Place) -> None:
    prefix = place.rule(place.in_a_rule.host)
    try:
        assert place.validate(prefix).startswith("UPSTREAM_UNREACHABLE: ")
    finally:
        place.remove(prefix)
    assert place.in_a_rule.connections == 1


def test_a_secret_goes_to_no_private_address(place: Place) -> None:
    text = json.dumps({"username": "acme", "accessToken": "s3cret-token"})
    secret = place.site.secret(unique("s"), text)
    prefix = place.rule(place.unnamed.host, credentialArn=secret)
    try:
        failure = place.validate(prefix)
        assert "it has a loopback address" in failure
        assert place.site.pull(f"{prefix}/team/app").status == 502
    finally:
        place.remove(prefix)
    assert place.unnamed.connections == 0
    assert "s3cret-token" not in failure + place.site.engine.log.read_text()
