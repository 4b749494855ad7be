"""STS: who am I."""

from __future__ import annotations

from typing import Any

from tests.aws import ACCOUNT_ID, answer


def test_caller_has_an_account_an_arn_and_an_id(sts: Any) -> None:
    identity = answer(sts.get_caller_identity())
    assert identity.keys() == {"UserId", "Account", "Arn"}
    assert identity["Account"] == ACCOUNT_ID
    assert identity["Arn"].startswith(f"arn:aws:sts::{ACCOUNT_ID}:") or identity["Arn"].startswith(
        f"arn:aws:iam::{ACCOUNT_ID}:"
    )
    assert identity["UserId"]


def test_caller_stays_the_same(sts: Any) -> None:
    assert answer(sts.get_caller_identity()) == answer(sts.get_caller_identity())
