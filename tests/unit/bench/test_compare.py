"""What two builds' figures say of each other: intervals, words, tables; and the command line that asks for them."""

from __future__ import annotations

import itertools
import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.__main__ import parse
from bench.builds import Build
from bench.compare import LEAST_ROUNDS, Word, _ranks_beyond, compare, header, interval, judge, write
from bench.report import METRICS, Better, Outcome, Spread

COMMIT = "0123456789"


@pytest.mark.parametrize(
    ("count", "beyond"),
    # Critical values of the two-sided test at 5 %, as tables of it have them.
    [(5, -1), (6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (11, 10), (12, 13), (13, 17), (14, 21), (15, 25), (20, 52)],
)
def test_the_signed_rank_test_has_the_critical_values_of_the_tables(count: int, beyond: int) -> None:
    assert _ranks_beyond(count, 0.025) == beyond
    assert (beyond >= 0) is (count >= LEAST_ROUNDS)


def test_of_few_rounds_the_interval_is_all_of_them() -> None:
    found = interval([1.1, 0.9, 1.3, 1.0, 1.2, 1.4])
    assert found.median == pytest.approx(1.15)
    assert [found.low, found.high] == pytest.approx([0.9, 1.4])


def test_an_interval_is_the_same_the_other_way_round() -> None:
    ratios = [1.31, 0.97, 1.08, 1.12, 1.02, 0.99, 1.05, 1.2, 1.07]
    there, back = interval(ratios), interval([1 / ratio for ratio in ratios])
    assert [1 / back.median, 1 / back.high, 1 / back.low] == pytest.approx([there.median, there.low, there.high])


def test_one_wild_round_widens_the_interval_on_its_side_alone() -> None:
    calm = [1.1, 1.11, 1.09, 1.12, 1.08, 1.1, 1.11, 1.09, 1.1]
    wild = interval([*calm, 20.0])
    assert wild.median == pytest.approx(1.1)
    assert wild.low == pytest.approx(interval(calm).low, abs=0.01)
    assert judge(wild, METRICS["p99_ms"]) is Word.WORSE


def test_too_few_rounds_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 rounds are too few"):
        interval([1.0] * 5)


@pytest.mark.parametrize("rounds", [6, 7, 10, 15])
def test_equal_builds_differ_as_rarely_as_promised(rounds: int) -> None:
    """Noise of each kind that a machine has: even, with wild ones among it, and in few steps."""
    rng = random.Random(rounds)
    noises: list[Callable[[], float]] = [
        lambda: rng.lognormvariate(0, 0.1),
        lambda: rng.lognormvariate(0, 0.02) * (5 if rng.random() < 0.1 else 1),
        lambda: rng.choice([1.0, 1.05]),
    ]
    for noise in noises:
        found = [interval([noise() / noise() for _ in range(rounds)]) for _ in range(800)]
        missed = sum(not one.low <= 1 <= one.high for one in found)
        assert missed / 800 < 0.07  # 5 % at most, and the chance of 800 draws


@pytest.mark.parametrize("rounds", [7, 10, 15])
def test_the_median_lies_within_its_interval(rounds: int) -> None:
    rng = random.Random(rounds)
    for _ in range(300):
        ratios = [rng.paretovariate(0.5) for _ in range(rounds)]
        found = interval(ratios)
        assert found.low <= statistics.median(ratios) == found.median <= found.high


@pytest.mark.parametrize(
    ("low", "high", "of_more", "of_less"),
    [
        (1.01, 1.2, Word.BETTER, Word.WORSE),
        (0.8, 0.99, Word.WORSE, Word.BETTER),
        (0.99, 1.2, Word.SAME, Word.SAME),
        (1.0, 1.2, Word.SAME, Word.SAME),
        (0.8, 1.0, Word.SAME, Word.SAME),
    ],
)
def test_a_word_wants_the_whole_interval_on_one_side(low: float, high: float, of_more: Word, of_less: Word) -> None:
    ratio = Spread((low + high) / 2, low, high)
    assert judge(ratio, METRICS["requests_per_second"]) is of_more
    assert judge(ratio, METRICS["p99_ms"]) is of_less


def outcome(this: list[dict[str, float]], that: list[dict[str, float]], candidate: str = "pullthrough") -> Outcome:
    made = Outcome("scenario", "A scenario")
    for number, (mine, other) in enumerate(itertools.zip_longest(this, that)):
        if mine is not None:
            made.add("case", number, candidate, mine)
        if other is not None:
            made.add("case", number, Build(Path("python"), COMMIT).label(candidate), other)
    return made


def test_rows_compare_rounds_and_know_which_way_is_good() -> None:
    # The machine is slower from round to round; this checkout is worse by a tenth in each of them.
    speeds = [100.0, 90, 80, 70, 60, 50, 40]
    rows = compare(
        outcome(
            [{"mb_per_second": speed * 0.9, "p99_ms": 9.0, "client_busy": 0.5} for speed in speeds],
            [{"mb_per_second": speed, "p99_ms": 10.0, "client_busy": 0.4} for speed in speeds],
        ),
        COMMIT,
    )
    assert [(row.metric, row.word) for row in rows] == [("mb_per_second", Word.WORSE), ("p99_ms", Word.BETTER)]
    assert rows[0].ratio is not None
    assert rows[0].ratio.median == pytest.approx(0.9)
    assert rows[0].cells() == [
        "worse",
        "0.900 (0.900–0.900)",
        "case",
        "MB/s",
        "63 (36–90)",
        "70 (40–100)",
    ]


def test_conditions_are_compared_each_with_itself() -> None:
    mixed = outcome([{"seconds": 1.0}] * 6, [{"seconds": 1.0}] * 6, "idle")
    mixed.samples += outcome([{"seconds": 9.0}] * 6, [{"seconds": 3.0}] * 6, "beside a fill").samples
    assert [(row.candidate, row.word) for row in compare(mixed, COMMIT)] == [
        ("idle", Word.SAME),
        ("beside a fill", Word.WORSE),
    ]
    assert compare(mixed, COMMIT)[0].cells()[3] == "s, idle"


@pytest.mark.parametrize(
    ("this", "that"),
    [
        ([{"growth_mb": 0.0}] * 6, [{"growth_mb": 1.0}] * 6),
        ([{"growth_mb": 1.0}] * 6, [{"growth_mb": 1.0}] * 5 + [{"growth_mb": 0.0}]),
        ([{"growth_mb": 1.0}] * 5, [{"growth_mb": 1.0}] * 6),
    ],
    ids=["no ratio at all", "too few", "a round of one build only"],
)
def test_what_has_too_few_ratios_is_said_to_be_unknown(
    this: list[dict[str, float]], that: list[dict[str, float]]
) -> None:
    (row,) = compare(outcome(this, that), COMMIT)
    assert (row.word, row.ratio) == (Word.UNKNOWN, None)
    assert row.cells()[:2] == ["?", "–"]


def test_a_candidate_that_one_build_only_has_is_no_row() -> None:
    assert compare(outcome([{"seconds": 1.0}] * 6, []), COMMIT) == []


def test_tables_are_written_by_the_files_name(tmp_path: Path) -> None:
    rows = compare(outcome([{"seconds": 1.1}] * 6, [{"seconds": 1.0}] * 6), COMMIT)
    write(tmp_path / "rows.md", rows, COMMIT, {"cpu": "two cores"})
    write(tmp_path / "rows.json", rows, COMMIT, {"cpu": "two cores"})
    text = (tmp_path / "rows.md").read_text()
    assert text.startswith(f"| {' | '.join(header(COMMIT))} |\n| --- |")
    assert "| worse | 1.100 (1.100–1.100) | case | s | 1.10 (1.10–1.10) | 1.00 (1.00–1.00) |" in text
    assert text.endswith("\n\ncpu: two cores.\n")
    document = json.loads((tmp_path / "rows.json").read_text())
    (row,) = document["rows"]
    assert (document["against"], row["word"], row["ratio"]["low"]) == (COMMIT, "worse", pytest.approx(1.1))


def test_every_figure_says_which_way_is_good_unless_it_may_be_zero_or_explains_another() -> None:
    neither = {name for name, metric in METRICS.items() if metric.better is Better.NEITHER}
    assert neither == {"client_busy", "first_byte_delay_ms"}


# --- the command line ------------------------------------------------------------------------------------------------


def test_rounds_are_enough_for_an_interval_unless_told_otherwise() -> None:
    assert parse([], ["start"]).rounds == 5
    assert parse(["--quick"], ["start"]).rounds == 2
    assert parse(["--against", "main"], ["start"]).rounds == 10
    assert parse(["--against", "main", "--quick"], ["start"]).rounds == 7
    assert parse(["--against", "main", "--rounds", "6"], ["start"]).rounds == 6


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--against", "main", "--rounds", "5"], "--against needs at least --rounds 6"),
        (["--against", "main", "--page"], "--page writes what `make bench` measured"),
        (["--out", "rows.md"], "--out is for --against"),
        (["--against", "main", "--out", "rows.txt"], "ends neither with .json nor with .md"),
        (["--only", "begin"], "no such scenario: begin"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, ["start"])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
