from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.upstream.http.urls import MAX_URL_LENGTH, Url, parse_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ghcr.io", Url("https", "ghcr.io", 443, "/")),
        ("HTTPS://GHCR.IO:443/Token?a=b#c", Url("https", "ghcr.io", 443, "/Token?a=b")),
        ("http://127.0.0.1:5009/x/", Url("http", "127.0.0.1", 5009, "/x/")),
        ("http://[::1]:80/", Url("http", "::1", 80, "/")),
        ("https://auth.docker.io./token", Url("https", "auth.docker.io", 443, "/token")),
        ("https://my_bucket.s3.amazonaws.com/é", Url("https", "my_bucket.s3.amazonaws.com", 443, "/%C3%A9")),
        ("https://h/a%2Fb?sig=%2B%3D", Url("https", "h", 443, "/a%2Fb?sig=%2B%3D")),
    ],
)
def test_urls_are_parsed_to_what_is_sent(text: str, expected: Url) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://h/",
        "file:///etc/passwd",
        "//h/",
        "https://",
        "https:///path",
        "https://user@h/",
        "https://user:password@h/",
        "https://auth.docker.io@evil.example.net/",
        "https://auth.docker.io\\@evil.example.net/",
        "https://h h/",
        "https://h/\r\nX: y",
        "https://h\t/",
        "https://h:0/",
        "https://h:99999/",
        "https://h:x/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://exa%6dple.com/",
        "https://bücher.example/",
        "https://-/" + "x" * MAX_URL_LENGTH,
        "https://.example.com/",
        "https://a..b/",
    ],
)
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_url(text)
    assert "password" not in str(caught.value).replace("user or a password", "")


@given(st.text(max_size=200))
def test_parsing_never_crashes_and_gives_only_safe_requests(text: str) -> None:
    try:
        url = parse_url(f"https://{text}")
    except ValueError:
        return
    assert url.target.isascii()
    assert not set(url.target) & set(" \r\n\t\\")
    assert parse_url(url.text) == url


def test_locations_are_joined_to_where_they_came_from() -> None:
    here = parse_url("https://h:5000/v2/a/blobs/x?y=z")
    assert here.join("/other").text == "https://h:5000/other"
    assert here.join("//cdn.example.com/b").text == "https://cdn.example.com/b"
    assert here.join("https://cdn.example.com/b?sig=1").text == "https://cdn.example.com/b?sig=1"
    assert here.join("b").text == "https://h:5000/v2/a/blobs/b"


def test_a_signature_is_in_no_repr_and_no_string() -> None:
    url = parse_url("https://h/blob?X-Amz-Signature=s3cret&scope=a")
    assert "s3cret" not in f"{url} {url!r}"
    assert "s3cret" in url.text
    assert "scope=a" in str(url)


def test_host_port_and_authority_name_the_port_where_it_matters() -> None:
    assert parse_url("https://h/").authority == "h"
    assert parse_url("https://h/").host_port == "h:443"
    assert parse_url("http://[::1]:5000/").authority == "[::1]:5000"
    assert parse_url("http://[::1]/").host_port == "[::1]:80"
