"""From measured points to a `Sweep`: the arms, the frontier, the smallest sufficient budgets, the values. Pure.

All runs hold the same items, or the sweep is refused. An arm has the points that are complete; what is tested or ranked
needs all of its seeds. What of random experts is independent is the draws: several seeds of one draw have its experts
in common, so that an interval over them all would be too narrow. A draw is therefore the mean of its seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moe_cli.config import MoeConfig
from moe_cli.records import Estimate
from moe_cli.records.budget_sweep import (
    SWEEP_SCHEMA_VERSION,
    ArmRates,
    PointKind,
    PointResult,
    SelectionValue,
    SufficientBudget,
    Sweep,
    SweepArm,
    SweepPoint,
)
from moe_cli.stats.metrics import ACCURACY, ATTACK_SUCCESS, OVER_REFUSAL, mean_over_runs
from moe_cli.stats.outcomes import RunItems, match_items, mean_run, paired_outcomes
from moe_cli.stats.paired import rate_estimate
from moe_cli.sweep.frontier import MeasuredArm, dominating_arms, sufficient_budget
from moe_cli.sweep.point_places import MeasuredPoint
from moe_cli.sweep.points import matched_to
from moe_cli.sweep.selection_value import SweptRuns, selection_value

KINDS: tuple[PointKind, ...] = ("base", "method", "random", "baseline")


@dataclass(frozen=True, slots=True)
class _Arm:
    """The complete points of one arm, with their items."""

    name: str
    point: SweepPoint  # the first of its points
    results: tuple[PointResult, ...]
    items: tuple[RunItems, ...]

    @property
    def independent_runs(self) -> tuple[RunItems, ...]:
        """The runs whose spread is the arm's."""
        return independent_runs([result.point.draw for result in self.results], self.items)

    @property
    def share(self) -> float:
        return sum(result.trainable_ratio or 0.0 for result in self.results) / len(self.results)

    @property
    def seeds(self) -> set[int]:
        return {result.point.seed for result in self.results}

    def measured(self) -> MeasuredArm:
        return MeasuredArm(
            name=self.name,
            budget=self.point.budget,
            share=self.share,
            runs=self.independent_runs,
            seeded=self.point.kind != "base",
        )


def conclude_sweep(measured: Sequence[MeasuredPoint], config: MoeConfig, prepared: str, model: str) -> Sweep:
    """The record of a sweep.

    Raises:
        ArtifactError: two points were not evaluated on the same items.
    """
    settings, margin = config.sweep, config.compare.margin
    seeds = settings.seeds or (config.seed,)
    arms = _arms(measured)
    beaten = dominating_arms([arm.measured() for arm in arms], margin)
    return Sweep(
        schema_version=SWEEP_SCHEMA_VERSION,
        prepared=prepared,
        model=model,
        margin=margin,
        budgets=settings.budgets,
        seeds=seeds,
        num_draws=settings.random_draws,
        points=tuple(one.result for one in measured),
        arms=tuple(_arm_record(arm, beaten.get(arm.name)) for arm in arms),
        sufficient=tuple(_sufficient(method, arms, config, seeds) for method in settings.methods),
        values=tuple(_value(method, arms, config, seeds) for method in settings.methods),
        judges=tuple(dict.fromkeys(judge for one in measured for judge in one.judges)),
    )


def independent_runs(draws: Sequence[int | None], runs: Sequence[RunItems]) -> tuple[RunItems, ...]:
    """The runs of an arm, or one for each draw, the mean of its seeds, where there are several draws.

    `draws` has the number of each run's random draw; None: that of a method.
    """
    of_draw: defaultdict[int | None, list[RunItems]] = defaultdict(list)
    for draw, run in zip(draws, runs, strict=True):
        of_draw[draw].append(run)
    return tuple(mean_run(seeds) for seeds in of_draw.values()) if len(of_draw) > 1 else tuple(runs)


def percent(share: float) -> str:
    """A share as people write it: `5 %`, `0.25 %`."""
    return f"{100 * share:.4g} %"


def _arms(measured: Sequence[MeasuredPoint]) -> list[_Arm]:
    complete = [one for one in measured if one.items is not None]
    names = [f"{one.result.point.kind} {one.result.digest}" for one in complete]
    matched = match_items(names, [one.items for one in complete if one.items is not None], intersect=False).runs
    groups: defaultdict[tuple[object, ...], list[tuple[PointResult, RunItems]]] = defaultdict(list)
    for one, items in zip(complete, matched, strict=True):
        point = one.result.point
        key = (KINDS.index(point.kind), -point.scale, point.method or "", point.budget)
        groups[key].append((one.result, items))
    several = len({one.result.point.method for one in complete if one.result.point.kind == "random"}) > 1
    arms = []
    for _, members in sorted(groups.items(), key=lambda group: group[0]):
        ordered = sorted(members, key=lambda member: (member[0].point.draw or 0, member[0].point.seed))
        first = ordered[0][0].point
        arms.append(
            _Arm(_name(first, several), first, tuple(result for result, _ in ordered), tuple(run for _, run in ordered))
        )
    return arms


