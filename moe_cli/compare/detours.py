"""Whether a repair lives in the experts, or in a router that leads around them.

Comes in: what attacks do to trained models that were given the router of their base. Goes out: a sentence for every
run in which attacks come back, or could have. Always holds: a detour is claimed only where the goals that changed are
too one-sided for chance and the answers that changed are more than the margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.compare.significance import LEVEL, mcnemar_p
from moe_cli.compare.wording import format_points, p_text
from moe_cli.records.comparison import RunColumn
from moe_cli.records.drift import RestoredRouter


def router_claims(columns: Sequence[RunColumn], margin: float) -> Iterator[str]:
    """Sentences about the runs whose router was restored and had changed."""
    for column in columns:
        restored = column.evaluation.restored_router if column.evaluation else None
        if restored is not None and restored.changed_params > 0:
            yield from _detour(column.name, restored, margin)


def _detour(name: str, restored: RestoredRouter, margin: float) -> Iterator[str]:
    """Exact two-sided sign test over goals: of those that changed, half in either direction."""
    if restored.n == 0:
        yield (
            f"Whether part of the repair of {name} lives in its router could not be told: no attack was scored both"
            " as trained and with the router of its base."
        )
        return
    back = (restored.only_restored - restored.only_tuned) / restored.n
    p_value = mcnemar_p(restored.clusters_restored, restored.clusters_tuned)
    if back <= margin:
        return
    yield f"{_change(name, restored, back, p_value)}: {_meaning(p_value)}."


def _change(name: str, restored: RestoredRouter, back: float, p_value: float) -> str:
    changed = restored.clusters_restored + restored.clusters_tuned
    return (
        f"With the router of its base {name} obeys {restored.only_restored} attacks that it does not obey as trained,"
        f" and {restored.only_tuned} the other way round, {format_points(back)} points more (n = {restored.n} answers;"
        f" {restored.clusters_restored} of the {changed} goals that changed obey more, {p_text(p_value)})"
    )


def _meaning(p_value: float) -> str:
    if p_value < LEVEL:
        return "part of its repair lives in the router, not in the experts"
    return "the data cannot tell whether part of its repair lives in the router"
