"""What each row promises, held against measurements made up here."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from pullthrough.client.reports import CacheStatus, FetchReport, ImagePart, PullReport
from pullthrough.demo.requests import RequestKind, RequestRecord
from pullthrough.demo.rows import (
    Measured,
    Promise,
    asks_nothing,
    broken_promises,
    no_blob_again,
    one_copy,
    refused,
    row_of,
    stale,
)
from pullthrough.demo.scenario import Played, print_table
from pullthrough.errors import PullthroughError, UpstreamThrottled, UpstreamUnavailable
from pullthrough.oci.digests import digest_of

DIGEST = digest_of(b"x")
THROTTLED = UpstreamThrottled("too many", upstream="r", retry_after_seconds=1)
DOWN = UpstreamUnavailable("down", upstream="r")


def report(outcome: str = "miss") -> PullReport:
    """A manifest of 10 bytes and a layer of 100."""
    source = CacheStatus(outcome)
    return PullReport(
        image="i",
        registry="r",
        platform="",
        digest=DIGEST,
        manifest_digest=DIGEST,
        manifests=(FetchReport(ImagePart.MANIFEST, DIGEST, 10, 1, 1, source),),
        blobs=(FetchReport(ImagePart.LAYER, DIGEST, 100, 1, 1, source),),
        seconds=1,
    )


def request(kind: RequestKind, sent: int, method: str = "GET") -> RequestRecord:
    return RequestRecord(method, "/", kind, bytes_sent=sent, status=200)


TOKEN, MANIFEST, BLOB = (
    request(RequestKind.TOKEN, 50),
    request(RequestKind.MANIFEST, 10),
    request(RequestKind.BLOB, 100),
)
CHALLENGE = RequestRecord("GET", "/", RequestKind.MANIFEST, bytes_sent=90, status=401)
CHECK = request(RequestKind.MANIFEST, 0, "HEAD")


def measured(pulls: Sequence[PullReport | PullthroughError], *requests: RequestRecord) -> Measured:
    return Measured(pulls, requests, 0.5)


@pytest.mark.parametrize(
    ("promise", "row"),
    [
        (one_copy, measured([report()], CHALLENGE, TOKEN, MANIFEST, BLOB)),
        (one_copy, measured([report(), report("joined")], MANIFEST, BLOB)),
        (asks_nothing, measured([report("hit")])),
        (no_blob_again, measured([report("hit")], CHECK, MANIFEST)),
        (stale, measured([report("stale")])),
        (refused, measured([THROTTLED], MANIFEST)),
    ],
)
def test_a_promise_that_was_kept_is_not_called_broken(promise: Promise, row: Measured) -> None:
    assert promise(row) == ""


@pytest.mark.parametrize(
    ("promise", "row", "words"),
    [
        (one_copy, measured([report()], MANIFEST, BLOB, BLOB), "2 blobs instead of 1"),
        (one_copy, measured([report()], MANIFEST, MANIFEST, BLOB), "2 manifests instead of 1"),
        (one_copy, measured([report()], MANIFEST, request(RequestKind.BLOB, 150)), "sent 160 bytes of an image of 110"),
        (one_copy, measured([report(), DOWN], MANIFEST, BLOB), "1 of 2 pulls failed"),
        (asks_nothing, measured([report("hit")], CHECK), "1 requests"),
        (asks_nothing, measured([DOWN]), "1 of 1 pulls failed"),
        (no_blob_again, measured([report("hit")], BLOB), "asked for blobs"),
        (stale, measured([report("hit")]), "No answer was called stale"),
        (refused, measured([report()]), "went through"),
        (refused, measured([DOWN]), "PT304 instead of 429"),
    ],
)
def test_a_promise_that_was_broken_is_named(promise: Promise, row: Measured, words: str) -> None:
    broken = promise(row)
    assert words in broken
    made = row_of("pull", "the moon", promise, row)
    assert broken_promises([made]) == [f"pull: promised the moon. {broken}"]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        (measured([report("hit")]), "verified: 2 hit"),
        (measured([report("joined"), report("miss")]), "2 verified: 2 miss, 2 joined"),
        (measured([THROTTLED]), "refused with 429"),
        (measured([DOWN]), "failed: down"),
        (measured([report(), THROTTLED]), "1 of 2 refused with 429"),
    ],
)
def test_the_outcome_is_what_the_clients_got(row: Measured, outcome: str) -> None:
    assert row_of("pull", "", lambda row: "", row).outcome == outcome


def test_a_row_is_json_with_every_request_by_kind() -> None:
    row = row_of("cold", "one copy", one_copy, measured([report()], TOKEN, CHECK, MANIFEST, BLOB))
    assert json.loads(json.dumps(row.to_dict())) == {
        "pull": "cold",
        "seconds": 0.5,
        "bytes_from_upstream": 160,
        "requests_to_upstream": 4,
        "requests": {"GET token": 1, "HEAD manifest": 1, "GET manifest": 1, "GET blob": 1},
        "clients": 1,
        "verified": 1,
        "sources": {"miss": 2},
        "errors": [],
        "promise": "one copy",
        "broken": None,
    }


def test_the_table_has_each_row_and_what_was_broken(capsys: pytest.CaptureFixture[str]) -> None:
    good = row_of("warm", "silence", asks_nothing, measured([report("hit")]))
    bad = row_of("cold", "one copy", one_copy, measured([report()], MANIFEST, BLOB, BLOB))
    print_table(Played((good,), 1.25))
    assert "All promises kept. Each number was measured in this run of 1.2 s." in capsys.readouterr().out
    print_table(Played((good, bad), 1.25))
    printed = capsys.readouterr().out
    assert "Promise broken: cold: promised one copy. The upstream was asked for 2 blobs instead of 1" in printed
    assert "All promises kept" not in printed
    assert [line.split() for line in printed.splitlines() if line.startswith((" warm", " cold"))] == [
        ["warm", "500ms", "0", "B", "0", "verified:", "2", "hit"],
        ["cold", "500ms", "210", "B", "3", "verified:", "2", "miss"],
    ]
