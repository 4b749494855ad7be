"""One upstream that never ends an answer holds up nobody who asks another one, whatever it is asked for, and at that
upstream nobody but who asked for what hangs.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Thread

import pytest

from pullthrough.demo.images import Blob, Image, make_blob, make_image
from pullthrough.oci.digests import digest_of
from tests.aws import ACCOUNT_ID, REGION, Account
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Action, Gate, Hang, ScriptedUpstream
from tests.integration.sites import Download

#: Many more than the upstream has connections, than fills go at once, and than there are threads.
FLOOD = 40
CONNECTIONS = 4
KINDS = ("manifest", "manifest head", "digest", "blob", "range", "blob head", "tags", "referrers", "api", "refresh")


@dataclass
class Floods:
    """Rules `bad` and `good`, an upstream each, and a worker."""

    engine: Engine
    bad: ScriptedUpstream
    good: ScriptedUpstream
    cached: Image
    number: int = 0
    opened: list[Download] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)

    def upstream(self, rule: str) -> ScriptedUpstream:
        return self.bad if rule == "bad" else self.good

    def layers(self, rule: str, count: int) -> tuple[str, list[Blob]]:
        """A repository with an image of so many layers, whose manifest is cached."""
        self.number += 1
        name = f"layers/n{self.number}"
        layers = [make_blob(f"{rule} {self.number} {each}", 200_000) for each in range(count)]
        self.upstream(rule).add(name, make_image(f"{rule} {self.number}", layers=tuple(layers)), "1")
        assert self.engine.get(f"/v2/{rule}/{name}/manifests/1").status == 200
        return name, layers

    def requests(self, kind: str, rule: str, count: int) -> list[tuple[str, str, dict[str, str]]]:
        """Method, path and headers of different requests that each cost a question or a transfer."""
        self.number += 1
        many = [f"many/n{self.number}x{each}" for each in range(count)]
        if kind in ("blob", "range", "blob head"):
            name, layers = self.layers(rule, count)
            method = "HEAD" if kind == "blob head" else "GET"
            # A HEAD of what the manifest names is answered by that.
            where = f"other/{name}" if kind == "blob head" else name
            headers = {"Range": "bytes=100000-100099"} if kind == "range" else {}
            self.upstream(rule).add(where, make_image("other", layers=tuple(layers)), "1")
            return [(method, f"/v2/{rule}/{where}/blobs/{layer.digest}", headers) for layer in layers]
        images = {name: make_image(f"{rule} {name}") for name in many}
        for name, image in images.items():
            self.upstream(rule).add(name, image, "1")
        forced = {"Cache-Control": "no-cache"} if kind == "refresh" else {}
        paths = {
            "manifest": "manifests/1",
            "manifest head": "manifests/1",
            "refresh": "manifests/1",
            "tags": "tags/list",
            "referrers": f"referrers/{digest_of(b'subject')}",
        }
        return [
            (
                "HEAD" if kind == "manifest head" else "GET",
                f"/v2/{rule}/{name}/{paths.get(kind, f'manifests/{image.digest}')}",
                forced,
            )
            for name, image in images.items()
        ]

    def open(self, method: str, path: str, headers: dict[str, str], source: str = "127.0.0.1") -> Download:
        """Sent, and not waited for."""
        host, _, port = self.engine.address.partition(":")
        connection = socket.create_connection((host, int(port)), timeout=60, source_address=(source, 0))
        download = Download(self.engine, path, method=method, headers=headers, connection=connection)
        self.opened.append(download)
        return download

    def ask_api(self, rule: str, count: int) -> None:
        """BatchGetImage of names that are not cached, in threads."""
        ecr = Account(self.engine.url).client("ecr")
        self.number += 1
        for each in range(count):
            name = f"api/n{self.number}x{each}"
            self.upstream(rule).add(name, make_image(name), "1")

            def work(name: str = f"{rule}/{name}") -> None:
                ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "1"}])

            thread = Thread(target=work, daemon=True)
            thread.start()
            self.threads.append(thread)

    def close(self) -> None:
        for download in self.opened:
            download.socket.close()
        self.opened.clear()


@pytest.fixture(scope="module")
def engine_and_upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floods]:
    with ExitStack() as stack:
        bad, good = stack.enter_context(ScriptedUpstream()), stack.enter_context(ScriptedUpstream())
        lines = ["standard_rules = false", "[serve]", "workers = 1", "prefetch = false", "max_fills = 8"]
        lines += ["[ecr]", 'auth = "none"', f'account = "{ACCOUNT_ID}"', f'region = "{REGION}"']
        for rule, upstream in (("bad", bad), ("good", good)):
            lines += [f"[rules.{rule}]", f'upstream = "{rule}.example"', 'negative = "never"']
            lines += [f'[upstreams."{rule}.example"]', f'endpoint = "{upstream.url}"', "retries = 0"]
            lines += [f"connections = {CONNECTIONS}", 'first_byte_timeout = "10m"', 'stall_timeout = "10m"']
        engine = Engine(tmp_path_factory.mktemp("dripping") / "engine", "\n".join(lines))
        stack.callback(engine.end)
        engine.start()
        cached = make_image("cached")
        bad.add("team/cached", cached, "1")
        good.add("team/cached", cached, "1")
        for rule in ("bad", "good"):
            assert engine.get(f"/v2/{rule}/team/cached/manifests/1").status == 200
            for blob in cached.blobs:
                assert engine.get(f"/v2/{rule}/team/cached/blobs/{blob.digest}").status == 200
        wait_for(lambda: engine.get(f"/v2/bad/team/cached/blobs/{cached.blobs[0].digest}").outcome == "hit", "the fill")
        yield Floods(engine, bad, good, cached)


@pytest.fixture
def floods(engine_and_upstreams: Floods) -> Iterator[Floods]:
    yield engine_and_upstreams
    engine_and_upstreams.bad.clear_scripts()
    engine_and_upstreams.close()


def flood(floods: Floods, kind: str, gate: Gate, *more: Action) -> None:
    """Until all of the upstream's connections for it are held."""
    wanted = floods.requests(kind, "bad", FLOOD) if kind != "api" else []
    floods.bad.script(*more, Hang(gate), nth=None)
    for request in wanted:
        floods.open(*request)
    if kind == "api":
        floods.ask_api("bad", FLOOD)
    gate.wait_reached(3)  # what the last one of them may hold, nobody else gets


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_hangs_at_one_upstream_every_other_question_is_answered(floods: Floods, kind: str) -> None:
    gate = Gate()
    try:
        flood(floods, kind, gate)
        for other in KINDS:
            if other == "api":
                continue
            for method, path, headers in floods.requests(other, "good", 2):
                answer = floods.engine.get(path, method=method, headers=headers)
                assert answer.status in (200, 206), (other, answer)
        name = "team/api"
        floods.good.add(name, make_image(name), "1")
        found = (
            Account(floods.engine.url)
            .client("ecr")
            .batch_get_image(repositoryName=f"good/{name}", imageIds=[{"imageTag": "1"}])
        )
        assert len(found["images"]) == 1
        # What is cached of the bad one, and the engine's own answers.
        assert floods.engine.get("/v2/bad/team/cached/manifests/1").outcome == "hit"
        for blob in floods.cached.blobs:
            assert floods.engine.get(f"/v2/bad/team/cached/blobs/{blob.digest}").outcome == "hit"
        assert floods.engine.get("/healthz").status == 200
        assert json.loads(floods.engine.get("/v2/_catalog").body)["repositories"]
    finally:
        gate.open()
        for thread in floods.threads:
            thread.join()