def _name(point: SweepPoint, several_groups: bool) -> str:
    if point.kind in ("base", "baseline"):
        return point.kind
    what = str(point.method)
    if point.kind == "random":
        what = f"random as {point.method}" if several_groups else "random"
    return f"{what} {percent(point.budget)}" + (f" x {point.scale:g}" if point.scale < 1 else "")


def _arm_record(arm: _Arm, beaten_by: str | None) -> SweepArm:
    experts = mean_over_runs([result.num_experts for result in arm.results])
    seeded, runs = arm.point.kind != "base", arm.independent_runs
    return SweepArm(
        name=arm.name,
        kind=arm.point.kind,
        method=arm.point.method,
        budget=arm.point.budget,
        scale=arm.point.scale,
        share=arm.share,
        num_experts=experts,
        runs=tuple(
            ArmRates(
                draw=result.point.draw,
                seed=result.point.seed,
                attack_success=_run_rate(items, ATTACK_SUCCESS),
                over_refusal=_run_rate(items, OVER_REFUSAL),
            )
            for result, items in zip(arm.results, arm.items, strict=True)
        ),
        attack_success=_estimate(runs, ATTACK_SUCCESS, seeded),
        over_refusal=_estimate(runs, OVER_REFUSAL, seeded),
        accuracy=_estimate(runs, ACCURACY, seeded),
        kl=mean_over_runs([result.kl.value if result.kl else None for result in arm.results]),
        degenerate=mean_over_runs([result.degenerate.rate if result.degenerate else None for result in arm.results]),
        beaten_by=beaten_by,
    )


def _run_rate(items: RunItems, metric: str) -> float | None:
    found = _estimate((items,), metric, True)
    return found.value if found else None


def _estimate(runs: tuple[RunItems, ...], name: str, seeded: bool) -> Estimate | None:
    """The rate of an arm; None where no item was scored in every run."""
    metric = next((metric for metric in paired_outcomes(runs, runs) if metric.metric == name), None)
    found = rate_estimate(metric, seeded) if metric is not None else None
    return Estimate(value=found.rate, lower=found.lower, upper=found.upper, n=found.n) if found else None


def _of_method(method: str, arms: Sequence[_Arm]) -> list[_Arm]:
    return [arm for arm in arms if arm.point.kind == "method" and arm.point.method == method and arm.point.scale == 1.0]


def _sufficient(method: str, arms: Sequence[_Arm], config: MoeConfig, seeds: Sequence[int]) -> SufficientBudget:
    """The fixed sequence over all budgets that were asked for; a budget that lacks a seed ends it."""
    by_budget = {arm.point.budget: arm for arm in _of_method(method, arms) if arm.seeds == set(seeds)}
    sequence = [
        by_budget[budget].measured()
        if budget in by_budget
        else MeasuredArm(name=f"{method} {percent(budget)}", budget=budget, share=budget, runs=())
        for budget in config.sweep.budgets
    ]
    baseline = next((arm for arm in arms if arm.point.kind == "baseline" and arm.seeds == set(seeds)), None)
    return sufficient_budget(method, sequence, baseline.measured() if baseline else None, config.compare.margin)


def _value(method: str, arms: Sequence[_Arm], config: MoeConfig, seeds: Sequence[int]) -> SelectionValue:
    own = _of_method(method, arms)
    random = [arm for arm in arms if arm.point.kind == "random" and arm.point.method == matched_to(method)]
    return selection_value(
        method,
        SweptRuns(draw=None, runs=_runs(own, None)),
        [SweptRuns(draw=draw, runs=_runs(random, draw)) for draw in range(1, config.sweep.random_draws + 1)],
        {arm.point.budget: arm.share for arm in own},
        seeds,
        seed=config.seed,
    )


def _runs(arms: Sequence[_Arm], draw: int | None) -> Mapping[tuple[float, int], RunItems]:
    return {
        (result.point.budget, result.point.seed): items
        for arm in arms
        for result, items in zip(arm.results, arm.items, strict=True)
        if result.point.draw == draw
    }
