"""A comparison as a person sees it.

Comes in: `Comparison`. Goes out: rich renderables. Formats, never computes.
"""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import Comparison, EvaluationSummary, PairComparison, RunColumn
from moe_cli.views.evaluated import judge_text
from moe_cli.views.numbers import NOTHING, bytes_text, count_of, estimate_text, optional, rate_text, seconds_text
from moe_cli.views.safe import safe_text


def compared_view(comparison: Comparison) -> RenderableType:
    """Fairness gate, cost and rates side by side, paired differences, conclusion."""
    judged = next((column.evaluation for column in comparison.columns if column.evaluation), None)
    return Group(
        _fairness_view(comparison),
        side_by_side(comparison.columns),
        *(_difference_table(pair) for pair in comparison.pairs),
        *([_legend(), judge_text(judged)] if judged else []),
        Text("Conclusion", style="bold"),
        *(safe_text(f"- {sentence}") for sentence in comparison.conclusion),
    )


def side_by_side(columns: tuple[RunColumn, ...]) -> Table:
    """Parameters, cost and every overall measure, one column per run."""
    table = Table(title="Side by side", title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(safe_text(column.name), overflow="fold")
    for name, text in _COST_ROWS:
        table.add_row(name, *(safe_text(text(column)) for column in columns))
    table.add_section()
    for name, measure in _MEASURE_ROWS:
        table.add_row(name, *(measure(column.evaluation) if column.evaluation else NOTHING for column in columns))
    return table


def _unfrozen(column: RunColumn) -> str:
    experts = column.experts_per_layer
    return NOTHING if experts is None else count_of(sum(experts), column.num_experts * len(column.layers))


def _per_layer(column: RunColumn) -> str:
    return NOTHING if column.experts_per_layer is None else " ".join(map(str, column.experts_per_layer))


_COST_ROWS: tuple[tuple[str, Callable[[RunColumn], str]], ...] = (
    ("mode", lambda column: column.training_mode.replace("_", " ")),
    ("unfrozen experts", _unfrozen),
    ("  per layer", _per_layer),
    ("trainable params", lambda column: NOTHING if column.trainable_params is None else f"{column.trainable_params:,}"),
    ("trainable ratio", lambda column: optional(column.trainable_ratio, 6)),
    ("training time", lambda column: seconds_text(column.seconds_training)),
    ("peak memory", lambda column: bytes_text(column.peak_memory_bytes)),
    ("last epoch's loss", lambda column: optional(column.final_loss, 4)),
)

_MEASURE_ROWS: tuple[tuple[str, Callable[[EvaluationSummary], str]], ...] = (
    ("attack success", lambda summary: rate_text(summary.attack_success)),
    ("over-refusal", lambda summary: rate_text(summary.over_refusal)),
    ("correct", lambda summary: rate_text(summary.accuracy)),
    ("degenerate", lambda summary: rate_text(summary.degenerate)),
    ("perplexity ratio", lambda summary: estimate_text(summary.drift.perplexity_ratio if summary.drift else None)),
    ("KL per token", lambda summary: estimate_text(summary.drift.kl_mean if summary.drift else None, 4)),
)


def _fairness_view(comparison: Comparison) -> RenderableType:
    """What differs or is unknown, with the values; what is the same, by name."""
    table = Table(title="Fairness gate", title_justify="left")
    table.add_column("condition")
    table.add_column("status")
    table.add_column("values", overflow="fold")
    styles = {"same": "green", "differs": "red", "unknown": "yellow"}
    same = [check.name for check in comparison.fairness if check.status == "same"]
    for check in comparison.fairness:
        if check.status != "same":
            table.add_row(
                safe_text(check.name),
                Text(check.status, style=styles[check.status]),
                safe_text(" | ".join(check.values)),
            )
    alike = safe_text(f"the same in all runs ({len(same)} of {len(comparison.fairness)}): {', '.join(same)}")
    return Group(table, alike) if table.row_count else Group(Text("Fairness gate", style="italic"), alike)


def _difference_table(pair: PairComparison) -> RenderableType:
    title = safe_text(f"{pair.b} minus {pair.a}, same items, percentage points")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("measure", width=22, overflow="fold")
    for name in ("n", "difference [95 %]", "McNemar", "adj. p"):
        table.add_column(name, justify="right" if name == "n" else "left", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for found in pair.differences:
        table.add_row(
            safe_text(f"  {found.metric.partition(': ')[2]}" if ": " in found.metric else found.metric),
            str(found.n),
            f"{100 * found.difference:+.1f} [{100 * found.lower:+.1f}, {100 * found.upper:+.1f}]",
            f"{found.p_mcnemar:.1g}",
            f"{found.p_adjusted:.1g}",
            found.verdict if found.verdict != "inconclusive" else f"inconclusive ({100 * found.detectable:.0f})",
            style="bold" if found.primary else "",
        )
    return table


def _legend() -> Text:
    return Text(
        "McNemar: exact p over items. adj. p: sign flips of whole goals; Holm over attack success, over-refusal and "
        "accuracy, Benjamini-Hochberg over the exploratory rest. inconclusive (x): x points would be found with 80 % "
        "power."
    )
