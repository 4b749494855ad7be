"""tags/list, referrers and _catalog: the upstream's, whole, bounded, and still there when the upstream is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest

from pullthrough.demo.images import make_artifact, make_image
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from tests.e2e.engine import Answer
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Action, Gate, Hang, Headers, HugeBody, Replace, ScriptedUpstream, Status
from tests.integration.lanes import Lane, Lanes, error_of, open_lanes

IMAGE = make_image("signed")
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom"
TAGS = [*(f"1.{number}" for number in range(30)), "latest", "Upper", "_under"]


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture(scope="module")
def opened(workers: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def lanes(workers: int, opened: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Lanes:
    """With an upstream that gives seven entries a page."""
    folder = tmp_path_factory.mktemp("lanes")
    upstream = ScriptedUpstream(page_entries=7)
    return opened.enter_context(open_lanes(folder, workers, 'stale_check_timeout = "300ms"', upstream))


def following(answer: Answer) -> str:
    """The address in the Link to the next page; empty on the last one."""
    link = answer.headers.get("link", "")
    return link.partition("<")[2].partition(">")[0]


def tags_of(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return list(json.loads(answer.body)["tags"])


def referrers_of(answer: Answer) -> set[str]:
    assert answer.headers["content-type"] == media_types.OCI_INDEX
    index = json.loads(answer.body)
    assert (index["schemaVersion"], index["mediaType"]) == (2, media_types.OCI_INDEX)
    return {entry["digest"] for entry in index["manifests"]}


def tagged(lane: Lane) -> Lane:
    lane.add(IMAGE, *TAGS)
    return lane


def test_all_pages_of_the_upstream_are_read_once_and_listed_sorted(lanes: Lanes) -> None:
    lane = tagged(lanes("fresh"))
    cold, warm = lane.list(), lane.list()
    assert (cold.outcome, warm.outcome) == ("miss", "hit")
    assert tags_of(cold) == tags_of(warm) == sorted(TAGS)
    assert json.loads(cold.body)["name"] == lane.name, "the name as it was asked for"
    assert lane.cost("tags") == {"GET": 5}


@pytest.mark.parametrize("n", [1, 4, 10, 33, 34, 5000])
def test_pages_followed_by_their_links_give_every_tag_once(lanes: Lanes, n: int) -> None:
    lane = tagged(Lane(lanes.engine, lanes.upstream, "fresh-0", "acme/paged"))
    found: list[str] = []
    path = f"/v2/{lane.name}/tags/list?n={n}"
    while path:
        answer = lanes.engine.get(path)
        assert len(tags_of(answer)) <= n
        found += tags_of(answer)
        path = following(answer)
    assert found == sorted(TAGS)


def test_last_and_zero_and_nonsense_in_the_query(lanes: Lanes) -> None:
    lane = tagged(lanes("fresh"))
    assert tags_of(lane.list("?n=2&last=1.29")) == ["1.3", "1.4"]
    assert tags_of(lane.list("?last=latest")) == []
    assert tags_of(lane.list("?last=a-tag-that-is-not-there&n=1")) == ["latest"]
    assert tags_of(lane.list("?n=0")) == []
    assert "link" not in lane.list("?n=0").headers
    for query in ("?n=-1", "?n=x", "?n=1.5", "?n=99999999999999999999"):
        assert error_of(lane.list(query))[0] == 400


def test_the_link_keeps_ns(lanes: Lanes) -> None:
    lane = tagged(lanes("fresh"))
    first = lanes.engine.get(f"/v2/{lane.repository}/tags/list?n=20&ns={lane.prefix}.example")
    assert first.headers["oci-namespace"] == f"{lane.prefix}.example"
    second = lanes.engine.get(following(first))
    assert tags_of(first) + tags_of(second) == sorted(TAGS)
    assert lane.cost("tags") == {"GET": 5}


def test_lists_grow_stale_as_tags_do_and_are_read_again(lanes: Lanes) -> None:
    behind, first = tagged(lanes("behind")), tagged(lanes("first"))
    for lane in (behind, first):
        assert lane.list().outcome == "miss"
        lane.add(IMAGE, "new")
    assert (first.list().outcome, tags_of(first.list())) == ("revalidated", sorted([*TAGS, "new"]))
    stale = behind.list()
    assert (stale.outcome, tags_of(stale)) == ("stale", sorted(TAGS))
    wait_for(lambda: "new" in tags_of(behind.list()), "the new tag")


def test_a_fresh_list_is_read_again_on_demand_but_not_all_the_time(lanes: Lanes) -> None:
    lane = tagged(lanes("fresh"))
    lane.list()
    for _ in range(3):
        assert lane.list(headers={"Cache-Control": "no-cache"}).outcome == "hit", "it was read just now"
    assert lane.cost("tags") == {"GET": 5}


def test_cached_lists_are_served_when_the_upstream_fails_hangs_or_forgets(lanes: Lanes) -> None:
    lane, gate = tagged(lanes("first")), Gate()
    artifact = make_artifact("s", subject=IMAGE)
    lane.add(artifact)
    lane.list()
    lane.referrers(IMAGE.digest)
    lane.script(Status(500), kind="tags")
    failed = lane.list()
    assert (failed.outcome, tags_of(failed)) == ("stale", sorted(TAGS))
    assert "answered 500" in failed.headers["x-cache"]
    asked = lane.cost("tags")
    assert {lane.list().outcome for _ in range(6)} == {"stale"}
    assert lanes.workers > 1 or lane.cost("tags") == asked, "it is left alone for a while"

    lane.script(Hang(gate), kind="referrers")
    hung = lane.referrers(IMAGE.digest)
    assert (hung.outcome, referrers_of(hung)) == ("stale", {artifact.digest})
    assert "did not answer within 0.3 s" in hung.headers["x-cache"]
    gate.open()

    gone = tagged(lanes("first"))
    gone.list()
    gone.upstream.remove_repository(gone.repository)
    assert (tags_of(gone.list()), gone.list().outcome) == (sorted(TAGS), "stale")


def test_with_the_upstream_gone_the_tags_that_were_pulled_are_listed(lanes: Lanes) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1", "2", "3")
    lane.script(Status(503), kind="tags")
    assert lane.list().status == 503, "there is nothing to show"

    for tag in ("2", "1"):
        assert lane.get(tag).status == 200
    listed = lane.list()
    assert (tags_of(listed), listed.outcome) == (["1", "2"], "stale")
    assert "only the tags that were pulled" in listed.headers["x-cache"]


def test_referrers_come_from_the_api_page_by_page_and_can_be_filtered(lanes: Lanes) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    signatures = [make_artifact(f"s{n}", subject=IMAGE, artifact_type=SIGNATURE) for n in range(9)]
    sbom = make_artifact("bom", subject=IMAGE, artifact_type=SBOM, annotations={"made": "today"})
    for artifact in (*signatures, sbom):
        lane.add(artifact)
    cold = lane.referrers(IMAGE.digest)
    assert referrers_of(cold) == {artifact.digest for artifact in (*signatures, sbom)}
    assert cold.outcome == "miss"
    filtered = lane.referrers(IMAGE.digest, f"?artifactType={quote(SBOM, safe='')}")
    assert referrers_of(filtered) == {sbom.digest}
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    [entry] = json.loads(filtered.body)["manifests"]
    assert (entry["artifactType"], entry["annotations"]) == (SBOM, {"made": "today"})
    assert referrers_of(lane.referrers(IMAGE.digest, "?artifactType=text/none")) == set()
    assert "oci-filters-applied" not in cold.headers
    assert lane.cost("referrers") == {"GET": 2}
    assert referrers_of(lane.referrers(digest_of(b"no image at all"))) == set()
    # What was found can be pulled, by its digest.
    assert lane.get(sbom.digest).body == sbom.manifest.body


@pytest.mark.parametrize("status", [404, 405, 400, 501])
def test_without_the_referrers_api_the_fallback_tag_is_read(lanes: Lanes, status: int) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    artifact = make_artifact("s", subject=IMAGE)
    lane.add(artifact)
    lane.upstream.add_fallback_tag(lane.repository, IMAGE.digest)
    lane.script(Status(status), kind="referrers")
    assert referrers_of(lane.referrers(IMAGE.digest)) == {artifact.digest}
    assert lane.referrers(IMAGE.digest).outcome == "hit"
    assert (lane.cost("referrers"), lane.cost()) == ({"GET": 1}, {"GET": 1})
    # Clients of before 1.1 ask for the tag themselves.
    tag = str(IMAGE.digest).replace(":", "-")
    assert {entry["digest"] for entry in json.loads(lane.get(tag).body)["manifests"]} == {artifact.digest}


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("tags", HugeBody(20 * 1024 * 1024)),
        ("referrers", HugeBody(5 * 1024 * 1024)),
        ("tags", Replace(b'{"tags": "all of them"}')),
        ("tags", Replace(b"<html>", "text/html")),
        ("tags", Replace(b'{"tags": [' + b'"a",' * 300_000 + b'"a"]}')),
        ("referrers", Replace(b'{"manifests": [' + b"[]," * 300_000 + b"1]}")),
        ("referrers", Replace(b'{"manifests": {}}')),
        ("tags", Headers({"Link": '</v2/x/tags/list?last=1.0&n=1>; rel="next"'})),
    ],
    ids=[
        "huge tags",
        "huge referrers",
        "no list",
        "a web page",
        "many tags",
        "many values",
        "no index",
        "a circle of pages",
    ],
)
def test_a_list_that_cannot_be_right_is_refused(lanes: Lanes, kind: str, action: Action) -> None:
    lane = tagged(lanes("fresh"))
    lane.script(action, kind=kind)
    answer = lane.list() if kind == "tags" else lane.referrers(IMAGE.digest)
    assert error_of(answer)[:2] == (502, "UNAVAILABLE")


def test_the_catalog_lists_what_is_cached_page_by_page(lanes: Lanes) -> None:
    names = []
    for letter in "abc":
        lane = Lane(lanes.engine, lanes.upstream, "fresh-0", f"catalog/{letter}")
        lane.add(IMAGE, "1")
        assert lane.get("1").status == 200
        names.append(lane.name)
    found: list[str] = []
    path = "/v2/_catalog?n=2"
    while path:
        answer = lanes.engine.get(path)
        page = json.loads(answer.body)["repositories"]
        assert len(page) <= 2
        found += page
        path = following(answer)
    assert found == sorted(found)
    assert set(names) <= set(found)
    assert json.loads(lanes.engine.get("/v2/_catalog").body)["repositories"] == found
    assert json.loads(lanes.engine.get("/v2/_catalog?n=0").body)["repositories"] == []
