"""Proportions with their counts, their interval and their bounds.

n counts only what was scored, what was not is counted beside it, and the bounds hold whatever the unscored outcomes
would have been. Outcomes of one cluster are never taken for independent ones; where every cluster has one outcome the
interval is Wilson's own. The order of outcomes changes nothing.

Letters of shapes: C clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from math import sqrt

import numpy as np
from scipy.special import ndtri, stdtrit

from moe_cli.clusters import Floats, ItemMoments, cluster_mean, design_effect, effective_number
from moe_cli.records.rates import Rate

CONFIDENCE = 0.95


def rate_of(outcomes: Collection[tuple[str, bool | None]]) -> Rate:
    """The share of yes among the scored outcomes, each given with its cluster."""
    counts = Counter(outcome for _, outcome in outcomes)
    yes, no, unscored = counts[True], counts[False], counts[None]
    n, offered = yes + no, yes + no + unscored
    scored = Counter(cluster for cluster, outcome in outcomes if outcome is not None)
    of_cluster = Counter(cluster for cluster, outcome in outcomes if outcome)
    yes_C = np.array([of_cluster[cluster] for cluster in scored], dtype=np.float64)
    sizes_C = np.array(list(scored.values()), dtype=np.float64)
    lower, upper = _interval(yes_C, sizes_C) if n else (None, None)
    return Rate(
        k=yes,
        n=n,
        unscored=unscored,
        rate=yes / n if n else None,
        lower=lower,
        upper=upper,
        lowest=yes / offered if offered else None,
        highest=(yes + unscored) / offered if offered else None,
        effective_clusters=effective_number(sizes_C) if n else None,
    )


def wilson_interval(k: float, n: float) -> tuple[float, float]:
    """Wilson's score interval for k of n independent items (Wilson 1927, JASA 22:209).

    (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    middle, half = k + z * z / 2, z * sqrt(k * (n - k) / n + z * z / 4)
    lower, upper = (middle - half) / (n + z * z), (middle + half) / (n + z * z)
    return (0.0 if k == 0 else lower), (1.0 if k == n else upper)


def _interval(yes_C: Floats, sizes_C: Floats) -> tuple[float, float]:
    """Wilson's, of as many independent outcomes as the clusters are worth (Korn and Graubard 1998, Surv. Methodol. 24).

    These are n / effect * (t(C' - 1) / t(f))^2. The design effect is that after two clusters of average size were
    added, one all yes and one all no, as Agresti and Coull (1998) do with outcomes: where few say yes, or none does,
    the clusters cannot show that they are alike, and are taken to be. f are the degrees of freedom of these C'
    clusters: C' - 1 where all have one size, fewer the more one of them outweighs the others.
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
