"""The tables of the report about results and judges; the template writes them as HTML. Computes nothing.

Every cell is text, and no data is `-`. An empty table becomes a sentence that says so. Every judge is listed once,
with what it decides in which runs, and every count is shown with its total.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_cli.judges.judge import accuracy_text
from moe_cli.records import Comparison, PairComparison, PairedDifference, ThresholdCheck
from moe_cli.views.compared import MCNEMAR, base_rates, n_text, ordered, p_cell, seed_lines, verdict_text
from moe_cli.views.compared_columns import AS_JUDGED, row_groups
from moe_cli.views.judge_tables import (
    JudgeOfRuns,
    NamedRuns,
    base_rate,
    both_text,
    judge_alone,
    judges_of_runs,
    kappa_text,
    label_lines,
    roles_text,
    too_few_by_both,
)
from moe_cli.views.report.drawing import minus, signed
from moe_cli.views.report.forest import difference_text, verdict_style
from moe_cli.views.text import NOTHING, count_of, percent_text

NO_BREAK = "\N{NO-BREAK SPACE}"
LETTERS = 16  # of a digest
ALARM = "v-worse"
WITHOUT_DEGENERATE = "Degenerate answers, which a rule decides for all judges alike, do not count."


@dataclass(frozen=True, slots=True)
class CellRow:
    """One row of a table."""

    cells: tuple[str, ...]
    style: str = ""  # class name


@dataclass(frozen=True, slots=True)
class ReportTable:
    """One table; its first column names the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[CellRow, ...]
    notes: tuple[str, ...] = ()
    words: bool = False  # cells hold words, which stand at the left


