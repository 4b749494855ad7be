"""Authorization tokens and download URLs: whatever was not made with the key is not taken."""

from __future__ import annotations

import hmac
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.access.logins import urls
from pullthrough.access.logins.tokens import TokenMalformed, make_token, parse_token
from pullthrough.errors import AccessDenied
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.names import RepositoryName, parse_repository_name

SECRET = b"hunter2hunter2"
APP: RepositoryName = parse_repository_name("team/app")
LAYER: Digest = parse_digest("sha256:" + "a" * 64)


def test_a_token_says_whose_it_is_and_is_signed() -> None:
    token = parse_token(make_token("AKIAEXAMPLE", "000000000000", 1_800_000_000, SECRET))
    assert (token.access_key_id, token.account, token.expires_at) == ("AKIAEXAMPLE", "000000000000", 1_800_000_000)
    assert token.is_signed_by(SECRET)
    assert not token.is_signed_by(b"hunter3hunter3")


def test_a_token_holds_nothing_of_the_secret() -> None:
    text = make_token("AKIAEXAMPLE", "000000000000", 1_800_000_000, SECRET)
    assert "hunter2" not in text
    assert "hunter2" not in repr(parse_token(text))


def test_a_claim_cannot_be_changed() -> None:
    claim, _, mac = make_token("AKIAEXAMPLE", "000000000000", 1_800_000_000, SECRET).partition(".")
    later, _, _ = make_token("AKIAEXAMPLE", "000000000000", 1_900_000_000, b"other").partition(".")
    assert not parse_token(f"{later}.{mac}").is_signed_by(SECRET)
    assert not parse_token(f"{claim}.{'A' * 43}").is_signed_by(SECRET)


@given(st.text(max_size=100), st.sampled_from([0, 1]))
def test_texts_that_are_no_tokens(text: str, place: int) -> None:
    parts = make_token("AKIAEXAMPLE", "000000000000", 1_800_000_000, SECRET).split(".")
    if parts[place] == text:
        return
    parts[place] = text
    try:
        token = parse_token(".".join(parts))
    except TokenMalformed:
        return
    assert not token.is_signed_by(SECRET)


@pytest.mark.parametrize("text", ["", ".", "..", "é.é", "a" * 2_000, "YTpiOmM.YQ", "YTpiOjEy.YQ=", "YTpiOjE.Y Q"])
def test_malformed_tokens(text: str) -> None:
    with pytest.raises(TokenMalformed):
        parse_token(text)


def opens(secret: bytes, repository: RepositoryName, digest: Digest, query: str, now: float) -> bool:
    """Raises AccessDenied."""
    url = urls.read(query)
    if url is not None:
        url.check(secret, repository, digest, now)
    return url is not None


def test_a_download_url_is_for_one_layer_of_one_repository_and_a_while() -> None:
    query = urls.sign("AKIAEXAMPLE", SECRET, APP, LAYER, 1_000)
    assert opens(SECRET, APP, LAYER, query, 999)
    assert opens(SECRET, APP, LAYER, f"ns=docker.io&{query}", 1_000)
    for key, name, digest, text, now in (
        (b"other", APP, LAYER, query, 999),
        (SECRET, parse_repository_name("team/other"), LAYER, query, 999),
        (SECRET, APP, parse_digest("sha256:" + "b" * 64), query, 999),
        (SECRET, APP, LAYER, query.replace("=1000", "=2000"), 999),
        (SECRET, APP, LAYER, query.replace("EXAMPLE", "OTHER"), 999),
        (SECRET, APP, LAYER, query, 1_001),
        (SECRET, APP, LAYER, query + "0", 999),
        (SECRET, APP, LAYER, f"{query}&{query}", 999),
        (SECRET, APP, LAYER, query.partition("&")[2], 999),
        (SECRET, APP, LAYER, query.rpartition("&")[2], 999),
        (SECRET, APP, LAYER, query.replace("=1000", "=１０００"), 999),
        (SECRET, APP, LAYER, "&" * 50 + query + "&a=b" * 50, 999),
    ):
        with pytest.raises(AccessDenied):
            opens(key, name, digest, text, now)


def test_a_query_without_a_signature_opens_nothing() -> None:
    assert not opens(SECRET, APP, LAYER, "", 0)
    assert not opens(SECRET, APP, LAYER, "X-Pullthrough-Expires=9", 0)


@given(st.text(max_size=60), st.sampled_from([0, 1, 2]))
def test_queries_that_are_no_download_urls(text: str, place: int) -> None:
    parts = urls.sign("AKIAEXAMPLE", SECRET, APP, LAYER, 1_000).split("&")
    name, _, value = parts[place].partition("=")
    if unquote_plus(text.partition("&")[0]) == value:
        return  # another spelling of the same
    parts[place] = f"{name}={text}"
    with pytest.raises(AccessDenied):
        opens(SECRET, APP, LAYER, "&".join(parts), 999)


def test_each_use_of_a_secret_half_has_a_key_of_its_own() -> None:
    """What one use signs is no signature for another."""
    signature = urls.sign("AKIAEXAMPLE", SECRET, APP, LAYER, 1_000).rpartition("=")[2]
    text = f"{APP}@{LAYER} 1000 AKIAEXAMPLE".encode()
    of_tokens = hmac.digest(SECRET, b"pullthrough authorization token", "sha256")
    assert signature not in {hmac.digest(key, text, "sha256").hex() for key in (SECRET, of_tokens)}
