"""Two builds of the engine, measured in the same rounds: whether one is worse, and how sure that is.

What is compared is the ratio of this checkout's figure to the other commit's within a round, so that what slows the
machine for a while slows both. From the ratios of all rounds come their median and an interval, by inversion of Wilcoxon's
signed-rank test of their logarithms: exact for any number of rounds, with no assumption but that both orders of a pair were
as likely, which the random order in each round makes true where the builds are the same.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.report import METRICS, Better, Metric, Outcome, Spread, figures, markdown, spread

CONFIDENCE = 0.95
#: With fewer, not even all of them on one side are unlikely enough.
LEAST_ROUNDS = 6


class Word(StrEnum):
    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    #: Figures of 0 have no ratio, and too few of the rounds others.
    UNKNOWN = "?"


@dataclass(frozen=True)
class Row:
    """One figure of one candidate in one case."""

    case: str
    candidate: str
    metric: str
    this: Spread
    that: Spread
    #: this / that within a round: the median, and the interval. None where there is no ratio.
    ratio: Spread | None
    word: Word

    def cells(self) -> list[str]:
        metric = METRICS[self.metric]
        ratio = self.ratio.text(3) if self.ratio else "–"
        what = metric.label if self.candidate == "pullthrough" else f"{metric.label}, {self.candidate}"
        return [self.word, ratio, self.case, what, self.this.text(metric.decimals), self.that.text(metric.decimals)]


def header(commit: str) -> list[str]:
    return ["", f"this / {commit}", "work", "of what", "this", commit]


def compare(outcome: Outcome, commit: str) -> list[Row]:
    """A row for each figure that both builds have and of which more or less is better."""
    rows = []
    pairs = dict.fromkeys((sample.case, sample.candidate) for sample in outcome.samples)
    for case, candidate in pairs:
        other = f"{candidate}@{commit}"
        if (case, other) in pairs:
            for name, metric in METRICS.items():
                this, that = figures(outcome, case, candidate, name), figures(outcome, case, other, name)
                if metric.better is not Better.NEITHER and this and that:
                    ratios = [
                        this[number] / that[number]
                        for number in sorted(this.keys() & that.keys())
                        if this[number] > 0 and that[number] > 0
                    ]
                    ratio = interval(ratios) if len(ratios) >= LEAST_ROUNDS else None
                    word = judge(ratio, metric) if ratio else Word.UNKNOWN
                    rows.append(Row(case, candidate, name, spread(this.values()), spread(that.values()), ratio, word))
    return rows


def judge(ratio: Spread, metric: Metric) -> Word:
    """Worse or better only where the whole interval is on that side of 1."""
    if ratio.low <= 1 <= ratio.high:
        return Word.SAME
    is_higher = ratio.low > 1
    return Word.BETTER if is_higher == (metric.better is Better.HIGHER) else Word.WORSE


def interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Spread:
    """The median of positive ratios, and the ends of the interval. Raises ValueError for fewer than LEAST_ROUNDS.

    The ends are Walsh averages, the means of all pairs of logarithms (each with itself as well): so many from either end
    that the signed-rank statistic is beyond them with at most (1 - confidence) / 2.
    """
    logs = [math.log(ratio) for ratio in ratios]
    beyond = _ranks_beyond(len(logs), (1 - confidence) / 2)
    if beyond < 0:
        raise ValueError(f"{len(logs)} rounds are too few for an interval")
    averages = sorted((first + second) / 2 for index, first in enumerate(logs) for second in logs[index:])
    return Spread(statistics.median(ratios), math.exp(averages[beyond]), math.exp(averages[len(averages) - 1 - beyond]))


def _ranks_beyond(count: int, probability: float) -> int:
    """The greatest sum of ranks that the signed-rank statistic of `count` pairs reaches with at most that probability, or
    less; -1 where there is none. Each of the 2 ** count ways to choose from the ranks is as likely."""
    most = count * (count + 1) // 2
    ways = [1] + [0] * most
    for rank in range(1, count + 1):
        for total in range(most, rank - 1, -1):
            ways[total] += ways[total - rank]
    found, sum_of_ways = -1, 0
    for total, number in enumerate(ways):
        sum_of_ways += number
        if sum_of_ways > probability * 2**count:
            break
        found = total
    return found


def write(path: Path, rows: Sequence[Row], commit: str, facts: dict[str, str]) -> None:
    """A table in Markdown, or all of it as JSON, by the file's name."""
    if path.suffix == ".json":
        path.write_text(json.dumps(_document(rows, commit, facts), indent=1, ensure_ascii=False) + "\n")
    else:
        told = "; ".join(f"{name}: {value}" for name, value in facts.items())
        path.write_text(f"{markdown(header(commit), [row.cells() for row in rows])}\n\n{told}.\n")


def _document(rows: Sequence[Row], commit: str, facts: dict[str, str]) -> dict[str, object]:
    return {
        "against": commit,
        "confidence": CONFIDENCE,
        "facts": facts,
        "rows": [
            {
                "case": row.case,
                "candidate": row.candidate,
                "metric": row.metric,
                "this": row.this.median,
                "that": row.that.median,
                "ratio": row.ratio and {"median": row.ratio.median, "low": row.ratio.low, "high": row.ratio.high},
                "word": row.word,
            }
            for row in rows
        ],
    }