def cell_rows_of(cells: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> tuple[CellRow, ...]:
    """Rows without a style."""
    return tuple(CellRow(each) for each in cells)


def metric_sheet(pair: PairComparison, comparison: Comparison) -> ReportTable:
    """Base (if it is neither arm), A, B, difference, interval, p and verdict of every measure."""
    base = base_rates(pair, comparison)
    interval = f"B − A, points [{100 * comparison.confidence:.0f}{NO_BREAK}%]"
    primary, others = ordered(pair)
    rows = []
    for difference in primary:
        rows.append(CellRow(_metric_cells(difference, base), f"primary {verdict_style(difference)}"))
        rows += [CellRow(_metric_cells(judge, its_base)) for judge, its_base in judge_alone(difference, base)]
    rows += [CellRow(_metric_cells(difference, base), verdict_style(difference)) for difference in others]
    notes = [*_bounds(primary), *(f"{line}." for line in (*seed_lines(pair), *label_lines(pair)))]
    if pair.unmeasured:
        notes.append(f"Not measured in all runs: {', '.join(pair.unmeasured)}.")
    return ReportTable(
        title=f"{pair.b} (B) minus {pair.a} (A)",
        head=(
            "measure",
            "n (goals)",
            *((f"base,{NO_BREAK}%",) if base else ()),
            f"A,{NO_BREAK}%",
            f"B,{NO_BREAK}%",
            interval,
            "adjusted p",
            MCNEMAR,
            "verdict",
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _metric_cells(difference: PairedDifference, base: dict[str, float]) -> tuple[str, ...]:
    known = base_rate(difference, base)
    return (
        difference.metric,
        n_text(difference),
        *((NOTHING if known is None else f"{100 * known:.1f}",) if base else ()),
        f"{100 * difference.rate_a:.1f}",
        f"{100 * difference.rate_b:.1f}",
        difference_text(difference),
        p_cell(difference, difference.p_adjusted, 2),
        NOTHING if difference.p_mcnemar is None else f"{difference.p_mcnemar:.2g}",
        verdict_text(difference),
    )


def _bounds(primary: Sequence[PairedDifference]) -> Iterator[str]:
    for difference in primary:
        if difference.lowest is not None and difference.highest is not None:
            left_out = (
                f"{difference.unpaired} items left out" if difference.unpaired else "unanswered items count as no"
            )
            yield (
                f"{difference.metric}: {left_out}; counted either way, the difference is between "
                f"{signed(100 * difference.lowest, 1)} and {signed(100 * difference.highest, 1)} points."
            )


def side_by_side_sheet(comparison: Comparison) -> ReportTable:
    """What each arm trained, what it cost, and every overall measure."""
    arms = comparison.arm_columns
    heads = [arm.name if len(arm.runs) == 1 else f"{arm.name} ({len(arm.runs)} runs)" for arm in comparison.arms]
    rows = [
        (title.strip(), *(text(runs) for runs in arms)) for group in row_groups(comparison) for title, text in group
    ]
    notes = (AS_JUDGED,) if comparison.labels else ()
    return ReportTable("Side by side", ("", *heads), cell_rows_of(rows), notes)


def fairness_sheet(comparison: Comparison) -> ReportTable:
    """Checks that differ or are unknown, with the value of every run."""
    checks = [check for check in comparison.fairness if check.status != "same"]
    return ReportTable(
        title="What differs or is unknown",
        head=("condition", "status", *(column.name for column in comparison.columns)),
        rows=tuple(CellRow((check.name, check.status, *check.values), f"gate-{check.status}") for check in checks),
        words=True,
    )


def threshold_sheet(comparison: Comparison) -> ReportTable:
    """Every `--fail-if`, and whether it held."""
    interval = f"{100 * comparison.confidence:.0f} % interval"
    return ReportTable(
        title="Thresholds",
        head=("fail if", "of", "found", interval, "n", "result"),
        rows=tuple(
            CellRow(_threshold_cells(check), "v-worse" if check.failed else "v-better")
            for check in comparison.thresholds
        ),
        words=True,
    )


def _threshold_cells(check: ThresholdCheck) -> tuple[str, ...]:
    bounds = NOTHING if check.lower is None or check.upper is None else f"{check.lower:.4f} to {check.upper:.4f}"
    return (
        check.expression,
        f"{check.metric} of {check.subject}",
        "not measured" if check.value is None else minus(f"{check.value:.4f}"),
        minus(bounds) if bounds != NOTHING else NOTHING,
        NOTHING if check.n is None else str(check.n),
        "failed" if check.failed else "held",
    )


def judge_sheet(runs: NamedRuns) -> ReportTable:
    """Every judge once: what it decides in which runs, and how far it can be trusted."""
    head = ("judge", "decides", "published accuracy", "role", "source", "revision")
    return ReportTable("Who judged", head, cell_rows_of([_judge(found) for found in judges_of_runs(runs)]), words=True)


def _judge(found: JudgeOfRuns) -> tuple[str, ...]:
    judge = found.judge
    return (
        judge.name,
        roles_text(found, named=True),
        accuracy_text(judge) or "not published",
        "smoke test: no claim of safety rests on it" if judge.smoke_test else "judge",
        judge.source or "built in",
        judge.revision[:LETTERS],
    )


def unscored_sheet(runs: NamedRuns) -> ReportTable:
    """Answers that the deciding judges left without a verdict, of how many, and whether that was allowed."""
    kinds = list(dict.fromkeys(kind for _, summary in runs for kind in summary.unscored))
    rows = []
    for name, summary in runs:
        counts = [count_of(*summary.unscored[kind]) if kind in summary.unscored else NOTHING for kind in kinds]
        too_many = bool(summary.overly_unscored)
        verdict = "more than allowed" if too_many else "within"
        rows.append(CellRow((name, *counts, percent_text(summary.max_unscored), verdict), ALARM if too_many else ""))
    return ReportTable("Answers without a verdict", ("run", *kinds, "allowed", "result"), tuple(rows) if kinds else ())


def agreement_sheet(runs: NamedRuns) -> ReportTable:
    """How far every two judges agree."""
    head = ("run", "question", "judges", "agree", "kappa [95 %]", "scored by both")
    rows = tuple(
        CellRow(
            (
                name,
                agreement.question,
                f"{agreement.a}, {agreement.b}",
                percent_text(agreement.agreement),
                kappa_text(agreement),
                both_text(agreement, summary),
            ),
            ALARM if too_few_by_both(agreement, summary) else "",
        )
        for name, summary in runs
        for agreement in summary.agreement
    )
    return ReportTable("Agreement of the judges", head, rows, (WITHOUT_DEGENERATE,) if rows else ())


def no_agreement(runs: NamedRuns) -> str:
    """Why no agreement can be shown."""
    if not runs:
        return "no run was judged here"
    several = any(len(summary.judges) > 1 for _, summary in runs)
    return (
        "not measured, no two judges of a run tell the same" if several else "not measured, one judge judged each run"
    )
