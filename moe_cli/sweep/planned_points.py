"""What a sweep would make, without making it: the points, which of them are complete, their share, time and memory.

The share is what a budget has room for, so a selection may be smaller. Time is measured where a point is complete, 0
where only its evaluation is missing, else that of a record of `moe bench`; what none says is not known. Memory is that
of a followed step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.config import MoeConfig
from moe_cli.records import ArmNeed, PlannedPoint, ResourcePlan, Selection, SweepPlan, TrainingSummary
from moe_cli.sweep.point_places import PointPlace, find_places, is_complete
from moe_cli.sweep.points import EVERYTHING, NO_BUDGET, plan_points

ROUNDING = 1e-9  # as in the selection: a budget that only rounding keeps from an expert has room for it


def preview_sweep(
    prepared: Path,
    config: MoeConfig,
    store: Store,
    plan_of: Callable[[float, int], ResourcePlan],
    *,
    at_once: int,
) -> SweepPlan:
    """The points of a sweep that begins now. `plan_of` says what training at a budget with so many batches needs.

    Raises:
        ArtifactError: no complete prepare run there, or a file of a point is damaged.
        UsageError: the model cannot be planned.
    """
    source = require_unchanged_run(prepared, store, "prepare")
    selection = source.record(layout.SELECTION, Selection)
    places = find_places(plan_points(config), config, source, store, config.sweep.output_dir)
    room = {budget: _room(selection, budget) for budget in config.sweep.budgets}
    fitting = [budget for budget, share in room.items() if share is not None]
    plans = {budget: plan_of(budget, len(selection.batches)) for budget in fitting}
    needs = {budget: plan.arms[0] for budget, plan in plans.items()}
    if plans:
        needs[EVERYTHING] = next(iter(plans.values())).arms[1]
    time_of = next((plan.time_of for plan in plans.values()), None)
    notes = (
        f"time: {time_of}" if time_of else "time: --bench FILE, a record of moe bench --json -o FILE, says more",
        "memory: the peak of a training step of the longest rows, followed without weights; answers take less or more",
    )
    points = tuple(_planned(place, room, needs) for place in places)
    return SweepPlan(prepared=str(prepared), model=selection.base.name, at_once=at_once, points=points, notes=notes)


def _room(selection: Selection, budget: float) -> float | None:
    """The share of the experts for which a budget has room; None: not even for one."""
    total = selection.base.total_params
    num = min(int(budget * total / selection.params_per_expert + ROUNDING), selection.num_experts_total)
    return num * selection.params_per_expert / total if num else None


def _planned(place: PointPlace, room: Mapping[float, float | None], needs: Mapping[float, ArmNeed]) -> PlannedPoint:
    point = place.point
    share = {"base": NO_BUDGET, "baseline": EVERYTHING}.get(point.kind, room.get(point.budget))
    need = needs.get(point.budget) if point.scale == 1.0 else None
    return PlannedPoint(
        point=point,
        is_complete=place.is_complete,
        share=share,
        seconds=_seconds(place, need),
        memory=need.step.peak if need is not None and need.step is not None else None,
    )


def _seconds(place: PointPlace, need: ArmNeed | None) -> float | None:
    """Seconds of the training, 0 where a point has none or none is left to do."""
    if place.training is None or place.point.scale < 1.0:
        return 0.0
    if is_complete(place.training):
        run = finished_run(place.training)
        return run.record(layout.METADATA, TrainingSummary).seconds_training if place.is_complete else 0.0
    if need is None or need.seconds is None or not need.ranks or need.ranks[0].num_steps is None:
        return None
    return need.seconds * need.ranks[0].num_steps
