"""What the webhook is told, and what its answers mean."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

import pytest

from pullthrough.engine.webhook import MAX_PAUSE_SECONDS, Delivery, Webhook, pause_seconds


class Receiver:
    def __init__(self, *answers: int | OSError) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, Mapping[str, str], bytes]] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> int:
        self.requests.append((url, headers, body))
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answer", "delivery"),
    [
        (200, Delivery.DONE),
        (204, Delivery.DONE),
        (301, Delivery.LATER),
        (400, Delivery.REFUSED),
        (404, Delivery.REFUSED),
        (408, Delivery.LATER),
        (429, Delivery.LATER),
        (500, Delivery.LATER),
        (503, Delivery.LATER),
        (ConnectionRefusedError(111, "Connection refused"), Delivery.LATER),
        (TimeoutError("timed out"), Delivery.LATER),
    ],
)
def test_what_an_answer_means(answer: int | OSError, delivery: Delivery) -> None:
    assert Webhook("http://r.example/?key=k", None, send=Receiver(answer)).tell("{}", 5.0).delivery is delivery


def test_the_address_is_in_no_reason() -> None:
    for answer in (500, 404, OSError(111, "Connection refused")):
        told = Webhook("http://r.example/hidden?key=hidden", None, send=Receiver(answer)).tell("{}", 5.0)
        assert told.reason
        assert "hidden" not in told.reason


def test_a_secret_signs_time_and_body_and_is_read_each_time(tmp_path: Path) -> None:
    secret, receiver = tmp_path / "secret", Receiver(200, 200)
    webhook = Webhook("http://r.example/", secret, send=receiver)
    for word in (b"first\n", b"second"):
        secret.write_bytes(word)
        assert webhook.tell('{"a":1}', 1234.9).delivery is Delivery.DONE
        _, headers, body = receiver.requests[-1]
        expected = hmac.new(word.strip(), b'1234.{"a":1}', hashlib.sha256).hexdigest()
        assert headers["X-Pullthrough-Timestamp"] == "1234"
        assert headers["X-Pullthrough-Signature"] == f"sha256={expected}"
        assert body == b'{"a":1}'


def test_nothing_is_sent_unsigned_where_it_should_be_signed(tmp_path: Path) -> None:
    receiver = Receiver()
    told = Webhook("http://r.example/", tmp_path / "missing", send=receiver).tell("{}", 5.0)
    assert told.delivery is Delivery.LATER
    assert "secret file" in told.reason
    assert not receiver.requests


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_seconds(attempts) for attempts in (0, 1, 2, 5)] == [1, 2, 4, 32]
    assert pause_seconds(1_000_000) == MAX_PAUSE_SECONDS
