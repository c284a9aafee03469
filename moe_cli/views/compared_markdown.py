"""A comparison as a Markdown document: `comparison.md`, and what `--markdown` prints.

It begins with the conclusion and contains every table of the comparison, with the ids of all flips. Names and ids
from elsewhere can neither break a table nor become a link, HTML or markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.records import Comparison, PairComparison, PairedDifference, ThresholdCheck
from moe_cli.views.compared import MCNEMAR, base_rates, flip_counts, n_text, ordered, p_cell, seed_lines, verdict_text
from moe_cli.views.compared_columns import row_groups, side_notes
from moe_cli.views.judge_tables import base_rate, judge_alone, label_lines
from moe_cli.views.report.result_tables import agreement_sheet, judge_sheet, unscored_sheet
from moe_cli.views.text import NOTHING
from moe_cli.views.text import markdown_table as _table
from moe_cli.views.text import markdown_text as _safe


def compared_markdown(comparison: Comparison) -> str:
    """The whole comparison as Markdown."""
    parts = [
        "# Comparison",
        "\n".join(f"- {_safe(sentence)}" for sentence in comparison.conclusion),
        *_thresholds(comparison),
        *_fairness(comparison),
        "## Side by side",
        _side_by_side(comparison),
        *side_notes(comparison),
    ]
    for pair in comparison.pairs:
        parts += _pair(pair, comparison)
    parts += _judges(comparison)
    return "\n\n".join(parts) + "\n"


def _thresholds(comparison: Comparison) -> Iterator[str]:
    if comparison.thresholds:
        yield "## Thresholds"
        head = ("fail if", "of", "what counts", "found", _interval(comparison), "n", "result")
        yield _table(head, (_threshold(check) for check in comparison.thresholds))


def _threshold(check: ThresholdCheck) -> Sequence[str]:
    value = "not measured" if check.value is None else f"{check.value:.4f}"
    bounds = NOTHING if check.lower is None or check.upper is None else f"{check.lower:.4f} to {check.upper:.4f}"
    return (
        _safe(check.expression),
        _safe(f"{check.metric} of {check.subject}"),
        check.evidence,
        value,
        bounds,
        NOTHING if check.n is None else str(check.n),
        "failed" if check.failed else "held",
    )


def _fairness(comparison: Comparison) -> Iterator[str]:
    if comparison.fairness:
        yield "## Fairness gate"
        names = [_safe(column.name) for column in comparison.columns]
        rows = ([_safe(check.name), check.status, *map(_safe, check.values)] for check in comparison.fairness)
        yield _table(["condition", "status", *names], rows)


def _side_by_side(comparison: Comparison) -> str:
    arms = comparison.arm_columns
    named = [row for group in row_groups(comparison) for row in group]
    rows = ([_safe(title.strip()), *(_safe(text(runs)) for runs in arms)] for title, text in named)
    heads = [_safe(f"{arm.name}: {', '.join(arm.runs)}" if len(arm.runs) > 1 else arm.name) for arm in comparison.arms]
    return _table(["", *heads], rows)


def _pair(pair: PairComparison, comparison: Comparison) -> Iterator[str]:
    yield f"## {_safe(pair.b)} (B) minus {_safe(pair.a)} (A)"
    base = base_rates(pair, comparison)
    head = ["measure", "n (goals)", "left out", *(["base"] if base else []), "A", "B", "B - A", _interval(comparison)]
    primary, others = ordered(pair)
    rows = [*_primary_rows(primary, base), *(_cells(difference, base, "exploratory") for difference in others)]
    yield _table([*head, "either way", MCNEMAR, "p", "adjusted p", "verdict", "family"], rows)
    yield from (f"- {_safe(line)}" for line in (*seed_lines(pair), *label_lines(pair)))
    if pair.unmeasured:
        yield f"Not measured in all runs: {_safe(', '.join(pair.unmeasured))}."
    yield "### What flipped"
    if not pair.flips:
        yield "No item flipped."
        return
    counts = flip_counts(pair)
    yield _table(
        ["measure", "suite", "worse in B", "better in B"],
        ([_safe(metric), _safe(suite), str(worse), str(better)] for metric, suite, worse, better in counts),
    )
    yield _table(
        ["", "measure", "suite", "item", "yes in A", "yes in B"],
        (
            [
                flip.direction,
                _safe(flip.metric),
                _safe(flip.suite),
                _safe(flip.item),
                f"{flip.share_a:.2g}",
                f"{flip.share_b:.2g}",
            ]
            for flip in pair.flips
        ),
    )


def _primary_rows(primary: Sequence[PairedDifference], base: dict[str, float]) -> Iterator[Sequence[str]]:
    for difference in primary:
        yield _cells(difference, base, "")
        yield from (_cells(judge, its_base, NOTHING) for judge, its_base in judge_alone(difference, base))


def _cells(difference: PairedDifference, base: dict[str, float], family: str) -> Sequence[str]:
    bounds, known = NOTHING, base_rate(difference, base)
    if difference.lowest is not None and difference.highest is not None:
        bounds = f"{100 * difference.lowest:+.1f} to {100 * difference.highest:+.1f}"
    return (
        _safe(difference.metric),
        n_text(difference),
        str(difference.unpaired),
        *((NOTHING if known is None else f"{100 * known:.1f} %",) if base else ()),
        f"{100 * difference.rate_a:.1f} %",
        f"{100 * difference.rate_b:.1f} %",
        f"{100 * difference.difference:+.1f}",
        f"{100 * difference.lower:+.1f} to {100 * difference.upper:+.1f}",
        bounds,
        NOTHING if difference.p_mcnemar is None else f"{difference.p_mcnemar:.3g}",
        _safe(p_cell(difference, difference.p_value, 3)),
        _safe(p_cell(difference, difference.p_adjusted, 3)),
        verdict_text(difference),
        family or "primary",
    )


def _judges(comparison: Comparison) -> Iterator[str]:
    """The judges, what they left without a verdict, and how far they agree."""
    runs = [(column.name, column.evaluation) for column in comparison.columns if column.evaluation]
    if runs:
        yield "## Judges"
    for sheet in (judge_sheet(runs), unscored_sheet(runs), agreement_sheet(runs)):
        if sheet.rows:
            yield f"### {sheet.title}"
            yield _table(
                [_safe(name) for name in sheet.head], ([_safe(cell) for cell in row.cells] for row in sheet.rows)
            )


def _interval(comparison: Comparison) -> str:
    return f"{100 * comparison.confidence:.0f} % interval"
