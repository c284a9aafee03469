"""Proportions with their counts: Wilson intervals, ratios of small rates, Cohen's kappa.

n counts only what was scored; unscored outcomes are counted beside it, and the bounds hold whatever they would have
been. Outcomes of one cluster are never taken for independent ones; where every cluster has one outcome the interval
is Wilson's own. The order of outcomes changes nothing.

Ratios matter where harm is rare: 0 and 38 of 5,000 differ by 0.8 points, and by a factor of 38. So a difference
within the margin is shown without its ratio only if the factor is known to be below `MOST_TIMES`.

Letters of shapes: C clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from math import exp, fsum, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from moe_cli.records.record import CountRatio, Rate
from moe_cli.stats.clusters import Floats, ItemMoments, cluster_mean, design_effect, effective_number
from moe_cli.stats.significance import CONFIDENCE, LEVEL


def rate_of(outcomes: Collection[tuple[str, bool | None]]) -> Rate:
    """The share of yes among the scored outcomes; each outcome comes with its cluster."""
    counts = Counter(outcome for _, outcome in outcomes)
    rate = Rate.of_counts(counts[True], counts[True] + counts[False], counts[None])
    if not rate.n:
        return rate
    scored = Counter(cluster for cluster, outcome in outcomes if outcome is not None)
    of_cluster = Counter(cluster for cluster, outcome in outcomes if outcome)
    yes_C = np.array([of_cluster[cluster] for cluster in scored], dtype=np.float64)
    sizes_C = np.array(list(scored.values()), dtype=np.float64)
    lower, upper = share_interval(yes_C, sizes_C)
    return replace(rate, lower=lower, upper=upper, effective_clusters=effective_number(sizes_C))


def wilson_interval(k: float, n: float) -> tuple[float, float]:
    """Wilson's score interval for k of n independent items (Wilson 1927, JASA 22:209).

    (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    middle, half = k + z * z / 2, z * sqrt(k * (n - k) / n + z * z / 4)
    lower, upper = (middle - half) / (n + z * z), (middle + half) / (n + z * z)
    return (0.0 if k == 0 else lower), (1.0 if k == n else upper)


def share_interval(yes_C: Floats, sizes_C: Floats) -> tuple[float, float]:
    """Wilson's interval for as many independent outcomes as the clusters are worth.

    That is n / effect * (t(C' - 1) / t(f))^2 (Korn and Graubard 1998, Surv. Methodol. 24). The design effect is that
    after two clusters of average size were added, one all yes and one all no, as Agresti and Coull (1998) do with
    outcomes: where few say yes, or none does, the clusters cannot show that they are alike, and are taken to be. f
    are the degrees of freedom of these C' clusters: C' - 1 where all have one size, fewer the more one of them
    outweighs the others.
    """
    k, n, size = float(yes_C.sum()), float(sizes_C.sum()), float(sizes_C.mean())
    if size == 1.0:
        return wilson_interval(k, n)
    every = np.append(yes_C, [size, 0.0]), np.append(sizes_C, [size, size])
    freedom = np.array([len(sizes_C) + 1, cluster_mean(*every).freedom])
    of_one_size, of_these = stdtrit(freedom, (1 + CONFIDENCE) / 2)
    items = ItemMoments(votes=n, sums=k, squares=k).with_two_clusters(1, 0, size)
    worth = float(of_one_size / of_these) ** 2 / design_effect(*every, items)
    lower, upper = wilson_interval(k * worth, n * worth)
    return (0.0 if k == 0 else lower), (1.0 if k == n else upper)


def ratio_of_counts(a_C: NDArray[np.float64], b_C: NDArray[np.float64]) -> CountRatio:
    """(k_b + 1) / (k_a + 1) with its interval, from the yes counts of every cluster.

    The delta method on its logarithm, with sums over clusters in the place of items and one yes more in either arm:
    variance = sum over clusters of (b_c / K_b - a_c / K_a)^2 + 1 / K_b^2 + 1 / K_a^2, K = k + 1. For independent
    items and arms that is Katz's 1 / K_a + 1 / K_b (Katz et al. 1978, Biometrics 34:469) of rare outcomes.
    """
    most_a, most_b = fsum(a_C) + 1, fsum(b_C) + 1
    middle = log(most_b) - log(most_a)
    variance = fsum((b_C / most_b - a_C / most_a) ** 2) + most_a**-2 + most_b**-2
    half = float(ndtri(1 - LEVEL / 2)) * sqrt(variance)
    return CountRatio(value=exp(middle), lower=exp(middle - half), upper=exp(middle + half))


def cohens_kappa(tables_X4: NDArray[np.generic]) -> NDArray[np.float64]:
    """(observed - expected) / (1 - expected) of each table [X, 4]; NaN if both judges always say the same one thing.

    The cells of a table: both yes, only a, only b, both no. Expected is what two judges with these shares of yes
    agree on by chance (Cohen 1960, Educ. Psychol. Meas. 20:37).
    """
    yes_both, only_a, only_b, no_both = np.asarray(tables_X4, dtype=np.float64).T
    n = yes_both + only_a + only_b + no_both
    # Sums of whole numbers, n * n times the shares: exact, so that 0 is 0.
    chance = (yes_both + only_a) * (yes_both + only_b) + (no_both + only_b) * (no_both + only_a)
    with np.errstate(invalid="ignore"):
        kappa: NDArray[np.float64] = (n * (yes_both + no_both) - chance) / (n * n - chance)
    return kappa
