"""What the webhook is told, and what its answers mean."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from pullthrough.engine.tell.webhook import MAX_PAUSE_SECONDS, Delivery, Webhook, check_secret, pause_seconds
from pullthrough.errors import ConfigurationError


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the webhook's secret file cannot be read: No such file or directory"),
        (b"", "the webhook's secret file is empty"),
        (b" \n\t\r\n", "the webhook's secret file is empty"),
    ],
    ids=["missing", "empty", "blank"],
)
def test_nothing_is_sent_unsigned_or_signed_with_an_empty_key(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    receiver, secret = Receiver(), tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    told = Webhook("http://r.example/", secret, send=receiver).tell("{}", 5.0)
    assert (told.delivery, told.reason) == (Delivery.LATER, reason)
    assert not receiver.requests


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file or directory"), (b"", "is empty"), (b"\n", "is empty")],
    ids=["missing", "empty", "blank"],
)
def test_a_file_that_holds_no_secret_is_refused_at_the_start(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    secret = tmp_path / "hidden"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^ecr.webhook_secret_file: the file {reason}, and") as refused:
        check_secret(secret)
    assert "openssl rand" in refused.value.hint
    assert "hidden" not in f"{refused.value.message}{refused.value.hint}"


@pytest.mark.parametrize(("secret", "warned"), [(b"0123456789abcde\n", True), (b"0123456789abcdef", False)])
def test_a_secret_that_can_be_guessed_is_warned_of(
    tmp_path: Path, secret: bytes, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(secret)
    with caplog.at_level(logging.WARNING):
        check_secret(file)
    assert ("a secret of 15 bytes can be guessed" in caplog.text) is warned
    assert "0123" not in caplog.text


def test_an_answer_that_does_not_come_is_called_that() -> None:
    told = Webhook("http://r.example/", None, send=Receiver(TimeoutError("timed out"))).tell("{}", 5.0)
    assert told.reason == "the webhook did not answer within 10 s"


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_seconds(attempts) for attempts in (0, 1, 2, 5)] == [1, 2, 4, 32]
    assert pause_seconds(1_000_000) == MAX_PAUSE_SECONDS
