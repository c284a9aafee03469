"""p-values of paired outcomes, and their correction for many metrics.

Comes in: counts of items that changed, or sums of differences per cluster. Goes out: two-sided p-values. Always holds:
swapping the runs changes nothing; no change at all gives 1; every value is exact, nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

GRIDS = (*range(1, 21), 24, 25, 30, 32, 40, 50, 60, 64, 100)  # steps to 1
ROUNDING_GRIDS = (1000, 500, 200, 100, 50, 20, 10)  # the next where one takes too long
ON_THE_GRID = 1e-9
MOST_WORK = 5 * 10**7  # additions; about a second
LEVEL = 0.05  # below it a p-value is significant; every interval has the confidence 1 - LEVEL


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact McNemar: of the items that changed, half in either direction (McNemar 1947, binomial form).

    Takes every item as independent of the others, so it is too small where clusters hold several items.
    """
    if abs(only_a - only_b) <= 1:
        return 1.0  # both tails together hold everything
    return 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))


def sign_flip_p(differences_C: NDArray[np.generic]) -> float:
    """Exact sign-flip test of clusters: under no effect, the two runs of a whole cluster could be swapped.

    P(|sum of +-D_c| >= |sum of D_c|) over all 2^C sign patterns, by convolution (Fisher's randomisation test for
    pairs). With clusters of one item it is exact McNemar.

    Fractions are counted in whole steps of a grid: that of the values where they have one, else thousandths,
    or larger steps where there are very many clusters. Rounding is the same in either direction, so the test of the
    rounded differences is exact as well.
    """
    whole_C = _on_a_grid(differences_C.astype(np.float64))
    steps = np.sort(np.abs(whole_C[whole_C != 0]))
    observed, furthest = abs(int(whole_C.sum())), int(steps.sum())
    if observed == 0:
        return 1.0
    chance = np.ones(1)  # chance[s + sum of the steps so far]: of the sum being s
    for step in steps:
        wider = np.zeros(len(chance) + 2 * int(step))
        wider[: len(chance)] += chance
        wider[2 * int(step) :] += chance
        chance = wider / 2
    return min(1.0, 2 * float(chance[furthest + observed :].sum()))


def _on_a_grid(differences_C: NDArray[np.float64]) -> NDArray[np.int64]:
    """The differences in steps of the coarsest grid that holds them, else of the finest that can be counted."""
    for parts in GRIDS:
        if np.abs(differences_C * parts - np.rint(differences_C * parts)).max(initial=0.0) < ON_THE_GRID:
            return _steps(differences_C, parts)
    for parts in ROUNDING_GRIDS:
        steps_C = _steps(differences_C, parts)
        if int(np.abs(steps_C).sum()) * int(np.count_nonzero(steps_C)) <= MOST_WORK:
            break
    return steps_C


def _steps(differences_C: NDArray[np.float64], parts: int) -> NDArray[np.int64]:
    return np.asarray(np.rint(differences_C * parts), dtype=np.int64)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction (1979): the chance of any false claim in the family stays below the level."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    return _in_given_order(np.maximum.accumulate(scaled), order)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Benjamini and Hochberg's correction (1995): the expected share of false claims stays below the level."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * len(order) / np.arange(1, len(order) + 1)
    return _in_given_order(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _in_given_order(adjusted: NDArray[np.float64], order: NDArray[np.intp]) -> tuple[float, ...]:
    values = np.empty(len(order))
    values[order] = np.minimum(adjusted, 1.0)
    return tuple(float(value) for value in values)
