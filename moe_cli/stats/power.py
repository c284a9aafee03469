"""The smallest true difference that the verdict would find with 80 % power.

With one run each and yes/no outcomes the exact test is used, summed over all numbers of items that change. The
association of the arms is that of the data, their rate the mean of both, and one arm moves away from the nearer of 0
and 1. Items in clusters count as the independent items that they are worth. With several runs or fractions the
interval's t is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrik, gammaln, ndtri, stdtrit, xlog1py, xlogy

from moe_cli.stats.clusters import design_effect, effective_number, item_moments
from moe_cli.stats.significance import LEVEL

POWER = 0.80
HALF = 0.5  # of an answer, added to either kind of change: some items change, whatever these ones did
STEPS = 14  # of bisection: to 0.01 points
MOST_SUMMED = 400  # numbers of changed items; beyond so many every second one stands for two, and so on
FAR = 6  # standard deviations, beyond which nothing is summed


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The data and test that a difference is based on."""

    a_n: NDArray[np.float64]  # outcomes of every item, means over the runs of an arm
    b_n: NDArray[np.float64]
    vote_n: NDArray[np.float64]  # in the mean; the heaviest is 1
    differences_C: NDArray[np.float64]  # sums of b - a over every cluster
    sizes_C: NDArray[np.float64]  # sums of votes
    exact: bool  # one run each, yes and no, items of one vote: p counts their changes, or flips of clusters
    step: float  # what one answer of one run changes in an item, mean of both arms
    error: float  # standard error of the difference, as the interval has it
    error_of_items: float  # without the pseudo-clusters
    freedom: float  # degrees of freedom of its t


def detectable_effect(design: Design, num_tests: int) -> float | None:
    """The difference that is found with 80 % power, its p corrected for `num_tests` by the worst of Holm's factors.

    None where no difference is: with fewer than 6 clusters no p of sign flips is below 0.05, and with more tests
    more clusters are needed.
    """
    level = LEVEL / num_tests
    if 2.0 ** (1 - len(design.sizes_C)) >= level:
        return None
    if not design.exact:
        return _of_interval(design, level)
    effect = _of_exact_test(design, level)
    if design.freedom >= len(design.sizes_C):
        return effect
    by_interval = _of_interval(design, LEVEL)  # of clusters of unequal size the interval can be the wider hurdle
    return None if effect is None or by_interval is None else max(effect, by_interval)


def _num_independent(design: Design) -> float:
    """How many independent items the clusters are worth."""
    num = effective_number(design.vote_n)
    differences_n = design.b_n - design.a_n
    if len(design.sizes_C) == len(differences_n):
        return num
    if (differences_n == differences_n[0]).all():
        return effective_number(design.sizes_C)
    effect = design_effect(design.differences_C, design.sizes_C, item_moments(differences_n, design.vote_n))
    return max(num / effect, effective_number(design.sizes_C))


def _of_interval(design: Design, level: float) -> float | None:
    """d = t(1 - level / 2) * SE + z(power) * SE of the items, both squared with what a rate that moves by d adds."""
    critical, reach = float(stdtrit(design.freedom, 1 - level / 2)), float(ndtri(POWER))
    rate = float(np.average(design.a_n + design.b_n, weights=design.vote_n)) / 2
    added = design.step * abs(1 - 2 * rate) / _num_independent(design)

    def surplus(difference: float) -> float:
        moved = added * difference
        hurdle = critical * sqrt(design.error**2 + moved) + reach * sqrt(design.error_of_items**2 + moved)
        return difference - hurdle

    return _least(surplus, 0.0, 1.0)


def _of_exact_test(design: Design, level: float) -> float | None:
    a_n, b_n, vote_n = design.a_n, design.b_n, design.vote_n
    only_a, only_b = float(vote_n @ (a_n > b_n)) + HALF, float(vote_n @ (a_n < b_n)) + HALF
    both, neither = float(vote_n @ (a_n * b_n)), float(vote_n @ ((1 - a_n) * (1 - b_n)))
    odds = (both + HALF) * (neither + HALF) / (only_a * only_b)
    rate = (both + (only_a + only_b) / 2) / (both + neither + only_a + only_b)
    rate, num = min(rate, 1 - rate), max(1, round(_num_independent(design)))

    def power(difference: float) -> float:
        both = _share_of_both(rate, rate + difference, odds)
        return _power_of_mcnemar(num, max(0.0, rate - both), max(0.0, rate + difference - both), level)

    return _least(power, POWER, 1 - rate)


def _least(of: Callable[[float], float], enough: float, highest: float) -> float | None:
    """The least difference at which a growing function is large enough, by bisection; None if the highest is not."""
    lower, upper = 0.0, highest
    if of(upper) < enough:
        return None
    for _ in range(STEPS):
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if of(middle) < enough else (lower, middle)
    return upper


def _share_of_both(rate_a: float, rate_b: float, odds: float) -> float:
    """Share of items with yes in both arms, from the two rates and the odds ratio (Plackett 1965, JASA 60:516)."""
    if abs(odds - 1) < 1e-9:
        return rate_a * rate_b
    total = 1 + (rate_a + rate_b) * (odds - 1)
    return (total - sqrt(max(0.0, total**2 - 4 * odds * (odds - 1) * rate_a * rate_b))) / (2 * (odds - 1))


def _power_of_mcnemar(num: int, only_a: float, only_b: float, level: float) -> float:
    """Chance of p < level in exact McNemar, summed over how many of the items change and in which direction."""
    share = min(1.0, only_a + only_b)
    middle, spread = num * share, FAR * sqrt(num * share * (1 - share)) + 1
    first, last = max(0, int(middle - spread)), min(num, int(middle + spread))
    every = 1 + (last - first) // MOST_SUMMED
    changed_N = np.arange(first, last + 1, every)
    most_N = _most_against(changed_N, level)
    changed_N, most_N = changed_N[most_N >= 0], most_N[most_N >= 0]
    log_chance_N = gammaln(num + 1) - gammaln(changed_N + 1) - gammaln(num - changed_N + 1)
    log_chance_N = log_chance_N + xlogy(changed_N, share) + xlog1py(num - changed_N, -share)
    towards = only_b / (only_a + only_b)
    found_N = bdtr(most_N, changed_N, 1 - towards) + bdtr(most_N, changed_N, towards)
    return every * float((np.exp(log_chance_N) * found_N).sum())


def _most_against(changed_N: NDArray[np.intp], level: float) -> NDArray[np.float64]:
    """Of so many changes, how many may be in the rarer direction with p < level; -1: not even none."""
    about = np.nan_to_num(np.floor(bdtrik(level / 2, changed_N, 0.5)), nan=-1.0)
    most = np.full(len(changed_N), -1.0)
    for candidate in (about - 1, about, about + 1):
        fits = (candidate >= 0) & (2 * candidate < changed_N)
        fits &= 2 * bdtr(np.maximum(candidate, 0), changed_N, 0.5) < level
        most = np.where(fits, candidate, most)
    return most
