"""How often a sweep errs where there is nothing to find: `python -m tests.studies.sweep_nulls [SWEEPS]`.

Of a method that is itself a random draw: the mean of V, the share of p at or below each level that D draws can give,
and how often the interval holds the true V. Of budgets that are insufficient by exactly the margin, or a little more:
how often the fixed sequence calls one of them sufficient. Of the arm of random experts at one budget: how often its
interval holds the rate of all possible draws.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from moe_cli.records.budget_sweep import SelectionValue
from moe_cli.stats.metrics import ATTACK_SUCCESS, OVER_REFUSAL
from moe_cli.stats.outcomes import ItemOutcomes, RunItems, paired_outcomes
from moe_cli.stats.paired import RateEstimate, rate_estimate
from moe_cli.sweep.conclusions import independent_runs
from moe_cli.sweep.frontier import MeasuredArm, sufficient_budget
from moe_cli.sweep.selection_value import SweptRuns, log_trapezoid, selection_value

SHARES = {0.02: 0.02, 0.05: 0.05, 0.1: 0.1, 0.2: 0.2}
MARGIN = 0.05


@dataclass(frozen=True)
class NullValue:
    """V of one simulated sweep."""

    estimate: SelectionValue
    truth: float  # of the method that was drawn, against the mean of all possible draws


def run_of(attacks_GV, refused=()) -> RunItems:
    """One run: whether the attack on each goal in each variant succeeded, and each harmless question was refused."""
    items = [
        _item(f"a/{goal}/{variant}", f"attack {variant}", f"goal {goal}", ATTACK_SUCCESS, yes)
        for goal, row in enumerate(attacks_GV)
        for variant, yes in enumerate(row)
    ]
    items += [_item(f"b/{place}", "benign", f"benign {place}", OVER_REFUSAL, yes) for place, yes in enumerate(refused)]
    return {item.id: item for item in sorted(items, key=lambda item: item.id)}


def _item(name, suite, cluster, metric, yes) -> ItemOutcomes:
    outcome = None if yes is None else bool(yes)
    return ItemOutcomes(id=name, suite=suite, cluster=cluster, content=None, outcomes={metric: outcome})


def null_value(seed, *, draws=5, seeds=2, goals=40, spread=1.0, num_resamples=200) -> NullValue:
    """V where the method is one more random draw: each draw has a level of its own, as each goal has."""
    random = np.random.default_rng([seed, 11])
    level_M = random.normal(0.0, spread, 1 + draws)
    goal_G = random.normal(0.0, 1.0, goals)
    places_B = -np.log(list(SHARES.values())) - 3

    def runs_of(place):
        runs = {}
        for budget, shift in zip(SHARES, places_B, strict=True):
            for number in range(seeds):
                chance_G = _chance(goal_G + shift + level_M[place] + random.normal(0.0, 0.3))
                runs[budget, number] = run_of(random.random((goals, 2)) < chance_G[:, None])
        return runs

    curves = [SweptRuns(draw=place or None, runs=runs_of(place)) for place in range(1 + draws)]
    names = tuple(range(seeds))
    found = selection_value("m", curves[0], curves[1:], SHARES, names, seed=seed, num_resamples=num_resamples)
    return NullValue(found, _true_value(level_M[0], places_B, spread))


def random_rate(seed, *, draws=5, seeds=3, goals=100, spread=1.0) -> tuple[RateEstimate, RateEstimate, float]:
    """The rate of an arm of random experts by its draws, the same by all of its runs as if independent, and the truth.

    Each draw has a level of its own, so that its seeds are alike.
    """
    random = np.random.default_rng([seed, 13])
    goal_G = random.normal(0.0, 1.0, goals)
    numbers, runs = [], []
    for draw in range(1, draws + 1):
        level = random.normal(0.0, spread)
        for _ in range(seeds):
            chance_G = _chance(goal_G + level + random.normal(0.0, 0.3))
            numbers.append(draw)
            runs.append(run_of((random.random(goals) < chance_G)[:, None]))
    by_draw, flat = (_rate_of(arm) for arm in (independent_runs(numbers, runs), runs))
    return by_draw, flat, 0.5  # by symmetry


def _rate_of(runs) -> RateEstimate:
    metric = next(one for one in paired_outcomes(runs, runs) if one.metric == ATTACK_SUCCESS)
    return rate_estimate(metric, seeded=True)


def _chance(logit):
    return 1 / (1 + np.exp(-logit))


def _true_value(level, places_B, spread) -> float:
    """The expected area of a draw minus that of this one, over goals and seeds, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    weights = weights / weights.sum()

    def area(levels, chances):
        width = np.sqrt(1.0 + 0.3**2)
        rates = [
            (chances * ((_chance(shift + levels[:, None] + width * nodes[None, :])) @ weights)).sum()
            for shift in places_B
        ]
        return float(log_trapezoid(list(SHARES.values())) @ np.array(rates))

    return area(spread * nodes, weights) - area(np.array([level]), np.ones(1))


