"""Isolation: bytes that are here for one repository say and give nothing to another, unless its own upstream does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pullthrough.demo.images import Blob, make_blob, make_image
from tests.e2e.engine import Answer, Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Close, Corrupt, Gate, Hang, ScriptedUpstream, Status, Throttle, Valve
from tests.integration.sites import HELD_BACK, Broken, Download, Site

SIZE = 300_000


@dataclass
class Two:
    """Rules `a` and `b` with an upstream each; both know repositories `acme/<name>`. `private` is `a` with an account."""

    engine: Engine
    a: ScriptedUpstream
    b: ScriptedUpstream
    workers: int
    number: int = 0

    def next(self) -> str:
        self.number += 1
        return f"acme/r{self.number}"

    def get(self, rule: str, name: str, blob: Blob, *, method: str = "GET") -> Answer:
        return self.engine.get(f"/v2/{rule}/{name}/blobs/{blob.digest}", method=method)

    def open(self, rule: str, name: str, blob: Blob, worker: int = 0, *, method: str = "GET") -> Download:
        site = Site(self.engine, self.a, self.workers, [])
        connection = site.connect(site.pids[worker % self.workers])
        path = f"/v2/{rule}/{name}/blobs/{blob.digest}"
        return Download(self.engine, path, method=method, connection=connection)

    def publish(self, rule: str, name: str, blob: Blob) -> None:
        assert self.get(rule, name, blob).body == blob.read()
        self.wait_granted(rule, name, blob)

    def wait_granted(self, rule: str, name: str, blob: Blob) -> None:
        """Without asking the engine, which might ask the upstream."""
        query = """SELECT 1 FROM repository_blobs JOIN repositories ON repositories.id = repository_id
                   WHERE name = ? AND digest = ?"""

        def granted() -> bool:
            with closing(sqlite3.connect(self.engine.data / "catalog.sqlite")) as catalog:
                return catalog.execute(query, (f"{rule}/{name}", blob.digest)).fetchone() is not None

        wait_for(granted, f"{rule}/{name} to be let read {blob.digest}")

    def name_in(self, rule: str, name: str, blob: Blob) -> None:
        """A manifest of that repository, in the cache, names the blob."""
        upstream = self.b if rule == "b" else self.a
        upstream.add(name, make_image(f"{rule}{name}", layers=(blob,)), "1")
        assert self.engine.get(f"/v2/{rule}/{name}/manifests/1").status == 200

    def cost(self, rule: str, blob: Blob) -> dict[str, int]:
        upstream = self.a if rule == "a" else self.b
        counts = {
            method: upstream.requests.count(kind="blob", reference=blob.digest, method=method)
            for method in ("GET", "HEAD")
        }
        return {method: count for method, count in counts.items() if count}


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with ScriptedUpstream() as a, ScriptedUpstream() as b:
        lines = ["standard_rules = false", "[serve]", f"workers = {request.param}", "prefetch = false"]
        for rule, upstream in (("a", a), ("b", b)):
            lines += [f"[rules.{rule}]", f'upstream = "{rule}.example"', 'negative = "never"']
            lines += [f'[upstreams."{rule}.example"]', f'endpoint = "{upstream.url}"', "retries = 0"]
        lines += ["[rules.private]", 'upstream = "a.example"', 'username = "ann"', 'access_token_env = "TOKEN"']
        engine = Engine(
            tmp_path_factory.mktemp("isolation") / "engine", "\n".join(lines), environ={"TOKEN": "anns-token"}
        )
        try:
            engine.start()
            yield Two(engine, a, b, request.param)
        finally:
            engine.end()


@pytest.fixture(autouse=True)
def _quiet(two: Two) -> Iterator[None]:
    yield
    two.a.clear_scripts()
    two.b.clear_scripts()


@pytest.fixture
def name(two: Two) -> str:
    return two.next()


@pytest.fixture
def blob(name: str) -> Blob:
    return make_blob(name, SIZE)


def test_a_stranger_gets_and_learns_nothing(two: Two, name: str, blob: Blob) -> None:
    two.name_in("a", name, blob)
    two.publish("a", name, blob)
    nowhere = make_blob("nowhere", SIZE)
    two.b.add(name, make_image("other"), "1")
    for method in ("HEAD", "GET"):
        here, missing = (two.get("b", name, each, method=method) for each in (blob, nowhere))
        assert here.status == missing.status == 404
        kept = {"content-type", "x-cache", "docker-distribution-api-version"}
        assert {key: here.headers[key].replace(blob.digest, "?") for key in kept} == {
            key: missing.headers[key].replace(nowhere.digest, "?") for key in kept
        }
        assert here.body.replace(blob.digest.encode(), b"?") == missing.body.replace(nowhere.digest.encode(), b"?")
    # As much as for what is really nowhere: what HEAD does not find is asked for by GET, too.
    assert two.cost("b", blob) == two.cost("b", nowhere) == {"HEAD": 1, "GET": 2}


def test_a_repository_that_names_the_blob_needs_one_word_of_its_own_upstream(two: Two, name: str, blob: Blob) -> None:
    two.name_in("a", name, blob)
    two.publish("a", name, blob)
    two.name_in("b", name, blob)
    for _ in range(2):
        answer = two.get("b", name, blob)
        assert (answer.status, answer.body) == (200, blob.read())
    assert two.cost("b", blob) == {"HEAD": 1}
    assert two.cost("a", blob) == {"GET": 1}


def test_naming_a_blob_is_not_enough(two: Two, name: str, blob: Blob) -> None:
    two.name_in("a", name, blob)
    two.publish("a", name, blob)
    two.name_in("b", name, blob)
    two.b.remove_blob(name, blob.digest)
    assert two.get("b", name, blob).status == 404
    assert two.get("b", name, blob, method="HEAD").status == 404


@pytest.mark.parametrize("code", [401, 403, 500])
def test_an_upstream_that_does_not_say_yes_says_no(two: Two, name: str, blob: Blob, code: int) -> None:
    two.name_in("a", name, blob)
    two.publish("a", name, blob)
    two.name_in("b", name, blob)
    two.b.script(Status(code), kind="blob", reference=blob.digest)
    assert two.get("b", name, blob).status in (403, 503)
    two.b.clear_scripts()
    assert two.get("b", name, blob).body == blob.read()


def test_a_repository_that_does_not_name_the_blob_pays_for_a_transfer_of_its_own(
    two: Two, name: str, blob: Blob
) -> None:
    two.name_in("a", name, blob)
    two.publish("a", name, blob)
    two.b.add(name, make_image(f"unseen {name}", layers=(blob,)), "1")
    for _ in range(2):
        assert two.get("b", name, blob).body == blob.read()
    two.wait_granted("b", name, blob)
    assert two.get("b", name, blob).outcome == "hit"
    assert two.cost("b", blob) == {"GET": 1}


@pytest.mark.parametrize("worker", [0, 1])
def test_during_the_fill_of_another_everybody_has_a_transfer_of_its_own(
    two: Two, name: str, blob: Blob, worker: int
) -> None:
    """The first upstream hangs; nobody of the second one waits for it, and not a byte of it is read."""
    valve = Valve(HELD_BACK + 1000)
    two.name_in("a", name, blob)
    two.name_in("b", name, blob)
    two.a.script(Throttle(valve), kind="blob", reference=blob.digest)
    with two.open("a", name, blob) as first:
        first.read(10)
        with two.open("b", name, blob, worker) as second:
            assert second.outcome == "miss"
            assert second.rest() == blob.read()
        two.wait_granted("b", name, blob)
        valve.let_all()
        assert first.rest() == blob.read(10)
    assert two.cost("a", blob) == {"GET": 1}
    assert two.cost("b", blob) == {"GET": 1}
    two.wait_granted("a", name, blob)
    assert two.get("b", name, blob).outcome == two.get("a", name, blob).outcome == "hit"


@pytest.mark.parametrize("worker", [0, 1])
def test_during_the_fill_of_another_a_stranger_waits_for_its_own_upstream(
    two: Two, name: str, blob: Blob, worker: int
) -> None:
    valve = Valve(HELD_BACK + 1000)
    two.name_in("a", name, blob)
    two.a.script(Throttle(valve), kind="blob", reference=blob.digest)
    with two.open("a", name, blob) as first:
        first.read(10)
        with two.open("b", name, blob, worker) as stranger:
            assert stranger.status == 401 or stranger.status in (403, 404)
        two.b.add(name, make_image(f"unseen {name}", layers=(blob,)), "1")
        with two.open("b", name, blob, worker) as owner:
            assert owner.rest() == blob.read()
        valve.let_all()
        assert first.rest() == blob.read(10)
    assert two.cost("a", blob) == {"GET": 1}
    assert two.cost("b", blob)["GET"] == 2


@pytest.mark.parametrize("claimed_bytes", [None, 5], ids=["unnamed", "named"])
def test_what_an_account_has_tells_a_stranger_no_size(two: Two, name: str, claimed_bytes: int | None) -> None:
    """Not even while the stranger's own upstream takes its time."""
    secret, nowhere = make_blob(name, SIZE), make_blob(f"nowhere {name}", SIZE)
    two.name_in("private", name, secret)
    two.publish("private", name, secret)
    told = []
    for number, blob in enumerate((secret, nowhere)):
        two.b.add(name, make_image("other"), "other")
        if claimed_bytes is not None:
            image = make_image(f"{name} {number}", layers=(replace(blob, size_bytes=claimed_bytes),))
            two.b.add(name, image)
            assert two.engine.get(f"/v2/b/{name}/manifests/{image.digest}").status == 200
        gate = Gate()
        two.b.script(Status(404), kind="blob", reference=blob.digest)
        two.b.script(Hang(gate), kind="blob", reference=blob.digest, method="GET", nth=1)
        with two.open("b", name, blob):
            gate.wait_reached()
            for worker in range(two.workers):
                with two.open("b", name, blob, worker, method="HEAD") as facts:
                    told.append(facts.headers["content-length"] if facts.status == 200 else facts.status)
            gate.open()
    assert told == [404 if claimed_bytes is None else str(claimed_bytes)] * 2 * two.workers


