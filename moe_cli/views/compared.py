"""A comparison for the terminal, 80 columns wide, and as Markdown: `comparison.md`. Computes nothing.

Both show the tables of `compared_tables`. Markdown begins with the conclusion, and has the ids of all flips. Names and
ids from elsewhere can neither break a table nor become a link, HTML or markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from moe_cli.records import Comparison, FlipText, PairComparison
from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.compared_tables import (
    MCNEMAR,
    difference_table,
    fairness_table,
    flip_list,
    flip_table,
    threshold_table,
)
from moe_cli.views.judge_tables import (
    NamedRuns,
    agreement_table,
    judge_table,
    judge_texts,
    unscored_table,
    unscored_texts,
)
from moe_cli.views.table import as_markdown, as_rich
from moe_cli.views.text import NOTHING, markdown_text, safe_text
from moe_cli.views.transfer_tables import transfer_tables

MOST_LETTERS = 300  # of a prompt or an answer


def compared_view(comparison: Comparison, texts: Sequence[FlipText] = ()) -> RenderableType:
    """The whole comparison: fairness, cost, rates, differences, judges, flips, thresholds and conclusion."""
    judged = _judged(comparison)
    return Group(
        *([as_rich(fairness_table(comparison))] if comparison.fairness else []),
        as_rich(side_by_side(comparison)),
        *(_pair_view(pair, comparison) for pair in comparison.pairs),
        *([_legend()] if comparison.pairs else []),
        *map(as_rich, transfer_tables(comparison)),
        *([as_rich(agreement_table(judged))] if any(summary.agreement for _, summary in judged) else []),
        *judge_texts(judged, named=True),
        *unscored_texts(judged, named=True),
        *(_flip_view(text) for text in texts),
        *([as_rich(threshold_table(comparison))] if comparison.thresholds else []),
        Text("Conclusion", style="bold"),
        *(safe_text(f"- {sentence}") for sentence in comparison.conclusion),
    )


def _judged(comparison: Comparison) -> NamedRuns:
    return [(column.name, column.evaluation) for column in comparison.columns if column.evaluation]


def _pair_view(pair: PairComparison, comparison: Comparison) -> RenderableType:
    """The differences of one pair, and how many items flipped."""
    exact = [f"{found.metric} {found.p_mcnemar:.3g}" for found in pair.primary if found.p_mcnemar is not None]
    mcnemar = [safe_text(f"{MCNEMAR}: {', '.join(exact)}")] if exact else []
    return Group(as_rich(difference_table(pair, comparison)), as_rich(flip_table(pair)), *mcnemar)


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


def compared_markdown(comparison: Comparison) -> str:
    """The whole comparison as Markdown."""
    parts = [
        "# Comparison",
        "\n".join(f"- {markdown_text(sentence)}" for sentence in comparison.conclusion),
        *([as_markdown(threshold_table(comparison))] if comparison.thresholds else []),
        *([as_markdown(fairness_table(comparison, everything=True))] if comparison.fairness else []),
        as_markdown(side_by_side(comparison)),
        *(part for pair in comparison.pairs for part in _pair_markdown(pair, comparison)),
        *map(as_markdown, transfer_tables(comparison)),
        *_judge_markdown(_judged(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _pair_markdown(pair: PairComparison, comparison: Comparison) -> Iterator[str]:
    yield as_markdown(difference_table(pair, comparison))
    yield as_markdown(flip_table(pair), 3)
    if pair.flips:
        yield as_markdown(flip_list(pair), 3)


def _judge_markdown(judged: NamedRuns) -> Iterator[str]:
    if judged:
        yield "## Judges"
    for table in (judge_table(judged), unscored_table(judged), agreement_table(judged)):
        if table.rows:
            yield as_markdown(table, 3)
