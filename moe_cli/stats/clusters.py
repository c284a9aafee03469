"""Means over clusters of unequal sizes: variance, degrees of freedom, and intervals from resampling whole clusters.

The items of a cluster are taken to be as alike as they can be: one giant cluster beside small ones is one fact,
however many items it has. Clusters of equal size give the variance C / (C - 1) sum (D_c - d n)^2 / (C n)^2 with C -
1 degrees of freedom. The order of the clusters changes no bit.

A bootstrap draws whole clusters with replacement, as many as there are, and gives 95 % percentile intervals. The
same seed draws the same clusters. A single cluster has no interval.

Letters of shapes: N items, C clusters, V values, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from moe_cli.records.drift import Estimate
from moe_cli.stats.significance import CONFIDENCE

Floats = NDArray[np.float64]
NUM_RESAMPLES = 2000
BLOCK = 250  # resamples, or clusters left out, held in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMean:
    """A mean over items in clusters."""

    mean: float
    variance: float  # of the mean
    freedom: float  # degrees of freedom of that variance


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemMoments:
    """Sums over items of their squared votes v, which give the variance of their mean if they were independent."""

    votes: float  # sum v^2
    sums: float  # sum v^2 y
    squares: float  # sum v^2 y^2

    def with_two_clusters(self, first: float, second: float, size: float) -> ItemMoments:
        """The sums with two more clusters of `size` items of vote 1, all with the outcome `first` or `second`."""
        return ItemMoments(
            votes=self.votes + 2 * size,
            sums=self.sums + size * (first + second),
            squares=self.squares + size * (first**2 + second**2),
        )

    def variance_of_mean(self, mean: float, num: float) -> float:
        """Variance of independent items with votes that sum to `num`: sum v^2 (y - mean)^2 / num^2, unbiased.

        (Kish 1965.)
        """
        worth = num**2 / self.votes
        around = self.squares - 2 * mean * self.sums + mean**2 * self.votes
        return around / num**2 * worth / (worth - 1)


def item_moments(outcomes: NDArray[np.generic], votes: NDArray[np.generic] | float = 1.0) -> ItemMoments:
    """The moments of outcomes in any shape, with votes in the same shape or one vote for all."""
    y = outcomes.astype(np.float64).ravel()
    v2 = np.broadcast_to(np.asarray(votes, dtype=np.float64), outcomes.shape).ravel() ** 2
    return ItemMoments(votes=_sum(v2), sums=_sum(v2 * y), squares=_sum(v2 * y**2))


def effective_number(sizes_C: NDArray[np.generic]) -> float:
    """How many clusters of equal size are worth as much, (sum n)^2 / sum n^2 (Kish 1965, Survey Sampling)."""
    sizes = sizes_C.astype(np.float64)
    return _sum(sizes) ** 2 / _sum(sizes**2)


def cluster_mean(sums_C: Floats, sizes_C: Floats) -> ClusterMean:
    """The mean of all items, from the sum of outcomes and the number of items of every cluster; at least two clusters.

    With n items, w_c = n_c / n, q = sum n_c^2 and s_c = D_c - d n_c, under perfect correlation within clusters E[s_c
    s_d] is proportional to O_cd = n_c^2 [c = d] - w_d n_c^2 - w_c n_d^2 + q w_c w_d, so that

        variance = sum s_c^2 * q / sum O_cc / n^2          freedom = (sum O_cc)^2 / sum O_cd^2

    (Bell and McCaffrey 2002, Survey Methodology 28:169, with the working model of one value for each cluster.)
    """
    num = _sum(sizes_C)
    mean = _sum(sums_C) / num
    q, trace, squares = _unequal(np.sort(sizes_C / num))
    spread = _sum((sums_C - mean * sizes_C) ** 2)
    return ClusterMean(mean=mean, variance=spread * q / trace / num**2, freedom=trace**2 / squares)


def design_effect(sums_C: Floats, sizes_C: Floats, items: ItemMoments) -> float:
    """How many times larger the variance of the mean is because items come in clusters; at least 1.

    Kish's ratio of two estimates (Kish 1965): the variance between clusters, and that of as many independent items.
    """
    mean = cluster_mean(sums_C, sizes_C)
    return max(1.0, mean.variance / items.variance_of_mean(mean.mean, _sum(sizes_C)))


def _unequal(w_C: Floats) -> tuple[float, float, float]:
    """q, sum O_cc and sum O_cd^2 of sorted shares w; the largest is apart, as the others can vanish beside it."""
    w, largest = w_C[:-1], float(w_C[-1])
    rest, rest_q = _sum(w), _sum(w**2)
    u, q = w**2, rest_q + largest**2
    diagonal = np.append(u * (1 - w) ** 2 + u * (q - u), (largest * rest) ** 2 + largest**2 * rest_q)
    beside = w * (rest_q * largest - largest**2 * rest) - largest * u
    v = u - q * w / 2
    off_diagonal = 2 * (rest_q * _sum(v**2) + _sum(w * v) ** 2) - 4 * _sum((w * v) ** 2)
    return q, _sum(diagonal), _sum(diagonal**2) + 2 * _sum(beside**2) + max(0.0, off_diagonal)


def _sum(values: Floats) -> float:
    """The sum, rounded once, so that the order does not matter."""
    return fsum(values.tolist())


def cluster_sums(clusters: Sequence[str], values_NV: Floats) -> Floats:
    """Sums [C, V] over the items of every cluster, clusters in order of name."""
    names, cluster_N = np.unique(np.asarray(clusters), return_inverse=True)
    sums_CV = np.zeros((len(names), values_NV.shape[1]))
    np.add.at(sums_CV, cluster_N, values_NV)
    return sums_CV


def cluster_draws(num_clusters: int, num_resamples: int, generator: np.random.Generator) -> Floats:
    """How often each cluster is drawn with replacement [R, C], as many as there are."""
    shares_C = np.full(num_clusters, 1 / num_clusters)
    return generator.multinomial(num_clusters, shares_C, num_resamples).astype(np.float64)


def resampled_sums(sums_CV: Floats, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Iterator[Floats]:
    """Total sums of bootstrap samples, in blocks [at most BLOCK, V]."""
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, BLOCK):
        yield cluster_draws(len(sums_CV), min(BLOCK, num_resamples - start), generator) @ sums_CV


def estimate(value: float | Floats, resampled_R: Floats, num_clusters: int) -> Estimate:
    """The value with its percentile interval."""
    if num_clusters < 2:
        return Estimate(value=float(value), lower=None, upper=None, n=num_clusters)
    lower, upper = np.quantile(resampled_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=float(value), lower=float(lower), upper=float(upper), n=num_clusters)


def jackknife_estimate(value: float | Floats, left_out_C: Floats, *, most: float) -> Estimate:
    """An estimate of a divergence, which lies from 0 to `most` and which noise alone makes larger.

    `left_out_C` are its values without one cluster each. The bias of order 1/C is taken off, and the interval is t's
    for the mean of Tukey's pseudo-values (Efron and Tibshirani 1993, chapter 11).
    """
    num_clusters = len(left_out_C)
    if num_clusters < 2:
        return Estimate(value=float(value), lower=None, upper=None, n=num_clusters)
    pseudo_C = num_clusters * value - (num_clusters - 1) * left_out_C
    half = stdtrit(num_clusters - 1, (1 + CONFIDENCE) / 2) * pseudo_C.std(ddof=1) / sqrt(num_clusters)
    own = pseudo_C.mean()
    own, lower, upper = np.clip((own, own - half, own + half), 0.0, most).tolist()
    return Estimate(value=own, lower=lower, upper=upper, n=num_clusters)
