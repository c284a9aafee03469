"""`moe sweep`: how attack success, over-refusal and capability go with the budget, and what the selection is worth.

The points are made by the caller, each of them three ordinary runs; this stage plans them, finds those that are there,
reads the finished evaluations, and writes `sweep.json` and its pages. A point that failed is listed with its reason.
Starts without torch.

A dry run makes nothing: it says which points are complete, and of each its share, time and memory. The share
is what a budget has room for, so a selection may be smaller. Time is measured where a point is complete, 0 where only
its evaluation is missing, else that of a record of `moe bench` for rows of `train.max_length`, which few examples
have; what none says is not known. Memory is that of a followed step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.activity import begin_activity
from moe_cli.artifacts import Store, finished_run, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.records import ArmNeed, Notice, PlannedPoint, ResourcePlan, Selection, Sweep, SweepPlan, TrainingSummary
from moe_cli.records.manifest import Notify
from moe_cli.sweep.conclusions import conclude_sweep
from moe_cli.sweep.point_places import MeasuredPoint, PointPlace, find_places, is_complete, measure_point
from moe_cli.sweep.points import EVERYTHING, NO_BUDGET, plan_points

Failures = Mapping[str, str]  # digest of a point -> why it has no evaluation, or what is wrong with it
ROUNDING = 1e-9  # as in the selection: a budget that only rounding keeps from an expert has room for it


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPages:
    """Makers of the pages for people."""

    markdown: Callable[[Sweep], str]
    report: Callable[[Sweep], str]


@dataclass(frozen=True, slots=True)
class SweepOutput:
    """The result of `moe sweep`."""

    path: Path
    sweep: Sweep


def run(
    prepared: Path,
    config: MoeConfig,
    store: Store,
    notify: Notify,
    make: Callable[[Sequence[PointPlace]], Failures],
    *,
    pages: SweepPages,
    resume: bool = False,
) -> SweepOutput:
    """Make the points that are not there with `make`, which says why any failed, and conclude from all that are.

    Raises:
        ArtifactError: no complete prepare run there, not one point is complete, or runs of different items.
        StoppedError: asked to stop; `resume` goes on.
    """
    store.refuse_unwritable()
    source = require_unchanged_run(prepared, store, "prepare")
    model = source.record(layout.SELECTION, Selection).base
    output = free_directory(config.sweep.output_dir, "sweep", config if resume else None)
    with open_run(output, "sweep", config, resume=resume) as writer, resumable(output, f"{layout.POINTS}/*"):
        places = find_places(plan_points(config), config, source, store, output)
        missing = [place for place in places if not place.is_complete]
        if len(missing) < len(places):
            notify(Notice(text=f"{len(places) - len(missing)} of {len(places)} points are there already"))
        failures = make(missing) if missing else {}
        with begin_activity("reading the evaluations"):
            measured = [measure_point(place, source, store, failures.get(place.digest)) for place in places]
        _refuse_nothing(measured)
        with begin_activity("concluding"):
            sweep = conclude_sweep(measured, config, str(prepared), model.name)
        write_atomic(output / layout.SWEEP, encode(sweep, indent=True))
        write_atomic(output / layout.SWEEP_PAGE, pages.markdown(sweep).encode())
        write_atomic(output / layout.REPORT, pages.report(sweep).encode())
        writer.parents |= {"prepare": source.digest, **_parents(places, store)}
        store.add(writer, base_fingerprint=model.fingerprint, model_name=model.name, device="none")
    return SweepOutput(output, sweep)


def _refuse_nothing(measured: Sequence[MeasuredPoint]) -> None:
    if any(point.result.state == "complete" for point in measured):
        return
    reason = next((point.result.reason for point in measured if point.result.reason), "nothing was made")
    raise ArtifactError(f"no point of the sweep is complete; the first: {reason}", hint="mend that, and add --resume")


def _parents(places: Sequence[PointPlace], store: Store) -> dict[str, str]:
    """The evaluations that the sweep was made from."""
    evaluations = [place.evaluation for place in places if is_complete(place.evaluation)]
    return {
        f"evaluation {number}": require_unchanged_run(path, store, "evaluation").digest
        for number, path in enumerate(evaluations, start=1)
    }


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
    plan = next(iter(plans.values()), None)
    if plan is not None:
        needs[EVERYTHING] = plan.arms[1]
    notes = (
        "time: --bench FILE, a record of moe bench --json -o FILE, says more"
        if plan is None or plan.time_of is None
        else f"time: {plan.time_of}; of rows of {plan.length:,} tokens (train.max_length), shorter ones take less",
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
