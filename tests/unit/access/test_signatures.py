"""Signature Version 4: what botocore signs is taken; whatever was changed, is old, or is for somewhere else is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.access.logins.canonical_requests import SignedRequest
from pullthrough.access.logins.signatures import ApiDenied, read_claim

KEY_ID, SECRET, REGION = "AKIAEXAMPLE", b"hunter2hunter2", "us-east-1"
BODY = b'{"repositoryNames": ["a"]}'
MINUTE = 60.0
TARGET = "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories"


@dataclass(frozen=True)
class Sent(SignedRequest):
    body: bytes

    @property
    def body_sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def sign(
    *,
    method: str = "POST",
    url: str = "http://127.0.0.1:5000/",
    headers: dict[str, str] | None = None,
    body: bytes = BODY,
    secret: bytes = SECRET,
    service: str = "ecr",
    region: str = REGION,
    token: str | None = None,
    presigned: int | None = None,
) -> tuple[Sent, float]:
    """A request as botocore signs it now, and when that was."""
    credentials = Credentials(KEY_ID, secret.decode(), token)
    request = AWSRequest(method, url, headers={"X-Amz-Target": TARGET} if headers is None else headers, data=body)
    signer: Any = SigV4Auth(credentials, service, region)
    if presigned is not None:
        signer = SigV4QueryAuth(credentials, service, region, expires=presigned)
    signer.add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    pairs = [(name, value.decode() if isinstance(value, bytes) else value) for name, value in prepared.headers.items()]
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.append(("Host", parts.netloc))
    # The signature says when it was made, to the second.
    stamp = request.context["timestamp"]
    signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    return Sent(method, parts.path or "/", parts.query, pairs, body), signed_at


def verify(request: Sent, now: float, *, secret: bytes = SECRET, service: str = "ecr", region: str = REGION) -> str:
    """As Authenticator.authenticate_api does it; the key's id."""
    claim = read_claim(request, service)
    claim.check_scope(region, service)
    claim.check_time(now, service)
    claim.verify(request, request.body_sha256, secret, service)
    return claim.access_key_id


def refusal(request: Sent, now: float, **more: Any) -> ApiDenied:
    with pytest.raises(ApiDenied) as caught:
        verify(request, now, **more)
    return caught.value


def with_header(request: Sent, name: str, value: str | None) -> Sent:
    """`None` takes it away."""
    rest = [(n, v) for n, v in request.headers if n.lower() != name.lower()]
    return replace(request, headers=rest if value is None else [*rest, (name, value)])


def header(request: SignedRequest, name: str) -> str:
    return next(value for n, value in request.headers if n.lower() == name.lower())


# What is right


@pytest.mark.parametrize("service", ["ecr", "secretsmanager", "sts"])
def test_what_botocore_signs_is_verified(service: str) -> None:
    request, now = sign(service=service)
    assert verify(request, now, service=service) == KEY_ID


def test_a_presigned_url_is_verified() -> None:
    request, now = sign(
        method="GET",
        url="http://127.0.0.1:5000/?Action=GetCallerIdentity&Version=2011-06-15",
        headers={},
        body=b"",
        service="sts",
        presigned=900,
    )
    assert verify(request, now + 899, service="sts") == KEY_ID


