"""Which upstream a name means: by prefix, by `ns`, by the listener, by ROOT. One store behind all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.e2e.processes import free_port
from tests.fakes.upstream import Gate, Hang, ScriptedUpstream, Status
from tests.integration.lanes import error_of

NGINX, APP, OTHER, SECRET = (make_image(seed) for seed in ("nginx", "app", "other", "secret"))
ALIASES = ("docker.io", "index.docker.io", "registry-1.docker.io", "DOCKER.IO", "docker.io:443")


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture(scope="module")
def hub() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as registry:
        registry.add("library/nginx", NGINX, "1")
        registry.add("acme/app", APP, "1")
        registry.add("acme/private", SECRET, "1")
        registry.add("team/sub/app", APP, "1")
        yield registry


@pytest.fixture(scope="module")
def quay() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as registry:
        registry.add("acme/app", OTHER, "1")
        yield registry


def _engine(folder: pytest.TempPathFactory, config: str) -> Engine:
    return Engine(folder.mktemp("engine") / "engine", config)


@pytest.fixture(scope="module")
def mirror() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def engine(
    workers: int, hub: ScriptedUpstream, quay: ScriptedUpstream, mirror: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    engine = _engine(
        tmp_path_factory,
        f"""
        standard_rules = false
        [serve]
        workers = {workers}
        [serve.mirrors]
        "{mirror}" = "docker-hub"
        [rules.docker-hub]
        upstream = "docker.io"
        freshness = "never"
        deny = ["acme/private"]
        [rules.quay]
        upstream = "quay.io"
        allow = ["acme/*"]
        [rules."docker-hub/team"]
        upstream = "registry-1.docker.io"
        upstream_repository_prefix = "team/sub"
        [upstreams."registry-1.docker.io"]
        endpoint = "{hub.url}"
        [upstreams."quay.io"]
        endpoint = "{quay.url}"
        """,
    )
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


def at(engine: Engine, name: str, query: str = "", *, reference: str = "1", what: str = "manifests") -> str:
    return f"/v2/{name}/{what}/{reference}{query}"


def test_one_repository_by_prefix_by_every_name_of_ns_and_by_the_mirror_costs_one_get(
    engine: Engine, hub: ScriptedUpstream, mirror: str
) -> None:
    hub.requests.clear()
    for name in ("docker-hub/library/nginx", "docker-hub/nginx"):
        assert engine.get(at(engine, name)).body == NGINX.manifest.body
    for ns in ALIASES:
        for name in ("library/nginx", "nginx"):
            answer = engine.get(at(engine, name, f"?ns={ns}"))
            assert (answer.status, answer.body) == (200, NGINX.manifest.body)
            assert answer.headers["oci-namespace"] == ns
            assert "rule=docker-hub" in answer.headers["x-cache"]
    at_mirror = _elsewhere(engine, mirror)
    for name in ("library/nginx", "nginx"):
        assert at_mirror.get(at(engine, name)).body == NGINX.manifest.body
    assert hub.requests.count(kind="manifest") == hub.requests.count(method="GET", repository="library/nginx") == 1


def test_the_same_name_of_two_upstreams_never_meets(engine: Engine, mirror: str) -> None:
    by_quay = [
        engine.get(at(engine, "quay/acme/app")),
        engine.get(at(engine, "acme/app", "?ns=quay.io")),
        _elsewhere(engine, mirror).get(at(engine, "acme/app", "?ns=quay.io")),
    ]
    assert {answer.body for answer in by_quay} == {OTHER.manifest.body}
    by_hub = [
        engine.get(at(engine, "docker-hub/acme/app")),
        engine.get(at(engine, "acme/app", "?ns=docker.io")),
        _elsewhere(engine, mirror).get(at(engine, "acme/app")),
    ]
    assert {answer.body for answer in by_hub} == {APP.manifest.body}
    # Not even by digest, though the bytes are here.
    answer = engine.get(at(engine, "quay/acme/app", reference=APP.digest))
    assert error_of(answer)[:2] == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    "ns", ["example.com", "quay.io.evil.example", "evil-docker.io", "docker.io@evil", "", "%00", "x" * 400]
)
def test_an_unknown_ns_is_404_whatever_the_name_begins_with(engine: Engine, hub: ScriptedUpstream, ns: str) -> None:
    hub.requests.clear()
    for name in ("library/nginx", "docker-hub/library/nginx", "quay/acme/app"):
        answer = engine.get(at(engine, name, f"?ns={ns}"))
        assert error_of(answer)[:2] == (404, "NAME_UNKNOWN")
        assert "oci-namespace" not in answer.headers
    assert len(hub.requests) == 0


def test_a_name_under_no_rule_says_which_prefixes_there_are(engine: Engine) -> None:
    for name in ("nginx", "library/nginx", "docker-hubs/library/nginx", "docker-hub"):
        status, code, message = error_of(engine.get(at(engine, name)))
        assert (status, code) == (404, "NAME_UNKNOWN")
        assert "docker-hub, docker-hub/team, quay" in message


def test_the_longest_prefix_wins_and_an_upstream_prefix_is_put_in_front(engine: Engine, hub: ScriptedUpstream) -> None:
    hub.requests.clear()
    assert engine.get(at(engine, "docker-hub/team/app")).body == APP.manifest.body
    assert {record.repository for record in hub.requests} == {"team/sub/app"}


def test_allow_and_deny_refuse_without_asking_upstream(
    engine: Engine, hub: ScriptedUpstream, quay: ScriptedUpstream
) -> None:
    hub.requests.clear()
    quay.requests.clear()
    for path in (
        at(engine, "docker-hub/acme/private"),
        at(engine, "acme/private", "?ns=docker.io"),
        at(engine, "quay/secret/app"),
        at(engine, "docker-hub/acme/private", what="tags", reference="list"),
        at(engine, "docker-hub/acme/private", what="blobs", reference=SECRET.blobs[0].digest),
        at(engine, "docker-hub/acme/private", what="referrers", reference=SECRET.digest),
    ):
        assert error_of(engine.get(path))[:2] == (403, "DENIED")
    assert len(hub.requests) == len(quay.requests) == 0


def test_a_missing_image_by_ns_still_says_its_namespace(engine: Engine) -> None:
    answer = engine.get(at(engine, "acme/app", "?ns=docker.io", reference="none"))
    assert error_of(answer)[:2] == (404, "MANIFEST_UNKNOWN")
    assert answer.headers["oci-namespace"] == "docker.io"


def test_a_mirror_serves_tags_blobs_and_referrers_as_the_prefix_does(engine: Engine, mirror: str) -> None:
    other = _elsewhere(engine, mirror)
    assert other.get("/v2/").status == other.get("/healthz").status == 200
    assert b'"name":"nginx"' in other.get(at(engine, "nginx", what="tags", reference="list")).body
    assert other.get(at(engine, "nginx", what="referrers", reference=NGINX.digest)).status == 200
    blob = NGINX.blobs[0]
    assert other.get(at(engine, "nginx", what="blobs", reference=blob.digest)).body == blob.body
    # It takes no prefix: that is a repository of the upstream.
    assert other.get(at(engine, "docker-hub/library/nginx")).status == 404


def _elsewhere(engine: Engine, listen: str) -> Engine:
    other = object.__new__(Engine)
    other.url = f"http://{listen}"
    return other


def test_ecr_style_mirrors_that_send_both_cost_one_look_up_and_survive_an_outage(
    workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """hosts.toml of a cache in ECR: the prefix stands in its path, and containerd adds `ns` all the same."""
    with ScriptedUpstream() as hub:
        hub.add("library/nginx", NGINX, "1", "2", "3", "4")
        hub.add("docker-hub/odd", OTHER, "1")
        engine = _engine(
            tmp_path_factory,
            f"""
            standard_rules = false
            [serve]
            workers = {workers}
            stale_check_timeout = "300ms"
            [rules.docker-hub]
            upstream = "docker.io"
            freshness = "1h"
            negative = "never"
            [upstreams."registry-1.docker.io"]
            endpoint = "{hub.url}"
            retries = 0
            """,
        )
        try:
            engine.start()

            def pull(tag: str, name: str = "docker-hub/library/nginx") -> str:
                answer = engine.get(at(engine, name, "?ns=docker.io", reference=tag))
                assert (answer.status, answer.body) == (200, NGINX.manifest.body)
                return answer.outcome

            # Docker Hub answers 401 for what it does not have; others 404.
            hub.script(Status(401), repository="docker-hub/library/nginx")
            assert pull("1") == "miss"
            assert [record.repository for record in hub.requests] == ["docker-hub/library/nginx", "library/nginx"]
            assert (pull("1"), pull("2"), pull("1")) == ("hit", "miss", "hit")
            blob = NGINX.blobs[0]
            path = at(engine, "docker-hub/library/nginx", "?ns=docker.io", what="blobs", reference=blob.digest)
            assert engine.get(path).body == blob.body
            assert hub.requests.count(repository="docker-hub/library/nginx") == 1, "the second pull costs no look-up"

            # The literal name comes first: where both exist, it is what was meant.
            answer = engine.get(at(engine, "docker-hub/odd", "?ns=docker.io"))
            assert answer.body == OTHER.manifest.body
            # In the cache by another name only, when the look-up hangs: what is cached is served.
            assert engine.get(at(engine, "docker-hub/nginx", reference="3")).status == 200
            gate = Gate()
            hub.script(Hang(gate), repository="docker-hub/nginx")
            assert pull("3", "docker-hub/nginx") == "hit"
            gate.open()

            hub.stop()
            assert (pull("1"), pull("2")) == ("hit", "hit")
            engine.restart()
            assert (pull("1"), pull("2"), pull("3", "docker-hub/nginx")) == ("hit", "hit", "hit")
        finally:
            engine.end()


def test_root_takes_what_no_prefix_takes_and_warns(
    workers: int, hub: ScriptedUpstream, quay: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = _engine(
        tmp_path_factory,
        f"""
        standard_rules = false
        [serve]
        workers = {workers}
        [rules.ROOT]
        upstream = "docker.io"
        [rules.quay]
        upstream = "quay.io"
        [upstreams."registry-1.docker.io"]
        endpoint = "{hub.url}"
        [upstreams."quay.io"]
        endpoint = "{quay.url}"
        """,
    )
    try:
        engine.start()
        hub.requests.clear()
        for name in ("nginx", "library/nginx"):
            assert engine.get(at(engine, name)).body == NGINX.manifest.body
        assert engine.get(at(engine, "nginx", "?ns=docker.io")).outcome == "hit"
        assert engine.get(at(engine, "quay/acme/app")).body == OTHER.manifest.body
        assert hub.requests.count(repository="library/nginx") == 1
        assert re.search(r"WARNING.*ROOT", engine.log.read_text())
    finally:
        engine.end()


def test_it_starts_without_any_upstream_and_serves_what_it_had(
    workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The node comes back after a power cut, and the line does not."""
    with ScriptedUpstream() as hub:
        hub.add("library/nginx", NGINX, "1")
        engine = _engine(
            tmp_path_factory,
            f"""
            [serve]
            workers = {workers}
            [rules.docker-hub]
            upstream = "docker.io"
            freshness = "always"
            stale_while_revalidate = "never"
            [upstreams."registry-1.docker.io"]
            endpoint = "{hub.url}"
            retries = 0
            """,
        )
        try:
            hub.stop()
            engine.start()
            assert engine.get("/readyz").status == 200
            assert len(hub.requests) == 0, "nothing is probed at start"
            assert engine.get(at(engine, "docker-hub/nginx")).status == 503
            hub.start()
            assert engine.get(at(engine, "docker-hub/nginx")).outcome == "miss"
            engine.get(at(engine, "docker-hub/nginx", what="tags", reference="list"))
            engine.get(at(engine, "docker-hub/nginx", what="referrers", reference=NGINX.digest))
            hub.stop()
            engine.restart()
            for reference, outcome in (("1", "stale"), (NGINX.digest, "hit")):
                answer = engine.get(at(engine, "docker-hub/nginx", reference=reference))
                assert (answer.body, answer.outcome) == (NGINX.manifest.body, outcome)
            assert engine.get(at(engine, "docker-hub/nginx", what="tags", reference="list")).outcome == "stale"
            answer = engine.get(at(engine, "docker-hub/nginx", what="referrers", reference=NGINX.digest))
            assert (answer.status, answer.outcome) == (200, "stale")
        finally:
            engine.end()
