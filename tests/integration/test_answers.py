"""Every answer says what it was: in its header, in one line of the log, and in the metrics of all workers together."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream, Status
from tests.integration.conftest import StartEngine
from tests.integration.lanes import Lanes, access_lines, sample, samples

IMAGE = make_image("app", layer_sizes=(200_000,))
LAYER = IMAGE.blobs[-1]
MANIFEST = "/v2/docker-hub/library/app/manifests/"

PROMISED = {
    "pullthrough_requests_total": {"kind", "outcome", "rule"},
    "pullthrough_client_bytes_total": {"rule"},
    "pullthrough_upstream_requests_total": {"upstream", "method", "status"},
    "pullthrough_upstream_bytes_total": {"upstream"},
    "pullthrough_fill_seconds_count": {"upstream"},
    "pullthrough_fills_active": set(),
    "pullthrough_fills_queued": set(),
    "pullthrough_rate_limit_remaining": {"upstream"},
    "pullthrough_upstream_healthy": {"upstream"},
    "pullthrough_disk_bytes": {"what"},
}


def test_the_header_names_outcome_rule_age_and_reason(lanes: Lanes) -> None:
    """Each outcome of a manifest, in the one form that docs/ promises."""
    fresh, behind, first = lanes("fresh"), lanes("behind"), lanes("first")
    for lane in (fresh, behind, first):
        lane.add(IMAGE, "1")
    seen = {
        answer.outcome: answer.headers["x-cache"]
        for answer in (
            fresh.get("1"),
            fresh.get("1"),
            *(behind.get("1") for _ in range(2)),
            *(first.get("1") for _ in range(2)),
            *(fresh.get("none") for _ in range(2)),
        )
    }
    assert set(seen) == {"miss", "hit", "stale", "revalidated", "none", "negative"}
    for outcome, text in seen.items():
        assert re.fullmatch(rf'{outcome}; rule=[a-z]+-\d+(; age=\d+)?(; reason="[ -!#-~]+")?', text), text
    assert "age=0" in seen["hit"]
    assert "reason" not in seen["hit"] + seen["miss"]
    for outcome in ("stale", "revalidated", "none", "negative"):
        assert "reason" in seen[outcome]


def test_log_and_metrics_agree_with_what_was_asked(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    upstream.add("library/app", IMAGE, "1")
    engine = start_engine()
    upstream.script(Status(503), kind="manifest", reference="broken")
    sent = 0
    asked: list[tuple[str, str, int, str]] = []
    for method, path in [
        *[("GET", MANIFEST + "1")] * 6,
        ("HEAD", MANIFEST + "1"),
        ("GET", f"{MANIFEST}{IMAGE.digest}"),
        ("GET", "/v2/app/manifests/1?ns=docker.io"),
        *[("GET", MANIFEST + "none")] * 2,
        ("GET", f"/v2/docker-hub/library/app/blobs/{LAYER.digest}"),
        ("HEAD", f"/v2/docker-hub/library/app/blobs/{LAYER.digest}"),
        ("GET", "/v2/docker-hub/library/app/tags/list"),
        ("GET", f"/v2/docker-hub/library/app/referrers/{IMAGE.digest}"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/"),
        ("GET", "/v2/nowhere/app/manifests/1"),
        ("PUT", MANIFEST + "1"),
        ("GET", "/v2/Bad%20Name/manifests/1"),
    ]:
        answer = engine.get(path, method=method, headers={"User-Agent": 'tester "1"'})
        asked.append((method, path, answer.status, answer.outcome or "none"))
        sent += len(answer.body) if answer.status == 200 and "docker-hub" in answer.headers.get("x-cache", "") else 0

    wait_for(lambda: len(access_lines(engine)) >= len(asked), "the access log")
    lines = access_lines(engine)
    assert Counter((line["method"], line["path"], line["status"], line["outcome"]) for line in lines) == Counter(asked)
    for line in lines:
        assert set(line) == {
            *("time", "client", "method", "path", "status", "bytes", "seconds", "kind", "outcome", "rule", "reason"),
            "agent",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))
        assert (line["client"], line["agent"]) == ("127.0.0.1", 'tester "1"')
        assert isinstance(line["seconds"], float)
    miss = next(line for line in lines if line["outcome"] == "miss" and line["kind"] == "manifest")
    assert (miss["rule"], miss["bytes"]) == ("docker-hub", len(IMAGE.manifest.body))

    text = engine.metrics()  # of whichever worker: all count
    for outcome in ("hit", "miss", "negative"):
        expected = sum(
            line["outcome"] == outcome and line["kind"] == "manifest" and line["rule"] == "docker-hub" for line in lines
        )
        labels = {"kind": "manifest", "outcome": outcome, "rule": "docker-hub"}
        assert sample(text, "pullthrough_requests_total", **labels) == expected
    assert sample(text, "pullthrough_client_bytes_total", rule="docker-hub") == sent
    upstreams = samples(text, "pullthrough_upstream_requests_total")
    assert sum(upstreams.values()) == len(upstream.requests)
    host = "registry-1.docker.io"
    assert sample(text, "pullthrough_upstream_requests_total", upstream=host, method="GET", status="404") == 1
    wait_for(
        lambda: sample(engine.metrics(), "pullthrough_fill_seconds_count", upstream=host) == len(IMAGE.blobs),
        "both fills, the second one by prefetch",
    )
    assert (
        sample(engine.metrics(), "pullthrough_upstream_bytes_total", upstream=host)
        >= upstream.requests.bytes_sent - 200
    )
    assert sample(text, "pullthrough_fills_active") == 0 or sample(engine.metrics(), "pullthrough_fills_active") == 0


def test_the_promised_metrics_are_there_with_their_labels_and_no_label_is_a_clients_choice(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    upstream.options = replace(upstream.options, rate_limit=50)
    upstream.set_pulls_left(50)
    upstream.add("library/app", IMAGE, "1")
    engine = start_engine(reach="retries = 0")
    engine.get(MANIFEST + "1")
    engine.get(f"/v2/docker-hub/library/app/blobs/{LAYER.digest}")
    upstream.stop()
    for number in range(12):
        engine.get(f"{MANIFEST}other-{number}")
        engine.get(f"/v2/docker-hub/made/up-{number}/manifests/1")
        engine.get(f"/v2/nowhere/made/up-{number}/manifests/1?ns=made-up-{number}.example")
        engine.get(f"/made/up-{number}")
    text = engine.metrics()
    for name, labels in PROMISED.items():
        found = samples(text, name)
        assert found, name
        assert {label for key in found for label, _ in key} == labels, name
    host = "registry-1.docker.io"
    assert sample(text, "pullthrough_rate_limit_remaining", upstream=host) == 49
    assert sample(text, "pullthrough_upstream_healthy", upstream=host) == 0
    assert sample(text, "pullthrough_upstream_requests_total", upstream=host, status="error") >= 5
    assert {value for ((_, value),) in samples(text, "pullthrough_disk_bytes")} == {"stored", "free", "total"}
    assert "made" not in text
    assert "other-" not in text
    assert "# HELP pullthrough_requests_total" in text
    state = json.loads(engine.get("/readyz").body)
    assert state["status"] == "ok", "it can serve what it has"


@pytest.mark.parametrize("which", ["misses", "off"])
def test_the_access_log_can_be_less(start_engine: StartEngine, upstream: ScriptedUpstream, which: str) -> None:
    upstream.add("library/app", IMAGE, "1")
    engine = start_engine(serve=f'access_log = "{which}"')
    for reference in ("1", "1", "1", "none", "none"):
        engine.get(MANIFEST + reference)
    engine.stop()  # writes what waits
    outcomes = Counter(line["outcome"] for line in access_lines(engine))
    assert outcomes == ({"miss": 1, "none": 1, "negative": 1} if which == "misses" else {})


def test_health_is_for_probes_and_not_in_the_log(lanes: Lanes) -> None:
    before = len(access_lines(lanes.engine))
    for path in ("/healthz", "/readyz", "/metrics"):
        assert lanes.engine.get(path).status == 200
        assert lanes.engine.get(path, method="HEAD").status == 200
    assert json.loads(lanes.engine.get("/healthz").body) == {"status": "ok"}
    lanes.engine.get("/v2/")
    wait_for(lambda: len(access_lines(lanes.engine)) > before, "the line of the ping")
    assert not {line["path"] for line in access_lines(lanes.engine)} & {"/healthz", "/readyz", "/metrics"}


def test_the_ping_says_what_this_is(lanes: Lanes) -> None:
    for path in ("/v2/", "/v2"):
        answer = lanes.engine.get(path)
        assert (answer.status, answer.body) == (200, b"{}")
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
