from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.client.answers import describe_error, refusal
from pullthrough.client.reports import CacheStatus, FetchReport, ImagePart, PullReport, parse_source, plain_text
from pullthrough.errors import (
    PullthroughError,
    RequestError,
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci.codes import ErrorCode, error_body
from pullthrough.oci.digests import digest_of


@pytest.mark.parametrize(
    ("header", "source"),
    [
        ("hit; rule=docker-hub; age=12s; fresh", CacheStatus("hit", "docker-hub", 12, "fresh")),
        ("miss; rule=docker-hub", CacheStatus("miss", "docker-hub")),
        ("joined", CacheStatus("joined")),
        (
            'stale; rule=ROOT; age=90000; reason="upstream unavailable; circuit open"',
            CacheStatus("stale", "ROOT", 90000, "upstream unavailable; circuit open"),
        ),
        ('joined; rule=quay; unverified; reason="range"', CacheStatus("joined", "quay", None, "unverified; range")),
        ('miss; reason="never closed; age=5', CacheStatus("miss", "", 5, "never closed")),
        ("revalidated;rule=quay;age=0", CacheStatus("revalidated", "quay", 0)),
        ("negative; age=soon", CacheStatus("negative")),
        ("something-new; rule=a", CacheStatus("something-new", "a")),
        ("HIT from squid", None),
        ("", None),
        (None, None),
    ],
)
def test_the_caches_header_is_understood(header: str | None, source: CacheStatus | None) -> None:
    assert parse_source(header) == source


@given(st.text())
def test_any_header_is_parsed_to_something_printable(header: str) -> None:
    source = parse_source(header)
    if source is not None:
        assert "".join((source.outcome, source.rule, source.reason)).isprintable()


@given(st.text())
def test_text_from_a_registry_is_printable_and_short(text: str) -> None:
    safe = plain_text(text)
    assert safe.isprintable()
    assert len(safe) <= 301


def test_a_terminal_escape_does_not_reach_the_terminal() -> None:
    assert plain_text("\x1b]0;owned\x07 ok") == "�]0;owned� ok"


@pytest.mark.parametrize(
    ("status", "kind", "temporary"),
    [
        (400, RequestError, False),
        (401, UpstreamDenied, False),
        (403, UpstreamDenied, False),
        (404, UpstreamNotFound, False),
        (405, RequestError, False),
        (429, UpstreamThrottled, True),
        (500, UpstreamUnavailable, True),
        (503, UpstreamUnavailable, True),
        (304, UpstreamInvalid, False),
    ],
)
def test_every_refusal_has_its_error_with_the_registrys_words(
    status: int, kind: type[PullthroughError], temporary: bool
) -> None:
    error = refusal(
        registry="127.0.0.1:5000",
        what="the manifest library/app:1",
        status=status,
        body=error_body(ErrorCode.MANIFEST_UNKNOWN, "no such thing"),
        retry_after="30",
    )
    assert type(error) is kind
    assert error.temporary is temporary
    assert f"127.0.0.1:5000 answered {status} for the manifest library/app:1" in error.message
    assert "MANIFEST_UNKNOWN: no such thing" in error.message


def test_a_401_says_that_no_credentials_are_sent() -> None:
    error = refusal(registry="r", what="x", status=401, body=b"", retry_after=None)
    assert "sends no credentials" in error.message
    assert error.hint


@pytest.mark.parametrize(("header", "seconds"), [("30", 30), (None, 0), ("soon", 0), ("-1", 0)])
def test_retry_after_is_taken_where_it_is_a_number(header: str | None, seconds: float) -> None:
    error = refusal(registry="r", what="x", status=429, body=b"", retry_after=header)
    assert isinstance(error, UpstreamThrottled)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"errors": [{"code": "A", "message": "b"}, {"code": "C"}]}', "A: b; C"),
        (b'{"errors": [{}]}', ""),
        (b'{"errors": [1, null]}', ""),
        (b'{"errors": {}}', ""),
        (b"[]", ""),
        (b"<html>", ""),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
    ],
)
def test_errors_in_other_forms_are_left_out(body: bytes, said: str) -> None:
    assert describe_error(body) == said


@given(st.binary(max_size=200))
def test_any_body_can_be_described(body: bytes) -> None:
    assert describe_error(body).isprintable()


def test_a_report_is_json_with_exact_integers() -> None:
    fetched = FetchReport(ImagePart.LAYER, digest_of(b"x"), 1, 0.5, 0.25, CacheStatus("hit", "docker-hub", 3, "fresh"))
    report = PullReport(
        image="library/app",
        registry="http://127.0.0.1:5000/",
        platform="",
        digest=digest_of(b"m"),
        manifest_digest=digest_of(b"m"),
        manifests=(FetchReport(ImagePart.MANIFEST, digest_of(b"m"), 10, 0.1, 0.1, None),),
        blobs=(fetched,),
        seconds=1.0,
    )
    document = json.loads(json.dumps(report.to_dict()))
    assert document["bytes"] == 11
    assert document["platform"] is None
    assert document["manifests"][0]["source"] is None
    assert document["blobs"] == [
        {
            "part": "layer",
            "digest": str(digest_of(b"x")),
            "bytes": 1,
            "seconds": 0.5,
            "first_byte_seconds": 0.25,
            "source": {"outcome": "hit", "rule": "docker-hub", "age_seconds": 3, "reason": "fresh"},
        }
    ]