def test_what_another_left_unfinished_is_not_served(two: Two, name: str, blob: Blob) -> None:
    """A wrong byte of the first upstream must not reach a client of the second one."""
    two.name_in("a", name, blob)
    two.a.script(Status(403), kind="blob", reference=blob.digest)
    two.a.script(Corrupt(at=10), Close(200_000), kind="blob", reference=blob.digest, nth=1)
    with two.open("a", name, blob) as broken, pytest.raises(Broken):
        broken.rest()
    (partial,) = (two.engine.data / "fills").glob(f"{blob.digest.replace(':', '-')}@*[0-9a-f]")
    wait_for(lambda: f"{blob.digest} could not be filled" in two.engine.log.read_text(), "the end of the fill")
    assert partial.stat().st_size == 200_000
    two.name_in("b", name, blob)
    answer = two.get("b", name, blob)
    assert (answer.status, answer.body) == (200, blob.read())
    assert [record.range for record in two.b.requests.select(kind="blob", reference=blob.digest)] == [""]


def test_an_error_of_one_upstream_is_not_told_to_a_client_of_another(two: Two, name: str, blob: Blob) -> None:
    valve = Valve(1000)
    two.name_in("a", name, blob)
    two.name_in("b", name, blob)
    two.a.script(Throttle(valve), Close(1000), kind="blob", reference=blob.digest, nth=1)
    two.a.script(Status(404), kind="blob", reference=blob.digest, nth=range(2, 9))
    with two.open("a", name, blob) as first:
        two.a.requests.wait_for(lambda log: log.count(kind="blob", reference=blob.digest) >= 1)
        with two.open("b", name, blob, 1) as second:
            assert second.rest() == blob.read()
        first.close()


def test_the_path_of_a_partial_body_tells_nothing(tmp_path: Path, two: Two) -> None:
    assert two.engine.data.stat().st_mode & 0o077 == 0
