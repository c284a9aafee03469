"""A comparison as a person sees it on a terminal.

Comes in: `Comparison`, and the words of the flips that were asked for. Goes out: rich renderables. Formats, never
computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import Comparison, FlipText, ThresholdCheck
from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.compared_pairs import pair_view
from moe_cli.views.judged import agreement_views, judge_texts, unscored_texts
from moe_cli.views.numbers import NOTHING
from moe_cli.views.safe import safe_text

STATUS_STYLES = {"same": "green", "differs": "red", "unknown": "yellow"}
MOST_LETTERS = 300  # of a prompt or an answer


def compared_view(comparison: Comparison, texts: Sequence[FlipText] = ()) -> RenderableType:
    """Fairness gate, cost and rates side by side, paired differences, judges, flips, thresholds, conclusion."""
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
    """What differs or is unknown, with the values; what is the same, by name."""
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
