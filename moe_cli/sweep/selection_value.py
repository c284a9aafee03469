"""What a selection is worth against random experts at the same budgets: V, with an interval and a p by rank.

    V = mean over budgets of [attack success of random - attack success of the method]

Random is the mean over draws; the mean over budgets is the trapezoid rule in the logarithm of the share. The area of a
draw is the same mean of its own attack success. Under the hypothesis that the method is one more draw, all 1 + D areas
are exchangeable, so p = (1 + number of draws whose area is no larger than the method's) / (1 + D).

The interval is V -+ t times the standard error, which is that of a bootstrap over clusters, draws and seeds. Of n
draws, and of n seeds, n - 1 are drawn with replacement, which makes the variance of a mean unbiased where n is small
(Rao and Wu 1988, JASA 83:231). The degrees of freedom of t are Satterthwaite's of the parts that draws and seeds have
in the variance: with five draws a percentile interval would hold the true V in 87 %. One seed shows no variance over
seeds and adds none. There is no interval of one draw or one goal, nor where no resample differs. Pure.

Letters of shapes: M the method and the D draws, B budgets, S seeds, C clusters, U suites, X resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from moe_cli.records.budget_sweep import SelectionValue
from moe_cli.stats.clusters import cluster_draws
from moe_cli.stats.metrics import ATTACK_SUCCESS
from moe_cli.stats.outcomes import RunItems
from moe_cli.stats.significance import CONFIDENCE, ROUNDING, rank_p

Floats = NDArray[np.float64]
NUM_RESAMPLES = 2000
NO_BUDGET = "no budget has all of its points"
NO_DRAW = "no random draw has all of its points"
NONE_DRAWN = "no random experts were asked for"
UNSCORED = "in some suite a point has no answer to an attack that is scored and not broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptRuns:
    """The runs of one method, or of one draw: by budget and seed."""

    draw: int | None  # None: the method
    runs: Mapping[tuple[float, int], RunItems]

    def has_all(self, budgets: Sequence[float], seeds: Sequence[int]) -> bool:
        """Whether there is a run for every budget and seed."""
        return all((budget, seed) in self.runs for budget in budgets for seed in seeds)


@dataclass(frozen=True, slots=True)
class AttackCounts:
    """Successful and scored attacks of each run, by cluster and suite."""

    yes_MBSCU: Floats
    scored_MBSCU: Floats

    def rates(self, weight_C: Floats) -> Floats:
        """Attack success [M, B, S]: the mean of suites, of clusters with these weights; NaN where none is scored."""
        yes = np.tensordot(self.yes_MBSCU, weight_C, axes=([3], [0]))
        scored = np.tensordot(self.scored_MBSCU, weight_C, axes=([3], [0]))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((yes / scored).mean(-1))


def selection_value(
    method: str,
    of_method: SweptRuns,
    draws: Sequence[SweptRuns],
    shares: Mapping[float, float],
    seeds: Sequence[int],
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> SelectionValue:
    """V of one method. `shares` are its trained shares by budget; budgets that lack a seed of it are left out.

    A draw that lacks a point at one of these budgets is left out. `seed` is that of the bootstrap.
    """
    budgets = tuple(budget for budget in sorted(shares) if of_method.has_all([budget], seeds))
    complete = [draw for draw in draws if draw.has_all(budgets, seeds)] if budgets else []
    left_out = tuple(draw.draw or 0 for draw in draws if not (budgets and draw.has_all(budgets, seeds)))
    if not complete:
        why = (NO_BUDGET if not budgets else NO_DRAW) if draws else NONE_DRAWN
        return _without_value(method, budgets, len(seeds), left_out, why)
    counts = attack_counts([of_method, *complete], budgets, seeds)
    if not counts.scored_MBSCU.size or not counts.scored_MBSCU.any(3).all():
        return _without_value(method, budgets, len(seeds), left_out, UNSCORED)
    weight_B = log_trapezoid([shares[budget] for budget in budgets])
    num_clusters = counts.yes_MBSCU.shape[3]
    area_M = counts.rates(np.ones(num_clusters)).mean(2) @ weight_B
    value = float(area_M[1:].mean() - area_M[0])
    value_X = resampled_values(counts, weight_B, np.random.default_rng(seed), num_resamples)
    half = _half_width(counts, weight_B, value_X)
    return SelectionValue(
        method=method,
        budgets=budgets,
        value=value,
        lower=None if half is None else max(-1.0, value - half),
        upper=None if half is None else min(1.0, value + half),
        p_value=rank_p(-float(area_M[0]), (-area_M[1:]).tolist()),
        least_p=1 / (1 + len(complete)),
        area=float(area_M[0]),
        draw_areas=tuple(area_M[1:].tolist()),
        num_seeds=len(seeds),
        clusters=num_clusters,
        left_out=left_out,
    )


def log_trapezoid(shares: Sequence[float]) -> Floats:
    """Weights [B], which sum to 1, of a mean over budgets by the trapezoid rule in the logarithm of the share.

    Budgets of one and the same share, at which the same experts are selected, have the weight of one.
    """
    places_B = np.array([log(share) for share in shares])
    gaps = np.maximum(np.diff(places_B), 0.0)  # a larger budget can select fewer experts
    if not gaps.any():
        return np.full(len(shares), 1 / len(shares))
    weight_B = np.zeros(len(shares))
    weight_B[:-1] += gaps / 2
    weight_B[1:] += gaps / 2
    return np.asarray(weight_B / weight_B.sum())


def attack_counts(curves: Sequence[SweptRuns], budgets: Sequence[float], seeds: Sequence[int]) -> AttackCounts:
    """The counts of every curve at these budgets and seeds. All runs hold the same items."""
    first = next(iter(curves[0].runs.values()))
    attacks = [item for item in first.values() if ATTACK_SUCCESS in item.outcomes]
    clusters = {name: place for place, name in enumerate(sorted({item.cluster for item in attacks}))}
    suites = {name: place for place, name in enumerate(sorted({item.suite for item in attacks}))}
    shape = (len(curves), len(budgets), len(seeds), len(clusters), len(suites))
    yes, scored = np.zeros(shape), np.zeros(shape)
    for m, one in enumerate(curves):
        for b, budget in enumerate(budgets):
            for s, seed in enumerate(seeds):
                run = one.runs[budget, seed]
                for item in attacks:
                    outcome = run[item.id].outcomes[ATTACK_SUCCESS]
                    if outcome is not None:
                        place = (m, b, s, clusters[item.cluster], suites[item.suite])
                        yes[place] += float(outcome)
                        scored[place] += 1
    return AttackCounts(yes, scored)


def resampled_values(
    counts: AttackCounts, weight_B: Floats, generator: np.random.Generator, num_resamples: int
) -> Floats:
    """V of each bootstrap sample [X]."""
    num_rows, _, num_seeds, num_clusters, _ = counts.yes_MBSCU.shape
    weight_XC = cluster_draws(num_clusters, num_resamples, generator)
    draw_XD = _part_draws(num_rows - 1, num_resamples, generator)
    seed_XS = _part_draws(num_seeds, num_resamples, generator)
    values = []
    for weight_C, draw_D, seed_S in zip(weight_XC, draw_XD, seed_XS, strict=True):
        area_M = (counts.rates(weight_C) @ seed_S) @ weight_B
        values.append(float(draw_D @ area_M[1:] - area_M[0]))
    return np.array(values)


def _half_width(counts: AttackCounts, weight_B: Floats, value_X: Floats) -> float | None:
    """Half of the interval's width; None of one draw or one goal, or where no resample differs."""
    num_goals = counts.yes_MBSCU.shape[3]
    area_MS = np.einsum("mbs,b->ms", counts.rates(np.ones(num_goals)), weight_B)
    num_draws, num_seeds = len(area_MS) - 1, area_MS.shape[1]
    variance = float(np.nanvar(value_X))
    if num_draws < 2 or num_goals < 2 or sqrt(variance) < ROUNDING:
        return None
    parts = [(area_MS[1:].mean(1), num_draws)]
    if num_seeds > 1:
        parts.append((area_MS[1:].mean(0) - area_MS[0], num_seeds))
    shares = [(min(1.0, float(values.var(ddof=1)) / number / variance), number) for values, number in parts]
    inverse = sum(share**2 / (number - 1) for share, number in shares)
    tail = (1 + CONFIDENCE) / 2
    critical = float(stdtrit(1 / inverse, tail) if inverse > 0 else ndtri(tail))
    return critical * sqrt(variance)


def _part_draws(number: int, num_resamples: int, generator: np.random.Generator) -> Floats:
    """Weights that sum to 1 [X, number], from number - 1 draws with replacement; one thing has the weight 1."""
    if number == 1:
        return np.ones((num_resamples, 1))
    return generator.multinomial(number - 1, np.full(number, 1 / number), num_resamples) / (number - 1)


def _without_value(
    method: str, budgets: tuple[float, ...], num_seeds: int, left_out: tuple[int, ...], why: str
) -> SelectionValue:
    return SelectionValue(
        method=method,
        budgets=budgets,
        value=None,
        lower=None,
        upper=None,
        p_value=None,
        least_p=None,
        area=None,
        draw_areas=(),
        num_seeds=num_seeds,
        clusters=0,
        left_out=left_out,
        unknown=why,
    )
