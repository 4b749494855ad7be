"""`python -m bench`: measure the engine beside its peers and write the figures down.

Full runs write bench/results/<scenario>.json and the tables of docs/performance.md (from all results there). Quick runs
are for trying things out: small bodies, short samples, nothing written.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

from bench import assets, native, report
from bench.machine import Unavailable, describe
from bench.processes import Failed
from bench.report import Outcome
from bench.run import Run, Scenario
from bench.scenarios import busy, cold, ecr, image, manifests, memory, module, start, warm_blobs

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"


def all_scenarios() -> list[Scenario]:
    return [
        one
        for scenario in (warm_blobs, manifests, cold, busy, memory, start, ecr, module, image)
        for one in scenario.scenarios()
    ]


def main(arguments: list[str]) -> int:
    names = [scenario.name for scenario in all_scenarios()]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="scenarios to run: " + ", ".join(names))
    parser.add_argument("--without", nargs="+", default=[], metavar="CANDIDATE", help="e.g. drayage")
    parser.add_argument("--quick", action="store_true", help="small bodies, short samples; writes nothing")
    parser.add_argument("--rounds", type=int, default=0, help="default 5, quick 2")
    parser.add_argument("--seed", type=int, default=1, help="decides the order of the candidates")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "bench", help="folder on a real disk, 12 GB")
    parser.add_argument("--page", action="store_true", help="only write the page anew from the results")
    options = parser.parse_args(arguments)
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.page:
        _write_page(names)
        return 0
    work: Path = options.work.resolve()
    shutil.rmtree(work / "run", ignore_errors=True)
    try:
        run = Run(
            work=work,
            assets=assets.prepare(work, quick=options.quick),
            load=native.load_program(work),
            rounds=options.rounds or (2 if options.quick else 5),
            seconds=1 if options.quick else 3,
            quick=options.quick,
            rng=random.Random(options.seed),
            without=frozenset(options.without),
        )
    except Unavailable as reason:
        print(f"can not measure: {reason}", file=sys.stderr)
        return 1
    failed: list[str] = []
    for scenario in all_scenarios():
        if options.only and scenario.name not in options.only:
            continue
        outcome = Outcome(scenario.name, scenario.title)
        print(f"\n{scenario.name}", flush=True)
        try:
            scenario.measure(run, outcome)
        except Unavailable as reason:
            outcome.left_out["all of it"] = str(reason)
            print(f"  left out: {reason}", flush=True)
        except (Failed, AssertionError) as error:
            # The others are still worth measuring; half a scenario is not.
            failed.append(scenario.name)
            print(f"  FAILED: {error}", flush=True)
            continue
        _print(outcome)
        if not options.quick and outcome.samples:
            facts = {**describe(), "when": time.strftime("%Y-%m-%d", time.gmtime()), "rounds": str(run.rounds)}
            report.write_json(outcome, RESULTS, facts)
    if not options.quick:
        _write_page(names)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _print(outcome: Outcome) -> None:
    if outcome.samples:
        print(report.plain(*report.figure_rows(outcome)))
        print(report.plain(report.VERDICT_HEADER, report.verdict_rows(outcome)), flush=True)


def _write_page(names: list[str]) -> None:
    paths = [RESULTS / f"{name}.json" for name in names]
    report.update_page(PAGE, report.render([report.read_json(path) for path in paths if path.exists()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
