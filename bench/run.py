"""What a scenario is given, and the loop that all of them share: rounds, candidates in random order."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.assets import Assets
from bench.machine import Unavailable
from bench.report import Outcome
from bench.servers import Server, Start, fresh


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
    #: Candidates to leave out, by name.
    without: frozenset[str] = frozenset()

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


def candidates(run: Run, outcome: Outcome, makers: Mapping[str, Callable[[], Start]]) -> dict[str, Start]:
    """Those that this machine has; the others are noted with the reason."""
    found = {}
    for name, make in makers.items():
        if name in run.without:
            outcome.left_out[name] = "not asked for"
            continue
        try:
            found[name] = make()
        except Unavailable as reason:
            outcome.left_out[name] = str(reason)
            run.say(f"  left out: {name}: {reason}")
    return found


@contextlib.contextmanager
def all_running(run: Run, starts: Mapping[str, Start]) -> Iterator[dict[str, Server]]:
    """Every candidate at once (idle ones cost nothing), each in a folder of its own."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(fresh(start, run.folder(name))) for name, start in starts.items()}


def interleaved(run: Run, names: list[str], *, warm_up: bool = True) -> Iterator[tuple[int, str]]:
    """(round, candidate), in a new random order each round. Round -1 is a warm-up that is not to be recorded."""
    for number in range(-1 if warm_up else 0, run.rounds):
        for name in run.rng.sample(names, len(names)):
            yield number, name