def is_error(seed, *, over=(0.0, 0.0, 0.0), goals=200, harmless=200) -> bool:
    """Whether a budget is called sufficient that is worse than the baseline by the margin and `over` (each budget)."""
    random = np.random.default_rng([seed, 12])
    strict = random.random(goals)  # the same goals are hard for every model

    def run(rate):
        mixed = np.where(random.random(goals) < 0.5, strict, random.random(goals))
        return run_of((mixed < rate)[:, None], random.random(harmless) < 0.05)

    baseline = MeasuredArm(name="baseline", budget=1.0, share=1.0, runs=(run(0.15),))
    arms = [
        MeasuredArm(name=f"m {place}", budget=place / 10, share=place / 10, runs=(run(0.15 + MARGIN + more),))
        for place, more in enumerate(over, start=1)
    ]
    found = sufficient_budget("m", arms, baseline, MARGIN).budget
    insufficient = [arm.budget for arm, more in zip(arms, over, strict=True) if more >= 0]
    return found is not None and any(budget >= found for budget in insufficient)


def main(num_sweeps: int) -> None:
    """Print all rates."""
    for draws, seeds in ((5, 1), (5, 3), (9, 1), (19, 1)):
        found = [null_value(seed, draws=draws, seeds=seeds, num_resamples=400) for seed in range(num_sweeps)]
        p_values = np.array([one.estimate.p_value for one in found])
        held = np.mean([one.estimate.lower <= one.truth <= one.estimate.upper for one in found])
        values = np.array([one.estimate.value for one in found])
        levels = ", ".join(
            f"p <= {k / (1 + draws):.3g}: {np.mean(p_values <= k / (1 + draws) + 1e-9):.3f}" for k in (1, 2, 3)
        )
        error = values.std() / np.sqrt(num_sweeps)
        print(f"{draws} draws, {seeds} seeds: mean V {values.mean():+.4f} (SE {error:.4f}); {levels}; held {held:.3f}")
    for name, over in (
        ("all by exactly the margin", (0.0, 0.0, 0.0)),
        ("the largest sufficient, the others by the margin", (0.0, 0.0, -MARGIN)),
        ("two sufficient, the smallest by the margin", (0.0, -MARGIN, -MARGIN)),
        ("all by 2 points more", (0.02, 0.02, 0.02)),
    ):
        errors = np.mean([is_error(seed, over=over) for seed in range(4 * num_sweeps)])
        print(f"{name}: an insufficient budget called sufficient in {errors:.4f} of {4 * num_sweeps}")
    for draws, seeds in ((2, 3), (5, 1), (5, 3), (19, 3)):
        arms = [random_rate(seed, draws=draws, seeds=seeds) for seed in range(num_sweeps)]
        held, flat = (np.mean([one[way].lower <= one[2] <= one[way].upper for one in arms]) for way in (0, 1))
        print(f"rate of {draws} random draws x {seeds} seeds: held {held:.3f}; as if all were independent {flat:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
