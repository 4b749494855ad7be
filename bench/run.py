"""What a scenario is given, and the loop that all of them share: rounds, candidates in random order."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.assets import Assets
from bench.builds import Build
from bench.machine import Unavailable
from bench.report import Outcome
from bench.servers import Server, Start, fresh

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One invocation. `seconds` is how long a timed sample lasts; `work` is a folder on a real disk."""

    work: Path
    assets: Assets
    load: Path
    rounds: int
    seconds: float
    quick: bool
    rng: random.Random
    #: This checkout's; in a comparison another commit's after it, and no peers.
    builds: tuple[Build, ...]
    #: Candidates to leave out, by name.
    without: frozenset[str] = frozenset()

    @property
    def compares(self) -> bool:
        return len(self.builds) > 1

    def say(self, text: str) -> None:
        print(text, flush=True)

    def folder(self, name: str) -> Path:
        return self.work / "run" / name.replace(" ", "-")


@dataclass(frozen=True)
class Scenario:
    """`measure` adds samples and targets to the outcome it is given."""

    name: str
    title: str
    measure: Callable[[Run, Outcome], None]


def candidates(
    run: Run,
    outcome: Outcome,
    ours: Mapping[str, Callable[[Build], Start]],
    peers: Mapping[str, Callable[[], Start]] | None = None,
) -> dict[str, Start]:
    """Those that this machine has, ours once for each build; the others are noted with the reason."""
    makers: dict[str, Callable[[], Start]] = {
        build.label(name): partial(make, build) for name, make in ours.items() for build in run.builds
    }
    if not run.compares:
        makers |= peers or {}
    found = {}
    for name, maker in makers.items():
        if name in run.without:
            outcome.left_out[name] = "not asked for"
            continue
        try:
            found[name] = maker()
        except Unavailable as reason:
            outcome.left_out[name] = str(reason)
            run.say(f"  left out: {name}: {reason}")
    return found


@contextlib.contextmanager
def all_running(run: Run, starts: Mapping[str, Start]) -> Iterator[dict[str, Server]]:
    """Every candidate at once (idle ones cost nothing), each in a folder of its own."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(fresh(start, run.folder(name))) for name, start in starts.items()}


def interleaved(run: Run, things: Sequence[T], *, warm_up: bool = True) -> Iterator[tuple[int, T]]:
    """(round, candidate), in a new random order each round. Round -1 is a warm-up that is not to be recorded."""
    for number in range(-1 if warm_up else 0, run.rounds):
        for thing in run.rng.sample(things, len(things)):
            yield number, thing


def in_turns(run: Run, conditions: Sequence[T], *, warm_up: bool = True) -> Iterator[tuple[int, T, Build]]:
    """The same for builds under several conditions: those of one condition come one after the other, so that what is
    compared lies close together."""
    for number, condition in interleaved(run, conditions, warm_up=warm_up):
        for build in run.rng.sample(run.builds, len(run.builds)):
            yield number, condition, build
