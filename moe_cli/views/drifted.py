"""How far a model moved from its base, as a person sees it.

Comes in: `EvaluationSummary`. Goes out: rich renderables. Formats, never computes. Always holds: what was not measured
says why.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import Estimate, EvaluationSummary, GroupDrift, RestoredRouter, RoutingDrift
from moe_cli.views.numbers import SMALL, estimate_text, percent_text, rate_text
from moe_cli.views.safe import safe_text

MOST_LAYERS = 16


def drift_views(summary: EvaluationSummary) -> Iterator[RenderableType]:
    """What it says, where its tokens go, its weights, and what its router does."""
    if summary.unmeasured is not None:
        return
    if summary.base is None:
        yield Text("drift: - (a bare model has no base to drift from)")
        return
    yield _text_drift(summary)
    if summary.routing_drift is not None:
        yield _routing_table(summary.routing_drift)
    if summary.weight_drift is not None:
        yield _weight_table(summary.weight_drift)
    if summary.restored_router is not None:
        yield _restored_text(summary.restored_router)


def _text_drift(summary: EvaluationSummary) -> RenderableType:
    drift = summary.drift
    if drift is None:
        return Text("drift on text, routing drift: - (no texts)")
    table = Table(title="Drift from the base on held-out benign text", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("perplexity ratio", estimate_text(drift.perplexity_ratio))
    table.add_row("perplexity base -> tuned", f"{drift.perplexity_base:.3f} -> {drift.perplexity_tuned:.3f}")
    table.add_row("mean KL per token, nats", estimate_text(drift.kl_mean, SMALL))
    table.add_row("99 % of tokens below", f"{drift.kl_99:{SMALL}} (n {drift.num_tokens} tokens)")
    table.add_row("same most likely token", estimate_text(drift.same_top_share))
    return table


def _routing_table(drift: RoutingDrift) -> Table:
    selected = f", {drift.num_selected} selected experts" if drift.num_selected is not None else ""
    title = f"Routing drift on the same texts (n {drift.num_tokens} tokens{selected})"
    table = Table(title=safe_text(title), title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("JS [95 %], 1e-3 nats")
    table.add_column("same choices")
    table.add_column("on selected", justify="right")
    table.add_column("load entropy", justify="right")
    moved = sorted(drift.layers, key=lambda layer: -layer.js.value)[:MOST_LAYERS]
    for layer in sorted(moved, key=lambda layer: layer.layer):
        table.add_row(
            str(layer.layer),
            _thousandths(layer.js),
            percent_text(layer.overlap.value),
            f"{percent_text(layer.on_selected_base)} -> {percent_text(layer.on_selected_tuned)}",
            f"{layer.entropy_base:.3f} -> {layer.entropy_tuned:.3f}",
        )
    if len(moved) < len(drift.layers):
        table.caption = f"the {MOST_LAYERS} of {len(drift.layers)} layers that moved most"
    table.add_section()
    on_selected = f"{percent_text(drift.on_selected_base)} -> {percent_text(drift.on_selected_tuned)}"
    table.add_row("mean", _thousandths(drift.js), percent_text(drift.overlap.value), on_selected, "", style="bold")
    return table


def _weight_table(groups: tuple[GroupDrift, ...]) -> Table:
    table = Table(title="Weight drift", title_justify="left")
    table.add_column("parameters")
    table.add_column("changed / all", justify="right")
    table.add_column("relative L2", justify="right")
    for group in groups:
        table.add_row(
            safe_text(group.group), f"{group.num_changed:,} / {group.num_params:,}", f"{group.relative_l2:.3g}"
        )
    return table


def _restored_text(found: RestoredRouter) -> Text:
    if found.changed_params == 0:
        return Text("router restoration: router unchanged, so the repair is not in the router")
    return safe_text(
        f"router restoration: with the base's router attack success {rate_text(found.attack_success)}, as trained "
        f"{rate_text(found.attack_success_tuned)}; of the {found.n} answers that were scored both times, "
        f"{found.only_restored} succeed only with the base's router, {found.only_tuned} only as trained; "
        f"{found.clusters_restored} goals have more successes with the base's router, {found.clusters_tuned} as "
        f"trained; {found.changed_params:,} values of the router had changed"
    )


def _thousandths(found: Estimate) -> str:
    interval = (
        "" if found.lower is None or found.upper is None else f" [{1e3 * found.lower:.2f}, {1e3 * found.upper:.2f}]"
    )
    return f"{1e3 * found.value:.2f}{interval}"
