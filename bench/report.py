"""From samples to verdicts: ratios within a round, medians with their spread, JSON and the tables of docs/performance.md."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any


class Better(Enum):
    """Which of two figures is the better one."""

    HIGHER = auto()
    LOWER = auto()
    #: Neither: it says how another figure came about, or is a difference that may be 0.
    NEITHER = auto()


@dataclass(frozen=True)
class Metric:
    """How a table calls it, and shows it."""

    label: str
    decimals: int
    better: Better


#: Every figure a scenario may report.
METRICS = {
    "mb_per_second": Metric("MB/s", 0, Better.HIGHER),
    "mb_per_second_each": Metric("MB/s a client", 0, Better.HIGHER),
    "cpu_seconds_per_gb": Metric("CPU s/GB", 3, Better.LOWER),
    "client_busy": Metric("client's core", 2, Better.NEITHER),
    "first_byte_ms": Metric("first byte, ms", 1, Better.LOWER),
    "first_byte_delay_ms": Metric("first byte behind upstream's, ms", 1, Better.NEITHER),
    "copies": Metric("upstream copies", 2, Better.LOWER),
    "requests_per_second": Metric("requests/s", 0, Better.HIGHER),
    "p99_ms": Metric("p99, ms", 2, Better.LOWER),
    "body_mb_per_second": Metric("bodies beside it, MB/s", 0, Better.HIGHER),
    "rss_mb": Metric("resident, MB", 1, Better.LOWER),
    "mb_per_client": Metric("MB a client", 3, Better.LOWER),
    "growth_mb": Metric("growth, MB", 1, Better.LOWER),
    "late_to_early": Metric("last pages / first pages", 2, Better.LOWER),
    "seconds": Metric("s", 2, Better.LOWER),
    "own_seconds": Metric("own CPU s", 2, Better.LOWER),
}


@dataclass(frozen=True)
class Sample:
    """What one candidate did in one round of one case."""

    case: str
    round: int
    candidate: str
    values: dict[str, float]


@dataclass(frozen=True)
class Target:
    """A promise: `candidate`'s metric, or its ratio to `peer`'s in the same round, within a limit."""

    case: str
    metric: str
    candidate: str = "pullthrough"
    peer: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def met(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def missed_by(self, value: float) -> float:
        """The distance to the limit as a share of the limit."""
        limit = self.at_least if self.at_least is not None else self.at_most
        return abs(value - limit) / limit if limit else abs(value)


@dataclass
class Outcome:
    """All that a scenario found. `left_out` names candidates that could not run, with the reason."""

    name: str
    title: str
    samples: list[Sample] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, case: str, number: int, candidate: str, values: dict[str, float]) -> None:
        unknown = values.keys() - METRICS.keys()
        assert not unknown, f"no such metric: {unknown}"
        self.samples.append(Sample(case, number, candidate, values))


@dataclass(frozen=True)
class Spread:
    """Median, least and most."""

    median: float
    low: float
    high: float

    def text(self, decimals: int) -> str:
        return f"{self.median:,.{decimals}f} ({self.low:,.{decimals}f}–{self.high:,.{decimals}f})"


def spread(values: Iterable[float]) -> Spread:
    found = sorted(values)
    return Spread(statistics.median(found), found[0], found[-1])


def figures(outcome: Outcome, case: str, candidate: str, metric: str) -> dict[int, float]:
    """A candidate's figure by round."""
    return {
        sample.round: sample.values[metric]
        for sample in outcome.samples
        if sample.case == case and sample.candidate == candidate and metric in sample.values
    }


@dataclass(frozen=True)
class Verdict:
    """`value` is a ratio where the target has a peer, else the figure itself; None where nothing was measured."""

    target: Target
    value: Spread | None
    own: Spread | None
    peer: Spread | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        if self.target.met(self.value.median):
            return "yes"
        return f"**missed by {self.target.missed_by(self.value.median) * 100:.0f} %**"


