"""A token goes to Secrets Manager, and nowhere else."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pullthrough
from pullthrough.errors import PullthroughError
from pullthrough.provision.aws import Refused
from pullthrough.provision.execution.journal import Journal
from pullthrough.provision.model.accounts import Account
from pullthrough.provision.model.plan import Plan
from tests.deployments import FULL, HUB, HUB_SECRET, TOKENS, World, fake_with_roles
from tests.fakes.aws import Mode

SOURCE = Path(pullthrough.__file__).parent
#: With all that JSON escapes.
TRICKY = 'dckr_"S3CR3T"\\of-the-hub'


def world_in(folder: Path) -> World:
    return World(fake_with_roles(), journal=Journal(folder / "a.journal"), tokens={**TOKENS, HUB: TRICKY})


def chain(error: BaseException) -> Iterator[BaseException]:
    while True:
        yield error
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following


def everything_said(error: BaseException) -> str:
    """All that a log or a crash report may show: messages, fields, and the locals of every frame."""
    texts = []
    for link in chain(error):
        texts += [str(link), repr(link), repr(vars(link))]
        summary = traceback.TracebackException.from_exception(link, capture_locals=True)
        frames = [frame for frame in summary.stack if Path(frame.filename).is_relative_to(SOURCE)]
        # Locals that hold the token itself are ours to have; our own objects must not show it.
        texts += [
            text
            for frame in frames
            for name, text in (frame.locals or {}).items()
            if name not in ("params", "text", "changed", "token")
        ]
    return "\n".join(texts)


def check(text: str) -> None:
    assert "S3CR3T" not in text, text[max(0, text.index("S3CR3T") - 200) :][:400]


def test_no_call_but_those_that_keep_it_has_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = world_in(tmp_path)
    plans: list[Plan] = [world.apply(FULL), world.apply(FULL)]
    world.tokens = {**TOKENS, HUB: f"{TRICKY}-two"}
    plans += [world.apply(FULL), world.destroy(FULL), world.apply(FULL)]
    for call in world.send.calls:
        if call.operation not in ("CreateSecret", "PutSecretValue"):
            check(json.dumps(dict(call.params)))
        else:
            check(json.dumps({name: value for name, value in call.params.items() if name != "SecretString"}))
    for plan in plans:
        check(json.dumps(plan.as_json()))
        check(repr(plan))
    check((tmp_path / "a.journal").read_text())
    check(caplog.text)
    check(repr(Account("u", "the-S3CR3T")))
    check(repr(world.aws))


@pytest.mark.parametrize("mode", [Mode.DENIED, Mode.SERVER, Mode.LOST_AFTER])
def test_no_error_shows_a_token(tmp_path: Path, mode: Mode) -> None:
    at = 0
    while True:
        at += 1
        world = world_in(tmp_path)
        world.send.fail(at, mode, lasts=True)
        try:
            world.apply(FULL)
        except PullthroughError as error:
            check(everything_said(error))
            check(error.message + error.hint)
        else:
            break
        finally:
            (tmp_path / "a.journal").unlink(missing_ok=True)
    assert at > 30


@pytest.mark.parametrize(
    "quoted",
    [
        "{token}",
        'SecretString={{"username": "acme", "accessToken": {json}}}',
        "you sent {json}, which is refused",
    ],
)
def test_an_answer_that_quotes_a_token_is_shown_without_it(tmp_path: Path, quoted: str) -> None:
    world = world_in(tmp_path)
    text = quoted.format(token=TRICKY, json=json.dumps(TRICKY))
    world.send.refusals["secretsmanager:CreateSecret"] = [Refused("InvalidParameterException", text, 400)]
    with pytest.raises(PullthroughError) as caught:
        world.apply(FULL)
    check(everything_said(caught.value))
    assert "…" in caught.value.message


def test_what_stands_in_a_secret_of_somebody_else_is_not_shown(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    theirs: list[Any] = ["their-S3CR3T", '{"username": "u", "accessToken": "their-S3CR3T"}', '{"password": "S3CR3T"}']
    for text in theirs:
        world.send.secretsmanager.secrets.clear()
        world.send.add_secret(HUB_SECRET, text)
        plan = world.plan(FULL)
        check(json.dumps(plan.as_json()))
        assert len(plan.problems) == 1
        plan = world.plan(FULL, adopt=(f"secret:{HUB_SECRET}",))
        check(json.dumps(plan.as_json()))


def test_fingerprints_of_two_keys_do_not_tell_that_a_token_is_the_same() -> None:
    world = World(fake_with_roles())
    other = replace(world, fingerprints=type(world.fingerprints)(Path("/nowhere"), random_bytes=bytes))
    tokens = [
        next(step for step in one.plan(FULL).steps if step.key.name == HUB_SECRET).after for one in (world, other)
    ]
    assert tokens[0] is not None
    assert tokens[1] is not None
    assert tokens[0]["accessToken"] != tokens[1]["accessToken"]
