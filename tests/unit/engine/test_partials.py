"""Partial files: the lock, the sidecar, and who may begin anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pullthrough.engine.pull.fills.told import pack_error, unpack_error
from pullthrough.errors import (
    BlobUnknown,
    DigestMismatch,
    DiskFull,
    PullthroughError,
    UpstreamDenied,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.storage.bodies import State, Told
from pullthrough.storage.files.partials import Partial, Sidecar


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sha256-aa"


def test_only_one_leads_until_it_closes(path: Path) -> None:
    first, second = Partial(path), Partial(path)
    assert first.try_lead()
    assert not second.try_lead()
    first.close()
    assert second.try_lead()
    assert second.is_current()
    second.close()


def test_followers_see_what_the_leader_tells(path: Path) -> None:
    leader, follower = Partial(path), Partial(path)
    assert follower.read_sidecar() is None
    leader.write_sidecar(Sidecar(Told("a/b", State.FILLING, 10), "boot"))
    assert follower.read_sidecar() == Sidecar(Told("a/b", State.FILLING, 10), "boot")
    leader.write_sidecar(Sidecar(Told("a/b", State.VERIFIED, 10), "boot"))
    assert follower.read_sidecar() == Sidecar(Told("a/b", State.VERIFIED, 10), "boot")
    leader.close()
    follower.close()


def test_a_sidecar_of_an_older_file_says_nothing_of_this_one(path: Path) -> None:
    old = Partial(path)
    old.try_lead()
    old.write_sidecar(Sidecar(Told("a/b", State.FAILED), "boot"))
    old.discard()
    new = Partial(path)
    assert not old.is_current()
    assert new.read_sidecar() is None
    assert old.read_sidecar() is not None
    old.close()
    new.close()


def test_a_restart_keeps_the_lock_and_takes_nothing_from_readers(path: Path) -> None:
    leader = Partial(path)
    leader.try_lead()
    os.pwrite(leader.fd, b"foreign", 0)
    reader = Partial(path)
    leader.restart()
    assert leader.size() == 0
    assert leader.is_current()
    assert reader.size() == 7
    late = Partial(path)
    assert not late.try_lead()
    for partial in (leader, reader, late):
        partial.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "odd"}', '{"repository": 1}'])
def test_a_broken_sidecar_is_none(path: Path, text: str) -> None:
    partial = Partial(path)
    partial.sidecar_path.write_text(text)
    assert partial.read_sidecar() is None
    partial.close()


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable("down", upstream="r"),
        UpstreamDenied("no", upstream="r"),
        UpstreamThrottled("slow", upstream="r", retry_after_seconds=7),
        DiskFull("full"),
        DigestMismatch("wrong", expected="a", actual="b"),
        BlobUnknown("none"),
    ],
)
def test_an_error_reaches_the_followers_as_what_it_is(error: PullthroughError) -> None:
    received = unpack_error(pack_error(error))
    assert (type(received), received.message) == (type(error), error.message)
    if isinstance(received, UpstreamThrottled):
        assert received.retry_after_seconds == 7


@pytest.mark.parametrize(
    "packed", [None, {}, {"type": "SystemExit"}, {"type": "annotations"}, {"type": "PullthroughError"}]
)
def test_an_unknown_error_is_a_failed_transfer(packed: dict[str, str] | None) -> None:
    assert isinstance(unpack_error(packed), UpstreamUnavailable)
