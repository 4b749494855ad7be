from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.upstream.login.challenges import MAX_CHALLENGES, MAX_HEADER_LENGTH, Challenge, parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"',
            Challenge(
                "bearer",
                {
                    "realm": "https://auth.docker.io/token",
                    "service": "registry.docker.io",
                    "scope": "repository:library/nginx:pull",
                },
            ),
        ),
        (
            'Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"',
            Challenge(
                "bearer", {"realm": "https://public.ecr.aws/token/", "service": "public.ecr.aws", "scope": "aws"}
            ),
        ),
        ('Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"', None),
        ('bEaReR  REALM = "x" , Service=y', Challenge("bearer", {"realm": "x", "service": "y"})),
        (r'Bearer realm="a\"b\\c"', Challenge("bearer", {"realm": 'a"b\\c'})),
        ("Bearer realm=https://h/t,scope=repository:a/b:pull", None),
        ("Negotiate", Challenge("negotiate", {})),
        ("Negotiate YII+/==", Challenge("negotiate", {})),
    ],
)
def test_challenges_of_registries_in_use_are_understood(header: str, expected: Challenge | None) -> None:
    (found,) = parse_challenges([header])
    if expected is not None:
        assert found == expected


def test_unquoted_scopes_keep_their_colons() -> None:
    (found,) = parse_challenges(["Bearer realm=https://h/t,scope=repository:a/b:pull"])
    assert found.parameters == {"realm": "https://h/t", "scope": "repository:a/b:pull"}


def test_several_challenges_in_one_header_and_several_headers_are_all_found() -> None:
    found = parse_challenges(['Basic realm="a", Bearer realm="b",scope="c", Negotiate', "Digest nonce=1"])
    assert [challenge.scheme for challenge in found] == ["basic", "bearer", "negotiate", "digest"]
    assert found[1].parameters == {"realm": "b", "scope": "c"}


def test_a_parameter_given_twice_makes_the_challenge_unusable() -> None:
    assert parse_challenges(['Bearer realm="https://good",realm="https://evil"']) == ()


@pytest.mark.parametrize("header", ["", ",,,", "=", '"', 'Bearer realm="unclosed', "\x00", "Bearer " + "x" * 9000])
def test_garbage_is_no_challenge_and_no_crash(header: str) -> None:
    for challenge in parse_challenges([header]):
        assert "realm" not in challenge.parameters


def test_size_is_bounded() -> None:
    assert parse_challenges(["Bearer realm=" + "a" * MAX_HEADER_LENGTH]) == ()
    assert len(parse_challenges(["Negotiate, " * 100] * 10)) == MAX_CHALLENGES


@given(st.lists(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=300), max_size=4))
def test_any_header_is_parsed_without_a_crash(headers: list[str]) -> None:
    parse_challenges(headers)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_quoted_comes_back_as_it_was(parameters: dict[str, str]) -> None:
    quoted = ", ".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in parameters.items()
    )
    assert parse_challenges([f"Bearer {quoted}"]) == (Challenge("bearer", parameters),)
