"""Pages of a list: every item once, and tokens that cannot be made to mean something else."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request


@given(st.sets(st.text(st.characters(codec="utf-8"))), st.integers(1, 5))
def test_the_pages_together_are_the_list(names: set[str], size: int) -> None:
    everything, seen, token = sorted(names), list[str](), None
    while True:
        page = page_request("ListImages", {"maxResults": size} | ({"nextToken": token} if token else {}))
        after = page.after
        found = [name for name in everything if after is None or (name,) > after][: page.size + 1]
        items, token = page.cut(found, lambda name: (name,))
        seen += items
        if token is None:
            break
    assert seen == everything


def test_a_page_has_the_default_size_where_none_is_asked_for() -> None:
    assert page_request("ListImages", {}).size == 100
    assert page_request("ListImageReferrers", {}, default=20).size == 20
    assert page_request("ListSecrets", {"MaxResults": 7}, names=("MaxResults", "NextToken")).size == 7


def _token(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "====",
        _token("DescribeImages", "a", 1),
        _token("ListImages", "a"),
        _token("ListImages", 1, 1),
        _token("ListImages", "a", True),
        _token("ListImages", "a", 2**63),
        _token("ListImages", "\ud800", 1),
        _token("ListImages", "a", 1, 1),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b"9" * 5_000).decode(),
        base64.urlsafe_b64encode(b'["ListImages","a",NaN]').decode(),
    ],
)
def test_a_token_that_was_not_given_is_refused(token: str) -> None:
    with pytest.raises(ApiError, match="'nextToken'") as raised:
        page_request("ListImages", {"nextToken": token}, (str, int))
    assert raised.value.code == "InvalidParameterException"


def test_services_name_the_member_and_the_code_their_own_way() -> None:
    with pytest.raises(ApiError, match="'NextToken'") as raised:
        page_request(
            "ListSecrets", {"NextToken": "x"}, code="InvalidNextTokenException", names=("MaxResults", "NextToken")
        )
    assert raised.value.code == "InvalidNextTokenException"
