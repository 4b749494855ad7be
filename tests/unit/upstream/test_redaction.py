from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pullthrough.upstream.http.redaction import clean_text, redact_url


def test_only_known_query_keys_keep_their_values() -> None:
    url = "https://cdn.example.com/b?verify=17-s3cret&scope=repository:a:pull&service=x&X-Amz-Security-Token=s3cret#s3cret"
    shown = redact_url(url)
    assert shown == (
        "https://cdn.example.com/b?verify=[removed]&scope=repository:a:pull&service=x&X-Amz-Security-Token=[removed]"
    )


def test_users_and_bare_queries_are_left_out() -> None:
    assert redact_url("http://user:s3cret@proxy:3128/x") == "http://proxy:3128/x"
    assert "s3cret" not in redact_url("https://h/b?s3cret")


def test_malformed_urls_are_not_shown() -> None:
    assert redact_url("http://[s3cret") == "(an address that is malformed)"


def test_foreign_text_becomes_one_short_clean_line() -> None:
    assert clean_text("a\r\n\x1b[31mb\x00c  d") == "a [31mb c d"
    assert clean_text("half a \ud83d character, and \U0001f600") == "half a character, and \U0001f600"
    assert len(clean_text("x" * 10_000)) == 300


def test_an_echoed_secret_is_removed() -> None:
    text = clean_text("bad token s3cret-token for https://h/?sig=abc", ["s3cret-token", "", "bad"])
    assert text == "bad token [removed] for https://h/?sig=[removed]"


def test_an_echoed_header_is_removed_though_its_value_is_not_known() -> None:
    assert clean_text("got Authorization: Bearer abcdefghijklmnopqrstuvwxyz") == "got Authorization: Bearer [removed]"
    assert clean_text("bearer authentication required") == "bearer authentication required"


@given(st.text(max_size=2000), st.lists(st.text(min_size=4, max_size=20), max_size=3))
def test_cleaning_never_fails_and_stays_within_its_limit(text: str, secrets: list[str]) -> None:
    cleaned = clean_text(text, secrets)
    assert len(cleaned) <= 300
    assert "\n" not in cleaned
    redact_url(text)
