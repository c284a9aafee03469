"""A prepare run as a person sees it.

Comes in: `PrepareSummary`, `Selection`. Goes out: rich renderables. Formats, never computes.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import PrepareSummary, Selection
from moe_cli.views.numbers import NOTHING, count_of, optional, seconds_text
from moe_cli.views.safe import safe_text

MOST_EVIDENCE_ROWS = 12


def prepared_view(summary: PrepareSummary, selection: Selection) -> RenderableType:
    """Data, selection per layer, evidence, warnings."""
    warnings = [safe_text(f"warning: {text}", style="yellow") for text in (*summary.warnings, *selection.warnings)]
    return Group(
        _data_table(summary), _layer_table(selection), _evidence_table(selection), _union_text(selection), *warnings
    )


def _data_table(summary: PrepareSummary) -> Table:
    table = Table(title="Data", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("pairs kept", count_of(summary.num_kept, summary.num_pairs))
    for reason, number in summary.drop_reasons.items():
        table.add_row("  dropped", safe_text(f"{number}: {reason}"))
    table.add_row("plain goals refused in full", _judged(*summary.plain_refused))
    table.add_row("attacked goals complied with", _judged(*summary.attacked_complied))
    table.add_row("benign prompts kept", count_of(summary.num_benign_kept, summary.num_benign))
    batch = f"{summary.num_plain} plain + {summary.num_benign_in_batch} benign + {summary.num_attacked} attacked"
    table.add_row("batches", f"{summary.num_batches} of {summary.batch_size} = {batch}")
    table.add_row("pairs left over", str(summary.num_pairs_left_over))
    table.add_row("different refusal targets", f"{summary.distinct_targets}, {summary.own_refusals} pairs in own words")
    table.add_row(
        "answering / routing", f"{seconds_text(summary.seconds_generate)} / {seconds_text(summary.seconds_routing)}"
    )
    return table


def _judged(part: int, whole: int) -> str:
    return f"{count_of(part, whole)}, by the keyword judge"


def _layer_table(selection: Selection) -> Table:
    table = Table(title=safe_text(f"Selected experts ({selection.method})"), title_justify="left")
    for name in ("layer", "candidates", "union"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    candidates = Counter(expert.layer for expert in selection.candidates)
    union = Counter(expert.layer for expert in selection.union)
    for layer in selection.base.layers:
        size = selection.base.num_experts
        table.add_row(str(layer), count_of(candidates[layer], size), count_of(union[layer], size))
    table.add_section()
    total = selection.num_experts_total
    table.add_row(
        "all", count_of(len(selection.candidates), total), count_of(len(selection.union), total), style="bold"
    )
    return table


def _evidence_table(selection: Selection) -> Table:
    table = Table(title="Evidence for the selected experts", title_justify="left")
    for name in ("expert", "risk difference", "95 % interval", "q", "stability", "batches"):
        table.add_column(name, justify="left" if name == "expert" else "right")
    strongest = sorted(selection.evidence, key=lambda found: -(found.risk_diff or 0.0))
    for found in strongest[:MOST_EVIDENCE_ROWS]:
        table.add_row(
            f"{found.expert.layer}.{found.expert.index}",
            optional(found.risk_diff, 3),
            f"[{optional(found.lower, 3)}, {optional(found.upper, 3)}]",
            optional(found.q_value, 4),
            NOTHING if found.stability is None else f"{100 * found.stability:.0f} %",
            count_of(found.num_batches, len(selection.batches)),
        )
    if len(strongest) > MOST_EVIDENCE_ROWS:
        table.caption = f"{len(strongest) - MOST_EVIDENCE_ROWS} more in selection.json"
    return table


def _union_text(selection: Selection) -> Text:
    null = selection.null_union
    noise = (
        f"the same rule selects {null.mean:.1f} [{null.lower:.0f}, {null.upper:.0f}] with the sides swapped at random"
        if null is not None
        else "the null union is defined for the method risk_diff alone"
    )
    return Text(
        f"union: {len(selection.union)} experts, {selection.trainable_params:,} parameters, "
        f"{100 * selection.trainable_ratio:.2f} % of all; {noise}"
    )