@pytest.mark.parametrize("kind", ["manifest", "blob"])
def test_one_clients_hanging_requests_leave_a_connection_to_another_client(floods: Floods, kind: str) -> None:
    """Of the same upstream, for another image."""
    name, layers = floods.layers("bad", 1)
    floods.bad.add("team/fine", make_image("fine"), "1")
    wanted = floods.requests(kind, "bad", FLOOD)
    gate = Gate()
    script = (
        floods.bad.script(Hang(gate), repository=wanted[0][1].split("/", 3)[3].partition("/blobs")[0])
        if kind == "blob"
        else None
    )
    if script is None:
        for _, path, _ in wanted:
            floods.bad.script(Hang(gate), repository=path.split("/", 3)[3].partition("/manifests")[0])
    try:
        for request in wanted:
            floods.open(*request)
        gate.wait_reached(3)
        with floods.open("GET", "/v2/bad/team/fine/manifests/1", {}, source="127.0.0.2") as fine:
            assert fine.status == 200
            fine.rest()
        with floods.open("GET", f"/v2/bad/{name}/blobs/{layers[0].digest}", {}, source="127.0.0.2") as body:
            assert body.rest() == layers[0].read()
    finally:
        gate.open()


def test_slow_readers_of_one_client_hold_up_nobody(floods: Floods) -> None:
    """They do not read what they asked for: what fills go by is not how fast they are read."""
    name, layers = floods.layers("good", FLOOD)
    for layer in layers:
        floods.open("GET", f"/v2/good/{name}/blobs/{layer.digest}", {})
    name, (layer,) = floods.layers("good", 1)
    with floods.open("GET", f"/v2/good/{name}/blobs/{layer.digest}", {}, source="127.0.0.2") as body:
        assert body.rest() == layer.read()