def test_a_body_hash_that_is_given_is_checked() -> None:
    request, now = sign(headers={"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()})
    assert verify(request, now) == KEY_ID


def test_the_date_may_be_in_the_date_header() -> None:
    request, now = sign(headers={"Date": "Sat, 31 Jan 2026 12:00:00 GMT"})
    assert "x-amz-date" not in {name.lower() for name, _ in request.headers}
    assert verify(request, now) == KEY_ID


@given(
    st.lists(st.text("ab~/-_. %é+=&", max_size=6), max_size=4),
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4),
    st.dictionaries(
        st.from_regex(r"x-[a-z]{1,6}", fullmatch=True),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
        max_size=3,
    ),
    st.binary(max_size=20),
)
def test_odd_paths_queries_and_headers_are_signed_as_botocore_signs_them(
    segments: list[str], query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    path = "/".join(quote(segment, safe="/") for segment in segments)
    text = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    url = f"http://registry.example:5000/{path}" + (f"?{text}" if text else "")
    # Spaces at the ends of a header's value do not reach a server.
    request, now = sign(url=url, headers={name: value.strip() for name, value in headers.items()}, body=body)
    assert verify(request, now) == KEY_ID


def test_a_claim_is_read_from_the_head_alone() -> None:
    """So that a request can be refused before its body is read."""
    request, _ = sign(headers={"X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()})
    assert read_claim(replace(request, body=b"another"), "ecr").access_key_id == KEY_ID


# What was changed


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r: replace(r, body=r.body + b" "), id="the body"),
        pytest.param(lambda r: replace(r, body=b""), id="no body"),
        pytest.param(lambda r: replace(r, method="PUT"), id="the method"),
        pytest.param(lambda r: replace(r, raw_path="/other"), id="the path"),
        pytest.param(lambda r: replace(r, raw_query="a=b"), id="the query"),
        pytest.param(lambda r: with_header(r, "X-Amz-Target", TARGET.replace("Describe", "Delete")), id="a header"),
        pytest.param(lambda r: with_header(r, "Host", "elsewhere.example"), id="the host"),
    ],
)
def test_a_changed_request_is_refused(change: Callable[[Sent], Sent]) -> None:
    request, now = sign()
    error = refusal(change(request), now)
    assert (error.code, error.status) == ("InvalidSignatureException", 400)
    assert error.message.startswith("The request signature we calculated does not match the signature you provided.")


def test_another_secret_is_refused_in_the_words_of_each_protocol() -> None:
    request, now = sign()
    assert refusal(request, now, secret=b"hunter3hunter3").code == "InvalidSignatureException"
    request, now = sign(service="sts")
    error = refusal(request, now, secret=b"hunter3hunter3", service="sts")
    assert (error.code, error.status) == ("SignatureDoesNotMatch", 403)


def test_a_changed_presigned_url_is_refused() -> None:
    request, now = sign(method="GET", url="http://h/?Action=GetCallerIdentity", headers={}, body=b"", presigned=60)
    assert verify(request, now) == KEY_ID
    for old, new in (
        ("Expires=60", "Expires=61"),
        ("GetCallerIdentity", "GetSessionToken"),
        ("&X-Amz-Date", "&a=&X-Amz-Date"),
    ):
        assert old in request.raw_query
        changed = replace(request, raw_query=request.raw_query.replace(old, new))
        assert refusal(changed, now).code == "InvalidSignatureException"


def test_a_header_that_is_not_signed_may_not_be_added() -> None:
    request, now = sign(headers={})
    error = refusal(with_header(request, "X-Amz-Target", TARGET), now)
    assert error.message == "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."
    # What proxies add is nobody's business.
    assert verify(with_header(request, "X-Amzn-Trace-Id", "Root=1"), now) == KEY_ID


def test_a_signed_header_may_not_be_taken_away() -> None:
    request, now = sign(headers={"X-Custom": "1"})
    error = refusal(with_header(request, "X-Custom", None), now)
    assert "signed header 'x-custom' is not in the request" in error.message


def test_the_host_must_be_signed() -> None:
    request, now = sign()
    authorization = header(request, "Authorization").replace("host;", "")
    assert (
        "'Host' or ':authority' must be" in refusal(with_header(request, "Authorization", authorization), now).message
    )


# When


@pytest.mark.parametrize("minutes", [-14.9, 0, 14.9])
def test_a_clock_may_be_fifteen_minutes_off(minutes: float) -> None:
    request, now = sign()
    assert verify(request, now + minutes * MINUTE) == KEY_ID


def test_a_replay_outside_the_window_is_refused() -> None:
    request, now = sign()
    later, earlier = refusal(request, now + 15 * MINUTE + 1), refusal(request, now - 15 * MINUTE - 1)
    assert later.code == earlier.code == "InvalidSignatureException"
    time = header(request, "X-Amz-Date")
    assert later.message.startswith(f"Signature expired: {time} is now earlier than ")
    assert later.message.endswith(" - 15 min.)")
    assert earlier.message.startswith(f"Signature not yet current: {time} is still later than ")
    request, now = sign(service="sts")
    assert refusal(request, now + 15 * MINUTE + 1, service="sts").code == "SignatureDoesNotMatch"


def test_a_presigned_url_ends_when_it_says() -> None:
    request, now = sign(method="GET", headers={}, body=b"", presigned=3600)
    assert verify(request, now + 3600) == KEY_ID
    assert "Signature expired" in refusal(request, now + 3601).message
    assert "not yet current" in refusal(request, now - 15 * MINUTE - 1).message


@pytest.mark.parametrize("seconds", [0, 604_801, 10**9])
def test_a_presigned_url_is_for_at_most_a_week(seconds: int) -> None:
    request, now = sign(method="GET", headers={}, body=b"", presigned=seconds)
    assert "X-Amz-Expires must be a number from 1 to 604800" in refusal(request, now).message


# For where


@pytest.mark.parametrize(
    ("scope", "sentence"),
    [
        ({"region": "eu-west-1"}, "Credential should be scoped to a valid region."),
        ({"service": "s3"}, "Credential should be scoped to correct service: 'ecr'."),
    ],
)
def test_another_scope_is_refused(scope: dict[str, str], sentence: str) -> None:
    request, now = sign(**scope)  # type: ignore[arg-type] # these two are texts
    error = refusal(request, now)
    assert error.code == "InvalidSignatureException"
    assert sentence in error.message


# What is missing, there twice, or nonsense


def test_an_unsigned_request_is_told_so() -> None:
    request = Sent("POST", "/", "", [("Host", "h")], b"{}")
    error = refusal(request, 0)
    assert (error.code, error.message) == ("MissingAuthenticationTokenException", "Missing Authentication Token")
    error = refusal(request, 0, service="sts")
    assert (error.code, error.status) == ("MissingAuthenticationToken", 403)


@pytest.mark.parametrize(
    ("authorization", "code", "sentence"),
    [
        ("", "Incomplete", "Unsupported AWS 'algorithm': ''"),
        ("Basic QVdTOng=", "Incomplete", "Unsupported AWS 'algorithm': 'Basic'"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", "Incomplete", "Unsupported AWS 'algorithm'"),
        ("AWS4-HMAC-SHA256", "Incomplete", "not of the form"),
        ("AWS4-HMAC-SHA256 nonsense", "Incomplete", "not of the form"),
        ("AWS4-HMAC-SHA256 Signature=a, Signature=b", "Incomplete", "not of the form"),
        (
            "AWS4-HMAC-SHA256 Signature=a",
            "Incomplete",
            "requires 'Credential' parameter. Authorization header requires 'S",
        ),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=s", "Incomplete", "exactly 5 slash-delimited"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f, SignedHeaders=host, Signature=s", "Incomplete", "exactly 5"),
        ("AWS4-HMAC-SHA256 Credential=////, SignedHeaders=host, Signature=s", "Incomplete", "exactly 5"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=s", "Invalid", "valid terminator"),
        (
            "AWS4-HMAC-SHA256 Credential=a/20200101/c/d/aws4_request, SignedHeaders=host, Signature=s",
            "Invalid",
            "Date in Credential scope does not match YYYYMMDD",
        ),
        ("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;host, Signature=s", "Incomplete", "each once"),
        ("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=Host, Signature=s", "Incomplete", "lower case"),
        ("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;, Signature=s", "Incomplete", "lower case"),
        ("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=s", "Invalid", "does not match"),
        (
            "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=é" + "0" * 63,
            "Invalid",
            "does not match",
        ),
        ("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=" + "0" * 64, "Invalid", "must be a"),
    ],
)
def test_broken_authorization_headers(authorization: str, code: str, sentence: str) -> None:
    request, now = sign()
    scope = f"{KEY_ID}/{header(request, 'X-Amz-Date')[:8]}/{REGION}/ecr/aws4_request"
    error = refusal(with_header(request, "Authorization", authorization.replace("{scope}", scope)), now)
    assert error.code == f"{code}SignatureException"
    assert sentence in error.message


@pytest.mark.parametrize("date", ["2026-01-31T12:00:00Z", "20261301T000000Z", "yesterday", "２０２６0131T120000Z", "0"])
def test_broken_dates(date: str) -> None:
    request, now = sign()
    assert "ISO-8601 'basic format'" in refusal(with_header(request, "X-Amz-Date", date), now).message


def test_a_request_without_a_date_is_refused() -> None:
    request, now = sign()
    assert "existence of either a 'X-Amz-Date'" in refusal(with_header(request, "X-Amz-Date", None), now).message


@pytest.mark.parametrize("name", ["Authorization", "X-Amz-Date", "Host", "X-Amz-Target", "X-Amz-Content-SHA256"])
def test_headers_that_must_be_single_are_not_taken_twice(name: str) -> None:
    request, now = sign(headers={"X-Amz-Target": TARGET, "X-Amz-Content-SHA256": hashlib.sha256(BODY).hexdigest()})
    twice = replace(request, headers=[*request.headers, (name.lower(), header(request, name))])
    error = refusal(twice, now)
    assert (error.code, error.message) == (
        "IncompleteSignatureException",
        f"The header {name.lower()} is there more than once.",
    )


def test_other_headers_may_be_there_twice() -> None:
    request, now = sign(headers={"X-Custom": "1,2"})
    rest = [(name, value) for name, value in request.headers if name != "X-Custom"]
    assert verify(replace(request, headers=[*rest, ("X-Custom", "1"), ("x-custom", "2")]), now) == KEY_ID


def test_parameters_of_a_presigned_url_are_there_once_and_all() -> None:
    request, now = sign(method="GET", headers={}, body=b"", presigned=60)
    twice = replace(request, raw_query=request.raw_query + "&X-Amz-Expires=600")
    assert "X-Amz-Expires is there more than once" in refusal(twice, now).message
    without = replace(request, raw_query=request.raw_query.replace("X-Amz-Date", "X-Date"))
    assert "must include 'X-Amz-Date'" in refusal(without, now).message
    both = with_header(request, "Authorization", "AWS4-HMAC-SHA256 Credential=a")
    assert "only one may be" in refusal(both, now).message


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, "UNSIGNED-PAYLOAD is not taken"),
        ({"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "aws-chunked"),
        ({"Content-Encoding": "gzip, aws-chunked"}, "aws-chunked"),
        ({"X-Amz-Content-SHA256": "0" * 64}, "does not match what was computed"),
        ({"X-Amz-Content-SHA256": "é"}, "does not match what was computed"),
    ],
)
def test_a_body_must_be_signed_whole(headers: dict[str, str], sentence: str) -> None:
    request, now = sign(headers={})
    for name, value in headers.items():
        request = with_header(request, name, value)
    signed = ";".join(sorted(name.lower() for name, _ in request.headers if name != "Authorization"))
    authorization = header(request, "Authorization").replace("SignedHeaders=host;x-amz-date", f"SignedHeaders={signed}")
    assert sentence in refusal(with_header(request, "Authorization", authorization), now).message


def test_a_session_token_is_noticed() -> None:
    for presigned in (None, 60):
        request, _ = sign(token="session", presigned=presigned, headers={})
        assert read_claim(request, "ecr").has_session_token


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Authorization", "X-Amz-Date", "Host", "X-Amz-Content-SHA256", "X-Amz-Target", "X"]),
            st.text(max_size=40)
            | st.text(max_size=30).map(lambda t: f"AWS4-HMAC-SHA256 Credential={t}, SignedHeaders={t}, Signature={t}"),
        ),
        max_size=5,
    ),
    st.text(max_size=30) | st.text(max_size=20).map(lambda t: f"X-Amz-Signature={t}&X-Amz-Credential={t}"),
    st.text(max_size=10),
)
def test_whatever_is_sent_is_refused_and_not_stumbled_over(
    headers: list[tuple[str, str]], query: str, path: str
) -> None:
    request = Sent("POST", path, query, headers, b"")
    error = refusal(request, 0)
    assert error.code.endswith("Exception")
    assert all(character.isprintable() for character in error.message)