def judge(outcome: Outcome, target: Target) -> Verdict:
    own = figures(outcome, target.case, target.candidate, target.metric)
    if not target.peer:
        found = spread(own.values()) if own else None
        return Verdict(target, found, found, None)
    peer = figures(outcome, target.case, target.peer, target.metric)
    ratios = [own[number] / peer[number] for number in own.keys() & peer.keys() if peer[number]]
    return Verdict(
        target,
        spread(ratios) if ratios else None,
        spread(own.values()) if own else None,
        spread(peer.values()) if peer else None,
    )


def verdict_rows(outcome: Outcome) -> list[list[str]]:
    """The cells under VERDICT_HEADER; ratios and figures stand first."""
    rows = []
    for target in outcome.targets:
        verdict = judge(outcome, target)
        metric = METRICS[target.metric]
        label, decimals = metric.label, metric.decimals
        # A plain figure is shown with its own decimals, a ratio with two.
        value = verdict.value.text(2 if target.peer else decimals) if verdict.value else "–"
        what = f"{label}, {target.candidate} / {target.peer}" if target.peer else f"{label}, {target.candidate}"
        own = verdict.own.text(decimals) if verdict.own and target.peer else ""
        peer = verdict.peer.text(decimals) if verdict.peer else ""
        rows.append([value, target.wanted, verdict.word, target.case, what, own, peer])
    return rows


def figure_rows(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Every candidate's figures in every case: header and rows."""
    metrics = [name for name in METRICS if any(name in sample.values for sample in outcome.samples)]
    rows = []
    for case in dict.fromkeys(sample.case for sample in outcome.samples):
        for candidate in dict.fromkeys(sample.candidate for sample in outcome.samples if sample.case == case):
            row = [case, candidate]
            for metric in metrics:
                found = figures(outcome, case, candidate, metric)
                row.append(spread(found.values()).text(METRICS[metric].decimals) if found else "")
            rows.append(row)
    return ["case", "candidate", *(METRICS[name].label for name in metrics)], rows


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def plain(header: list[str], rows: list[list[str]]) -> str:
    """The same for a terminal."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )


VERDICT_HEADER = ["ratio or figure", "wanted", "reached", "work", "of what", "its own", "the peer's"]


def write_json(outcome: Outcome, folder: Path, facts: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{outcome.name}.json"
    document = {"facts": facts, **dataclasses.asdict(outcome)}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path


def read_json(path: Path) -> tuple[Outcome, dict[str, str]]:
    document: dict[str, Any] = json.loads(path.read_text())
    facts = document.pop("facts")
    document["samples"] = [Sample(**sample) for sample in document["samples"]]
    document["targets"] = [Target(**target) for target in document["targets"]]
    return Outcome(**document), facts


BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def render(results: list[tuple[Outcome, dict[str, str]]]) -> str:
    """What stands between the markers of the page."""
    if not results:
        return "No figures yet: run `make bench`."
    verdicts = [row for outcome, _ in results for row in verdict_rows(outcome)]
    parts = ["### Targets", markdown(VERDICT_HEADER, verdicts)]
    for outcome, facts in results:
        parts.append(f"### {outcome.title}")
        parts.append(markdown(*figure_rows(outcome)))
        parts += [f"Left out: {name}: {reason}." for name, reason in outcome.left_out.items()]
        parts += outcome.notes
        parts.append(f"Measured {facts['when']}, {facts['rounds']} rounds.")
    facts = results[-1][1]
    skip = {"when", "rounds"}
    parts.append("### Machine and versions of the last run")
    parts.append("; ".join(f"{name}: {value}" for name, value in facts.items() if name not in skip) + ".")
    return "\n\n".join(parts)


def update_page(page: Path, text: str) -> None:
    """Replace what stands between the markers. Raises ValueError where the page has none."""
    old = page.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
