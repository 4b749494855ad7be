"""Look-ups that hang: how many there may be, and that they hold up nobody else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pullthrough.errors import UpstreamUnavailable
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.resolver import MAX_LOOKUPS, Resolver, SocketAddress

STUCK_SECONDS = 20
#: Longer than any test runs.
LONG = 600.0
ANSWER = [
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443)),
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 443, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443)),
]
FOUND = (
    SocketAddress(socket.AF_INET, ("192.0.2.1", 443)),
    SocketAddress(socket.AF_INET6, ("2001:db8::1", 443, 0, 0)),
)


class Names:
    """A name service that answers at once, but for names that begin with `slow`: those when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._changed = threading.Condition()
        self._may_answer = threading.Event()

    def look_up(self, host: str, port: int, **_: object) -> list[Any]:
        with self._changed:
            self.asked.append(host)
            self._changed.notify_all()
        if host.startswith("slow"):
            self._may_answer.wait(STUCK_SECONDS)
        if host == "none":
            return []
        if host == "bad":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "label":
            raise UnicodeError("label too long")
        return ANSWER

    def wait_asked(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, STUCK_SECONDS)

    def answer(self) -> None:
        self._may_answer.set()


class Asking(threading.Thread):
    """One who resolves a name."""

    def __init__(self, resolver: Resolver, host: str, upstream: str, limit_seconds: float = LONG) -> None:
        super().__init__(daemon=True)
        self._wanted = resolver, host, upstream, limit_seconds
        self.abort = AbortHandle()
        self.found: tuple[SocketAddress, ...] | UpstreamUnavailable = ()
        self.start()

    def run(self) -> None:
        try:
            self.found = resolve(*self._wanted, self.abort)
        except UpstreamUnavailable as error:
            self.found = error

    def result(self) -> tuple[SocketAddress, ...] | UpstreamUnavailable:
        self.join(STUCK_SECONDS)
        assert not self.is_alive(), "it waits still"
        return self.found


def resolve(
    resolver: Resolver,
    host: str,
    upstream: str = "one",
    limit_seconds: float = LONG,
    abort: AbortHandle | None = None,
) -> tuple[SocketAddress, ...]:
    abort = abort or AbortHandle()
    return resolver.resolve(host, 443, limit_seconds=limit_seconds, abort=abort, upstream=upstream)


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.answer()


@pytest.fixture
def resolver(names: Names) -> Resolver:
    return Resolver(names.look_up)


def test_each_address_is_found_once_and_in_order(resolver: Resolver) -> None:
    assert resolve(resolver, "a") == FOUND


@pytest.mark.parametrize(
    ("literal", "family", "address"),
    [
        ("192.0.2.7", socket.AF_INET, ("192.0.2.7", 443)),
        ("2001:db8::7", socket.AF_INET6, ("2001:db8::7", 443, 0, 0)),
    ],
)
def test_an_address_is_looked_up_nowhere(
    resolver: Resolver, names: Names, literal: str, family: int, address: tuple[Any, ...]
) -> None:
    assert resolve(resolver, literal) == (SocketAddress(family, address),)
    assert names.asked == []


@pytest.mark.parametrize(
    ("host", "reason"), [("none", "no address"), ("bad", "Name or service not known"), ("label", "no address")]
)
def test_a_name_without_an_address_is_unavailable(resolver: Resolver, host: str, reason: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=f"{host} could not be resolved: {reason}"):
        resolve(resolver, host)


def test_whoever_asks_for_a_name_that_is_being_looked_up_gets_the_same_answer(resolver: Resolver, names: Names) -> None:
    asking = [Asking(resolver, "slow", upstream) for upstream in ("one", "one", "two")]
    names.wait_asked(1)
    names.answer()
    assert [each.result() for each in asking] == [FOUND] * 3
    assert names.asked.count("slow") <= len(asking)


def test_a_name_that_is_being_looked_up_is_not_looked_up_again(resolver: Resolver, names: Names) -> None:
    """Whoever has waited long enough leaves, and the look-up stays."""
    for _ in range(3 * MAX_LOOKUPS):
        with pytest.raises(UpstreamUnavailable, match="slow could not be resolved within 0 s"):
            resolve(resolver, "slow", limit_seconds=0.0)
    assert names.asked == ["slow"]


def test_an_upstream_has_no_more_than_sixteen_names_looked_up_at_once(resolver: Resolver, names: Names) -> None:
    asking = [Asking(resolver, f"slow{number}", "one") for number in range(MAX_LOOKUPS)]
    names.wait_asked(MAX_LOOKUPS)
    for host in ("slow16", "fast"):
        with pytest.raises(
            UpstreamUnavailable, match=f"{host} is not looked up: 16 other names for one have no answer"
        ):
            resolve(resolver, host)
    assert sorted(names.asked) == sorted(f"slow{number}" for number in range(MAX_LOOKUPS))
    # Who wants one of the sixteen waits for it with the others.
    joined = Asking(resolver, "slow3", "one")
    names.answer()
    assert [each.result() for each in (*asking, joined)] == [FOUND] * (MAX_LOOKUPS + 1)
    assert [resolve(resolver, f"later{number}") for number in range(2 * MAX_LOOKUPS)] == [FOUND] * 2 * MAX_LOOKUPS


def test_names_that_hang_for_one_upstream_delay_no_other(resolver: Resolver, names: Names) -> None:
    asking = [Asking(resolver, f"slow{number}", "one") for number in range(MAX_LOOKUPS)]
    names.wait_asked(MAX_LOOKUPS)
    assert resolve(resolver, "fast", "two") == FOUND
    others = [Asking(resolver, f"slow-two{number}", "two") for number in range(MAX_LOOKUPS)]
    names.wait_asked(2 * MAX_LOOKUPS + 1)
    assert resolve(resolver, "fast", "three") == FOUND
    assert all(each.is_alive() for each in (*asking, *others))


def test_look_ups_that_nobody_waits_for_any_more_count_until_they_end(resolver: Resolver, names: Names) -> None:
    """Each has a thread, which cannot be interrupted."""
    for number in range(MAX_LOOKUPS):
        with pytest.raises(UpstreamUnavailable, match="within 0 s"):
            resolve(resolver, f"slow{number}", limit_seconds=0.0)
    with pytest.raises(UpstreamUnavailable, match="is not looked up"):
        resolve(resolver, "fast")
    names.answer()
    for number in range(MAX_LOOKUPS):
        resolve(resolver, f"slow{number}")
    assert resolve(resolver, "fast") == FOUND


def test_failures_make_room_as_answers_do(resolver: Resolver) -> None:
    for _ in range(2 * MAX_LOOKUPS):
        for host in ("bad", "none", "label"):
            with pytest.raises(UpstreamUnavailable, match="could not be resolved"):
                resolve(resolver, host)
    assert resolve(resolver, "fast") == FOUND


def test_who_is_told_to_end_does_not_wait_for_the_answer(resolver: Resolver, names: Names) -> None:
    asking = Asking(resolver, "slow", "one")
    names.wait_asked(1)
    asking.abort.abort()
    assert isinstance(asking.result(), UpstreamUnavailable)
