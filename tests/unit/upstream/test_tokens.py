from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.credentials import Secret
from pullthrough.shared_state import MemoryState
from pullthrough.upstream.http.abort import Aborted, AbortHandle
from pullthrough.upstream.login.bearer_tokens import (
    DEFAULT_SECONDS,
    MAX_SECONDS,
    MAX_TOKENS,
    BearerToken,
    TokenKey,
    Tokens,
    parse_token,
)

KEY = TokenKey("h:443", "https://h/token", "h", "repository:a:pull", None)


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.fetched = 0
        self.tokens = Tokens(MemoryState(lambda: self.now), "u")

    def fetch(self, seconds: float = 100.0) -> BearerToken:
        self.fetched += 1
        return BearerToken(f"token-{self.fetched}", seconds)

    def get(self, key: TokenKey = KEY) -> tuple[str, bool]:
        return self.tokens.get(key, self.fetch, AbortHandle())


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_a_token_is_used_until_three_quarters_of_its_life_are_over(setting: Setting) -> None:
    assert setting.get() == ("token-1", True)
    setting.now = 74.9
    assert setting.get() == ("token-1", False)
    setting.now = 75.0
    assert setting.get() == ("token-2", True)


def test_tokens_are_never_shared_across_scopes_credentials_or_endpoints(setting: Setting) -> None:
    others = [
        TokenKey("other:443", KEY.realm, KEY.service, KEY.scope, None),
        TokenKey(KEY.endpoint, KEY.realm, KEY.service, "repository:b:pull", None),
        TokenKey(KEY.endpoint, KEY.realm, KEY.service, KEY.scope, Secret("u", "one")),
        TokenKey(KEY.endpoint, KEY.realm, KEY.service, KEY.scope, Secret("u", "two")),
    ]
    assert len({setting.get(key)[0] for key in (KEY, *others)}) == 5


def test_forgetting_a_token_spares_the_newer_one(setting: Setting) -> None:
    setting.get()
    setting.tokens.forget(KEY, "token-1")
    assert setting.get() == ("token-2", True)
    setting.tokens.forget(KEY, "token-1")
    assert setting.get() == ("token-2", False)


def test_many_threads_cost_one_fetch(setting: Setting) -> None:
    entered, go = threading.Event(), threading.Event()

    def fetch() -> BearerToken:
        entered.set()
        assert go.wait(60)
        return setting.fetch()

    found: list[tuple[str, bool]] = []
    threads = [
        threading.Thread(target=lambda: found.append(setting.tokens.get(KEY, fetch, AbortHandle()))) for _ in range(8)
    ]
    threads[0].start()
    assert entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert setting.fetched == 1
    assert {value for value, _ in found} == {"token-1"}
    assert len(found) == 8


def test_when_the_fetching_thread_is_aborted_another_one_fetches(setting: Setting) -> None:
    entered, go = threading.Event(), threading.Event()

    def aborted() -> BearerToken:
        entered.set()
        assert go.wait(60)
        raise Aborted(upstream="u", expired=False)

    errors: list[BaseException] = []

    def lead() -> None:
        try:
            setting.tokens.get(KEY, aborted, AbortHandle())
        except Aborted as error:
            errors.append(error)

    found: list[tuple[str, bool]] = []
    leader = threading.Thread(target=lead)
    follower = threading.Thread(target=lambda: found.append(setting.get()))
    leader.start()
    assert entered.wait(60)
    follower.start()
    go.set()
    leader.join(10)
    follower.join(10)
    assert len(errors) == 1
    assert found == [("token-1", True)]


def test_an_aborted_follower_leaves_at_once(setting: Setting) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow() -> BearerToken:
        entered.set()
        assert go.wait(60)
        return setting.fetch()

    leader = threading.Thread(target=lambda: setting.tokens.get(KEY, slow, AbortHandle()))
    leader.start()
    assert entered.wait(60)
    abort = AbortHandle()
    abort.abort()
    with pytest.raises(Aborted):
        setting.tokens.get(KEY, slow, abort)
    go.set()
    leader.join(10)


def test_the_number_of_tokens_is_bounded(setting: Setting) -> None:
    keys = [TokenKey("h:443", "r", "s", str(number), None) for number in range(MAX_TOKENS + 1)]
    for key in keys:
        setting.get(key)
    assert setting.get(keys[-1])[1] is False
    assert setting.get(keys[0])[1] is True


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"token": "t", "expires_in": 300}, BearerToken("t", 300.0)),
        ({"access_token": "a", "expires_in": 300}, BearerToken("a", 300.0)),
        ({"token": "t", "access_token": "a"}, BearerToken("t", DEFAULT_SECONDS)),
        ({"token": "", "access_token": "a"}, BearerToken("a", DEFAULT_SECONDS)),
        ({"token": "t", "expires_in": 0}, BearerToken("t", DEFAULT_SECONDS)),
        ({"token": "t", "expires_in": -1}, BearerToken("t", DEFAULT_SECONDS)),
        ({"token": "t", "expires_in": "300"}, BearerToken("t", DEFAULT_SECONDS)),
        ({"token": "t", "expires_in": True}, BearerToken("t", DEFAULT_SECONDS)),
        ({"token": "t", "expires_in": 1e12}, BearerToken("t", MAX_SECONDS)),
        ({"token": "t", "expires_in": float("nan")}, BearerToken("t", DEFAULT_SECONDS)),
    ],
)
def test_token_answers_of_registries_in_use_are_understood(document: object, expected: BearerToken) -> None:
    assert parse_token(json.dumps(document).encode()) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"token": 1}',
        b'{"token": "a\\r\\nb"}',
        b'{"token": "' + b"x" * 20000 + b'"}',
        b"[",
    ],
)
def test_an_answer_without_a_usable_token_is_an_error_that_does_not_repeat_it(body: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        parse_token(body)
    assert "x" * 10 not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_answer_is_a_token_or_a_value_error(body: bytes) -> None:
    try:
        parse_token(body)
    except ValueError:
        pass


def test_a_token_is_in_no_repr() -> None:
    assert "s3cret" not in repr(BearerToken("s3cret", 1))
    assert "s3cret" not in repr(TokenKey("h", "r", "s", "x", Secret("u", "s3cret")))
