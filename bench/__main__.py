"""`python -m bench`: measure the engine beside its peers and write the figures down.

Full runs write bench/results/<scenario>.json and the tables of docs/performance.md (from all results there). Quick runs
are for trying things out: small bodies, short samples, nothing written. With --against the engine's peer is itself as it
was at another commit: both are measured in turns, and the exit code is 1 where this checkout is worse.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import assets, compare, native, report
from bench.builds import HERE, ROOT, Build, compared, resolve_commit
from bench.machine import Unavailable, describe
from bench.processes import Failed
from bench.report import Outcome
from bench.run import Run, Scenario
from bench.scenarios import busy, cold, ecr, image, manifests, memory, module, start, warm_blobs

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
    options = parse(arguments, names)
    if options.page:
        _write_page(names)
        return 0
    work: Path = options.work.resolve()
    shutil.rmtree(work / "run", ignore_errors=True)
    try:
        with contextlib.ExitStack() as stack:
            builds: tuple[Build, ...] = (HERE,)
            if options.against:
                builds = stack.enter_context(compared(resolve_commit(options.against), work))
            run = Run(
                work=work,
                assets=assets.prepare(work, quick=options.quick),
                load=native.load_program(work),
                rounds=options.rounds,
                seconds=1 if options.quick else 3,
                quick=options.quick,
                rng=random.Random(options.seed),
                builds=builds,
                without=frozenset(options.without),
            )
            chosen = [scenario for scenario in all_scenarios() if not options.only or scenario.name in options.only]
            return _compare(run, chosen, options.out) if run.compares else _measure(run, chosen, names)
    except Unavailable as reason:
        print(f"can not measure: {reason}", file=sys.stderr)
        return 2


def parse(arguments: list[str], names: list[str]) -> argparse.Namespace:
    """Exits with 2 where they do not go together."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="scenarios to run: " + ", ".join(names))
    parser.add_argument("--without", nargs="+", default=[], metavar="CANDIDATE", help="e.g. drayage")
    parser.add_argument("--quick", action="store_true", help="small bodies, short samples; writes nothing")
    parser.add_argument("--rounds", type=int, default=0, help="default 5, quick 2; with --against 10, quick 7")
    parser.add_argument("--seed", type=int, default=1, help="decides the order of the candidates")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "bench", help="folder on a real disk, 12 GB")
    parser.add_argument("--page", action="store_true", help="only write the page anew from the results")
    parser.add_argument(
        "--against", metavar="COMMIT", help="measure this checkout and that commit in turns, and say what is worse"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --against: the rows as .json or .md")
    options = parser.parse_args(arguments)
    if unknown := set(options.only or ()) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if options.against and options.page:
        parser.error("--page writes what `make bench` measured; --against writes to --out")
    if options.out and not options.against:
        parser.error("--out is for --against")
    if options.out and options.out.suffix not in (".json", ".md"):
        parser.error(f"--out {options.out} ends neither with .json nor with .md")
    if options.against and 0 < options.rounds < compare.LEAST_ROUNDS:
        parser.error(f"--against needs at least --rounds {compare.LEAST_ROUNDS} to be sure of anything")
    usual = (7, 10) if options.against else (2, 5)
    options.rounds = options.rounds or usual[0 if options.quick else 1]
    return options


def _outcomes(run: Run, chosen: list[Scenario], failed: list[str]) -> Iterator[Outcome]:
    """What each scenario found, as it is done; the names of those that broke off go to `failed`."""
    for scenario in chosen:
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
        yield outcome


def _facts(run: Run) -> dict[str, str]:
    return {**describe(), "when": time.strftime("%Y-%m-%d", time.gmtime()), "rounds": str(run.rounds)}


def _measure(run: Run, chosen: list[Scenario], names: list[str]) -> int:
    failed: list[str] = []
    for outcome in _outcomes(run, chosen, failed):
        if outcome.samples:
            print(report.plain(*report.figure_rows(outcome)))
            print(report.plain(report.VERDICT_HEADER, report.verdict_rows(outcome)), flush=True)
            if not run.quick:
                report.write_json(outcome, RESULTS, _facts(run))
    if not run.quick:
        _write_page(names)
    _say_failed(failed)
    return 1 if failed else 0


def _compare(run: Run, chosen: list[Scenario], out: Path | None) -> int:
    """Exit code 1 where anything is worse, else 2 where a scenario failed."""
    commit = run.builds[-1].commit
    failed: list[str] = []
    rows: list[compare.Row] = []
    for outcome in _outcomes(run, chosen, failed):
        if found := compare.compare(outcome, commit):
            rows += found
            print(report.plain(compare.header(commit), [row.cells() for row in found]), flush=True)
    if out:
        compare.write(out, rows, commit, _facts(run))
    worse = [row for row in rows if row.word is compare.Word.WORSE]
    by_chance = len(rows) * (1 - compare.CONFIDENCE) / 2
    print(f"\n{len(rows)} figures against {commit} in {run.rounds} rounds: {len(worse)} worse", end="")
    print(f"; of equal builds about {by_chance:.1f} would be, by chance")
    if worse:
        print(report.plain(compare.header(commit), [row.cells() for row in worse]))
    _say_failed(failed)
    return 1 if worse else 2 if failed else 0


def _say_failed(failed: list[str]) -> None:
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)


def _write_page(names: list[str]) -> None:
    paths = [RESULTS / f"{name}.json" for name in names]
    report.update_page(PAGE, report.render([report.read_json(path) for path in paths if path.exists()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
