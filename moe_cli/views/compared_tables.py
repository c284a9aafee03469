"""The tables of a comparison, each made once for the terminal, for Markdown and for the report. Computes nothing.

Exploratory metrics stand below a row that says so. Every metric with unscored items says how many there are and what
they could change. Where items share goals, the number of goals that they are worth stands beside n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from moe_cli.records import Comparison, FairnessCheck, PairComparison, PairedDifference, ThresholdCheck
from moe_cli.records.comparison import MOST_TIMES
from moe_cli.views.judge_tables import label_lines
from moe_cli.views.table import CellRow, NarrowColumn, ReportTable, cell_rows_of, columns_of
from moe_cli.views.text import NOTHING, goals_text

VERDICT = "verdict"
EXPLORATORY = "exploratory"
JUDGE_ALONE = "  by the judge alone"  # below the corrected difference
MCNEMAR = "exact McNemar p, if answers were independent"


def n_text(found: PairedDifference) -> str:
    """`800 (200)`: the number of items, and of equally large goals that they are worth, if fewer."""
    goals = goals_text(found.n, found.effective_clusters)
    return f"{found.n} ({goals})" if goals else str(found.n)


def difference_text(found: PairedDifference) -> str:
    """`-12.3 [-20.0, -4.5]`, in points."""
    return f"{100 * found.difference:+.1f} [{100 * found.lower:+.1f}, {100 * found.upper:+.1f}]"


def verdict_text(found: PairedDifference) -> str:
    """The verdict; an inconclusive one with the difference that would be found, in points.

    Within the margin, rare harm has its ratio where that may be large: `within margin, x38`. A metric that labels
    correct has a verdict only once it is corrected.
    """
    if found.by_judge_alone:
        return "too few labels"
    if found.verdict == "within margin" and found.ratio is not None and not found.times_known:
        factor = max(found.ratio.value, 1 / found.ratio.value)
        return f"within margin, x{factor:.0f}" if factor >= MOST_TIMES else "within margin, x?"
    if found.verdict != "inconclusive":
        return found.verdict
    return f"inconclusive ({NOTHING if found.detectable is None else f'{100 * found.detectable:.0f}'})"


def verdict_style(found: PairedDifference) -> str:
    """The class name of a verdict."""
    return f"v-{found.verdict.replace(' ', '-')}"


def p_of(found: PairedDifference, p_value: float, digits: int) -> str:
    """A p-value with so many digits; `<0.001`, or `<0.33` where an arm has several runs, which support no smaller p."""
    smallest = found.smallest_shown_p
    return f"<{smallest:.2g}" if p_value < smallest else f"{p_value:.{digits}g}"


def adjusted_p_text(found: PairedDifference) -> str:
    """The adjusted p-value in six letters: with two digits, below 0.001 with one."""
    return p_of(found, found.p_adjusted, 2 if found.p_adjusted >= 1e-3 else 1)


def difference_table(pair: PairComparison, comparison: Comparison) -> ReportTable:
    """Base (if it is neither arm), A, B, difference, interval, p and verdict of every measure."""
    base = comparison.base_rates(pair)
    interval = f"[{100 * comparison.confidence:.0f} %]"
    columns = (
        ("measure", NarrowColumn("measure", 14)),
        ("n (goals)", NarrowColumn("n", 6, left=False)),
        *([("base, %", NarrowColumn("base", 5, left=False))] if base else []),
        ("A, %", NarrowColumn("A", 5, left=False)),
        ("B, %", NarrowColumn("B", 5, left=False)),
        (f"B \N{MINUS SIGN} A, points {interval}", NarrowColumn(f"B - A {interval}", 20)),
        ("p", None),
        ("adjusted p", NarrowColumn("adj. p", 6)),
        (VERDICT, NarrowColumn("verdict", 12)),
        (MCNEMAR, None),
        ("left out", None),
        ("either way, points", None),
    )
    rows = tuple(_difference_rows(pair, base))
    if all(row.cells[-1] == NOTHING for row in rows if len(row.cells) == len(columns)):
        rows, columns = tuple(replace(row, cells=row.cells[: len(columns) - 1]) for row in rows), columns[:-1]
    head = tuple(name for name, _ in columns)
    return ReportTable(
        title=f"{pair.b} (B) minus {pair.a} (A), same items",
        head=head,
        rows=rows,
        notes=tuple(f"{line}." for line in _difference_notes(pair)),
        empty="nothing was measured in both",
        narrow=tuple(column for _, column in columns),
        telling=head.index(VERDICT),
        borders=False,
    )


def _difference_rows(pair: PairComparison, base: Mapping[str, float]) -> Iterator[CellRow]:
    for found in pair.primary:
        yield CellRow(_difference_cells(found, base, verdict_text(found)), f"primary {verdict_style(found)}")
        if found.uncorrected:
            _, *numbers = _difference_cells(found.uncorrected, base, "not corrected")
            yield CellRow((JUDGE_ALONE, *numbers))
    if pair.exploratory:
        yield CellRow((EXPLORATORY,), "family")
    for found in pair.exploratory:
        metric, _, suite = found.metric.partition(": ")
        cells = _difference_cells(found, base, verdict_text(found))
        yield CellRow(cells, verdict_style(found), (metric, suite) if suite else None)


def _difference_cells(found: PairedDifference, base: Mapping[str, float], verdict: str) -> tuple[str, ...]:
    known = None if found.correction else base.get(found.metric)  # a corrected rate is people's, the base's is not
    bounds = NOTHING
    if found.lowest is not None and found.highest is not None:
        bounds = f"{100 * found.lowest:+.1f} to {100 * found.highest:+.1f}"
    return (
        found.metric,
        n_text(found),
        *((NOTHING if known is None else f"{100 * known:.1f}",) if base else ()),
        f"{100 * found.rate_a:.1f}",
        f"{100 * found.rate_b:.1f}",
        difference_text(found),
        p_of(found, found.p_value, 3),
        adjusted_p_text(found),
        verdict,
        NOTHING if found.p_mcnemar is None else f"{found.p_mcnemar:.3g}",
        str(found.unpaired),
        bounds,
    )


def _difference_notes(pair: PairComparison) -> Iterator[str]:
    for found in pair.primary:
        if found.lowest is not None and found.highest is not None:
            left_out = f"{found.unpaired} items left out" if found.unpaired else "unanswered items count as no"
            yield (
                f"{found.metric}: {left_out}; counted either way, the difference is between "
                f"{100 * found.lowest:+.1f} and {100 * found.highest:+.1f} points"
            )
    yield from _seed_lines(pair)
    yield from label_lines(pair)
    if pair.unmeasured:
        yield f"Not measured in all runs: {', '.join(pair.unmeasured)}"


def _seed_lines(pair: PairComparison) -> Iterator[str]:
    """How far the runs of the arms lie apart in every primary metric, with the p-value of exchanging them."""
    for difference in pair.primary:
        if difference.seeds is not None:
            permuted = "too many ways to exchange runs"
            if difference.seeds.p_permuted is not None:
                permuted = f"p of exchanging runs {difference.seeds.p_permuted:.2g}"
            yield (
                f"{difference.metric}, runs from lowest to highest: {pair.a} {_range(difference.seeds.range_a)}, "
                f"{pair.b} {_range(difference.seeds.range_b)}; {permuted}, at least {difference.seeds.smallest_p:.2g}"
            )


def _range(rates: tuple[float, float]) -> str:
    lowest, highest = (f"{100 * rate:.1f}" for rate in rates)
    return f"{lowest} to {highest} %"


def flip_table(pair: PairComparison) -> ReportTable:
    """How many items became worse and better, by measure and suite."""
    rows = [(metric, suite, str(worse), str(better)) for metric, suite, worse, better in pair.flip_counts]
    head = ("measure", "suite", "worse in B", "better in B")
    narrow = columns_of(head, num_left=2)
    return ReportTable("What flipped", head, cell_rows_of(rows), empty="no item flipped", narrow=narrow, borders=False)


def flip_list(pair: PairComparison) -> ReportTable:
    """Every flip with its item."""
    rows = [
        (flip.direction, flip.metric, flip.suite, flip.item, f"{flip.share_a:.2g}", f"{flip.share_b:.2g}")
        for flip in pair.flips
    ]
    head = ("", "measure", "suite", "item", "yes in A", "yes in B")
    return ReportTable("Every flip", head, cell_rows_of(rows), empty="no item flipped")


def fairness_table(comparison: Comparison, *, everything: bool = False) -> ReportTable:
    """The conditions that differ or are unknown, and the names of those that are the same; or all conditions."""
    same = [check.name for check in comparison.fairness if check.status == "same"]
    shown = [check for check in comparison.fairness if everything or check.status != "same"]
    note = f"The same in all runs ({len(same)} of {len(comparison.fairness)}): {' · '.join(same) or 'nothing'}."
    rows = (CellRow((check.name, check.status, _values(check, comparison)), f"gate-{check.status}") for check in shown)
    return ReportTable(
        title="Fairness gate" if everything else "Fairness gate: what differs or is unknown",
        head=("condition", "status", "values"),
        rows=tuple(rows),
        notes=() if everything else (note,),
        words=True,
        empty="nothing",
        telling=1,
    )


def _values(check: FairnessCheck, comparison: Comparison) -> str:
    """`0.1 (full); 0.2 (selective, tiny)`: every value with its runs."""
    if len(set(check.values)) == 1:
        return check.values[0]
    runs: dict[str, list[str]] = {}
    for column, value in zip(comparison.columns, check.values, strict=True):
        runs.setdefault(value, []).append(column.name)
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in runs.items())


def threshold_table(comparison: Comparison) -> ReportTable:
    """Every `--fail-if`, and whether it held."""
    head = ("fail if", "of", "what counts", "found", f"{100 * comparison.confidence:.0f} % interval", "n", "result")
    return ReportTable(
        title="Thresholds",
        head=head,
        rows=tuple(
            CellRow(_threshold_cells(check), "v-worse" if check.failed else "v-better")
            for check in comparison.thresholds
        ),
        words=True,
        empty="none was asked for",
        narrow=tuple(None if name == "what counts" else NarrowColumn(name) for name in head),
    )


def _threshold_cells(check: ThresholdCheck) -> tuple[str, ...]:
    bounds = NOTHING if check.lower is None or check.upper is None else f"{check.lower:.4f} to {check.upper:.4f}"
    return (
        check.expression,
        f"{check.metric} of {check.subject}",
        check.evidence,
        "not measured" if check.value is None else f"{check.value:.4f}",
        bounds,
        NOTHING if check.n is None else str(check.n),
        "failed" if check.failed else "held",
    )
