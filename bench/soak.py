"""`python -m bench.soak`: kills and injected faults for as long as it takes, in rounds that can be repeated alone.

Each round has a data folder and a seed of its own. What a round counted is kept in the work folder, so that a run that
was stopped goes on where it was (`--fresh` forgets), and a round that fails can be repeated alone. Totals go to
bench/results/soak.json once all rounds of a seed are through.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from bench.chaos import Tally, Wrong, run_faults, run_kills
from bench.machine import describe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "soak.json"
KILLS_A_ROUND = 20
FAULTS_A_ROUND = 500
#: How many rounds of each kind are a whole run: 1,000 kills, 10,000 faults.
_ROUNDS = {"kills": 50, "faults": 20}
#: Figures of a moment: the highest counts, not the sum.
_PEAKS = ("open files at the end", "resident bytes at the end")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--only", choices=sorted(_ROUNDS), help="one kind of round")
    parser.add_argument("--rounds", type=int, help="at most so many of each kind in this run")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="ROUND", help="begin with this round")
    parser.add_argument("--fresh", action="store_true", help="forget the rounds that are done")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "soak", help="for data folders and progress")
    options = parser.parse_args(arguments)
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    progress = folder / f"progress-{options.seed}.json"
    done: dict[str, dict[str, int]] = {}
    if progress.exists() and not options.fresh:
        done = json.loads(progress.read_text())
    for kind, last in _ROUNDS.items():
        if options.only not in (None, kind):
            continue
        todo = [number for number in range(options.first, last + 1) if f"{kind}-{number}" not in done]
        for number in todo[: options.rounds]:
            begin = time.monotonic()
            place = folder / f"{kind}-{number}"
            shutil.rmtree(place, ignore_errors=True)
            try:
                tally = _round(kind, place, f"{options.seed}/{number}")
            except Wrong as error:
                print(f"{kind} round {number} FAILED: {error}", file=sys.stderr)
                print(f"Logs and data are kept in {place}. To repeat it:", file=sys.stderr)
                again = f"--only {kind} --from {number} --rounds 1 --seed {options.seed}"
                print(f"  python -m bench.soak {again}", file=sys.stderr)
                return 1
            shutil.rmtree(place)
            seconds = round(time.monotonic() - begin)
            done[f"{kind}-{number}"] = {**tally.counts, "seconds": seconds}
            progress.write_text(json.dumps(done, indent=1))
            print(f"{kind} round {number} of {last}, {seconds} s: {tally.text()}", flush=True)
    return _report(done, options.seed)


def _report(done: dict[str, dict[str, int]], seed: str) -> int:
    """Say what all rounds so far add up to; write it down where all are done."""
    totals: Counter[str] = Counter()
    for counts in done.values():
        for name, count in counts.items():
            totals[name] = max(totals[name], count) if name in _PEAKS else totals[name] + count
    kills = sum(count for name, count in totals.items() if name.startswith("kills "))
    print(f"clean so far: {kills:,} kills, {totals['faults']:,} faults, {totals['answers right']:,} right answers")
    if missing := sum(_ROUNDS.values()) - len(done):
        print(f"{missing} rounds are left; the same command goes on")
        return 0
    document = {
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "seed": seed,
        "kills": kills,
        "faults": totals["faults"],
        "totals": dict(sorted(totals.items())),
        "facts": describe(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _round(kind: str, folder: Path, seed: str) -> Tally:
    if kind == "kills":
        return run_kills(folder, kills=KILLS_A_ROUND, seed=seed)
    return run_faults(folder, faults=FAULTS_A_ROUND, seed=seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
