"""Formats a comparison for the terminal, 80 columns wide. Computes nothing.

Exploratory metrics stand below a line that says so. Every metric with unscored items says how many there are and
what they could change. Where items share goals, the number of goals that they are worth stands beside n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import Comparison, FlipText, PairComparison, PairedDifference, ThresholdCheck
from moe_cli.records.comparison import MOST_TIMES
from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.judge_tables import (
    JUDGE_ALONE,
    agreement_views,
    base_rate,
    judge_alone,
    judge_texts,
    label_lines,
    unscored_texts,
)
from moe_cli.views.text import NOTHING, goals_text, safe_text

EXPLORATORY = "exploratory"
WIDTHS = {"measure": 14, "n": 6, "base": 5, "A": 5, "B": 5, "B - A": 20, "adj. p": 6, "verdict": 12}
MCNEMAR = "exact McNemar p, if answers were independent"
STATUS_STYLES = {"same": "green", "differs": "red", "unknown": "yellow"}
MOST_LETTERS = 300  # of a prompt or an answer


def pair_view(pair: PairComparison, comparison: Comparison) -> RenderableType:
    """The differences of one pair, and how many items flipped."""
    seeds, labels = map(safe_text, seed_lines(pair)), map(safe_text, label_lines(pair))
    return Group(_difference_table(pair, comparison), *_unscored(pair), *seeds, *labels, _flip_table(pair))


def base_rates(pair: PairComparison, comparison: Comparison) -> dict[str, float]:
    """Rates of the untrained model by metric, paired with b, if it is neither of the two arms."""
    untrained = comparison.untrained
    found = [other for other in comparison.pairs if other.a in untrained and other.b == pair.b and other.a != pair.a]
    return {difference.metric: difference.rate_a for other in found[:1] for difference in other.differences}


def n_text(found: PairedDifference, between: str = " ") -> str:
    """`800 (200)`: the number of items, and of equally large goals that they are worth, if fewer."""
    goals = goals_text(found.n, found.effective_clusters)
    return f"{found.n}{between}({goals})" if goals else str(found.n)


def verdict_text(found: PairedDifference) -> str:
    """The verdict; an inconclusive one with the difference that would be found, in points.

    Within the margin, rare harm has its ratio where that may be large: `within margin, x38`. A metric that labels
    correct has a verdict only once it is corrected.
    """
    if found.metric == JUDGE_ALONE:
        return "not corrected"
    if found.by_judge_alone:
        return "too few labels"
    if found.verdict == "within margin" and found.ratio is not None and not found.times_known:
        factor = max(found.ratio.value, 1 / found.ratio.value)
        return f"within margin, x{factor:.0f}" if factor >= MOST_TIMES else "within margin, x?"
    if found.verdict != "inconclusive":
        return found.verdict
    return f"inconclusive ({NOTHING if found.detectable is None else f'{100 * found.detectable:.0f}'})"


def p_cell(found: PairedDifference, p_value: float, digits: int) -> str:
    """A p-value with so many digits; `<0.001`, or `<0.33` where an arm has several runs, which support no smaller p."""
    smallest = found.smallest_shown_p
    return f"<{smallest:.2g}" if p_value < smallest else f"{p_value:.{digits}g}"


def seed_lines(pair: PairComparison) -> Iterator[str]:
    """How far the runs of the arms lie apart in every primary metric, with the p-value of exchanging them."""
    for difference in pair.differences:
        if difference.primary and difference.seeds is not None:
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


def ordered(pair: PairComparison) -> tuple[list[PairedDifference], list[PairedDifference]]:
    """The primary differences, and the exploratory ones."""
    primary = [difference for difference in pair.differences if difference.primary]
    return primary, [difference for difference in pair.differences if not difference.primary]


def flip_counts(pair: PairComparison) -> list[tuple[str, str, int, int]]:
    """Metric, suite, and numbers of items that became worse and better, in the order of the flips."""
    counts = Counter((flip.metric, flip.suite, flip.direction) for flip in pair.flips)
    rows = dict.fromkeys((flip.metric, flip.suite) for flip in pair.flips)
    return [(metric, suite, counts[metric, suite, "worse"], counts[metric, suite, "better"]) for metric, suite in rows]


def _difference_table(pair: PairComparison, comparison: Comparison) -> RenderableType:
    title = safe_text(f"{pair.b} (B) minus {pair.a} (A), same items")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    base = base_rates(pair, comparison)
    for name, width in WIDTHS.items():
        if name != "base" or base:
            head = f"{name} [{100 * comparison.confidence:.0f} %]" if name == "B - A" else name
            right = name in ("n", "base", "A", "B")
            table.add_column(head, width=width, justify="right" if right else "left", overflow="fold")
    primary, others = ordered(pair)
    for difference in primary:
        table.add_row(safe_text(difference.metric), *_cells(difference, base), style="bold")
        for judge, its_base in judge_alone(difference, base):
            table.add_row(f"  {JUDGE_ALONE}", *_cells(judge, its_base))
    if others:
        table.add_row(EXPLORATORY, style="italic")
    above = ""
    for difference in others:
        metric, _, suite = difference.metric.partition(": ")
        if suite and metric != above:
            table.add_row(safe_text(metric))
        above = metric
        table.add_row(safe_text(f"  {suite}" if suite else metric), *_cells(difference, base))
    return table


def _cells(difference: PairedDifference, base: dict[str, float]) -> Iterator[str]:
    yield n_text(difference, "\n")
    if base:
        yield _percent(base_rate(difference, base))
    yield _percent(difference.rate_a)
    yield _percent(difference.rate_b)
    yield f"{100 * difference.difference:+.1f} [{100 * difference.lower:+.1f}, {100 * difference.upper:+.1f}]"
    yield p_cell(difference, difference.p_adjusted, 1)
    yield verdict_text(difference)


def _percent(rate: float | None) -> str:
    return NOTHING if rate is None else f"{100 * rate:.1f}"


def _unscored(pair: PairComparison) -> Iterator[Text]:
    """What the unscored items could change."""
    for difference in pair.differences:
        if difference.primary and difference.lowest is not None and difference.highest is not None:
            left_out = (
                f"{difference.unpaired} items left out" if difference.unpaired else "unanswered items count as no"
            )
            yield safe_text(
                f"{difference.metric}: {left_out}; counted either way, the difference is between "
                f"{100 * difference.lowest:+.1f} and {100 * difference.highest:+.1f} points"
            )


def _flip_table(pair: PairComparison) -> RenderableType:
    exact = [
        f"{found.metric} {found.p_mcnemar:.3g}"
        for found in pair.differences
        if found.primary and found.p_mcnemar is not None
    ]
    mcnemar = safe_text(f"{MCNEMAR}: {', '.join(exact)}") if exact else Text("")
    if not pair.flips:
        return Group(Text("no item flipped"), mcnemar)
    table = Table(title="What flipped", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure", overflow="fold")
    table.add_column("suite", overflow="fold")
    table.add_column("worse in B", justify="right")
    table.add_column("better in B", justify="right")
    for metric, suite, worse, better in flip_counts(pair):
        table.add_row(safe_text(metric), safe_text(suite), str(worse), str(better))
    return Group(table, mcnemar)


def compared_view(comparison: Comparison, texts: Sequence[FlipText] = ()) -> RenderableType:
    """The whole comparison: fairness, cost, rates, differences, judges, flips, thresholds and conclusion."""
    judged = [(column.name, column.evaluation) for column in comparison.columns if column.evaluation]
    return Group(
        *([_fairness_view(comparison)] if comparison.fairness else []),
        side_by_side(comparison),
        *(pair_view(pair, comparison) for pair in comparison.pairs),
        *([_legend()] if comparison.pairs else []),
        *agreement_views(judged, named=True),
        *judge_texts(judged, named=True),
        *unscored_texts(judged, named=True),
        *(_flip_view(text) for text in texts),
        *([_threshold_table(comparison)] if comparison.thresholds else []),
        Text("Conclusion", style="bold"),
        *(safe_text(f"- {sentence}") for sentence in comparison.conclusion),
    )


def _fairness_view(comparison: Comparison) -> RenderableType:
    """Checks that differ or are unknown with their values, and the names of those that are the same."""
    table = Table(title="Fairness gate", title_justify="left")
    table.add_column("condition")
    table.add_column("status")
    table.add_column("values", overflow="fold")
    same = [check.name for check in comparison.fairness if check.status == "same"]
    for check in comparison.fairness:
        if check.status != "same":
            table.add_row(
                safe_text(check.name),
                Text(check.status, style=STATUS_STYLES[check.status]),
                safe_text(" | ".join(check.values)),
            )
    alike = safe_text(f"the same in all runs ({len(same)} of {len(comparison.fairness)}): {', '.join(same)}")
    return Group(table, alike) if table.row_count else Group(Text("Fairness gate", style="italic"), alike)


def _legend() -> Text:
    return Text(
        "Rates in %, differences in points; of several suites the mean of suites, one vote each. "
        "n: items, and in brackets their worth in goals of one size. "
        "adj. p: Holm over what is in bold, of all pairs of trained arms; Benjamini-Hochberg over what is exploratory. "
        "inconclusive (x): x points would be found with 80 % power. "
        "within margin, xR: harm is rare, and R times as often in one of the two (x?: more than twice is possible)."
    )


def _flip_view(text: FlipText) -> RenderableType:
    flip = text.flip
    lines = [
        safe_text(f"{flip.direction}: {flip.metric} of {flip.item} ({flip.suite}), {text.pair}", style="bold"),
        *(
            safe_text(f"  {name}: {NOTHING if words is None else words[:MOST_LETTERS]}")
            for name, words in (("prompt", text.prompt), ("before", text.answer_a), ("after", text.answer_b))
        ),
    ]
    return Group(*lines)


def _threshold_table(comparison: Comparison) -> Table:
    table = Table(title="Thresholds", title_justify="left")
    table.add_column("fail if", overflow="fold")
    table.add_column("of", overflow="fold")
    table.add_column(f"found [{100 * comparison.confidence:.0f} %]", overflow="fold")
    table.add_column("result", overflow="fold")
    for check in comparison.thresholds:
        table.add_row(
            safe_text(check.expression),
            safe_text(f"{check.metric} of {check.subject}"),
            _found(check),
            Text("failed", style="red") if check.failed else Text("held", style="green"),
        )
    return table


def _found(check: ThresholdCheck) -> str:
    if check.value is None:
        return "not measured"
    interval = "" if check.lower is None or check.upper is None else f" [{check.lower:.4f}, {check.upper:.4f}]"
    return f"{check.value:.4f}{interval}, n {check.n}"
