"""The interval of a difference whose items come in clusters and whose arms may be several runs.

Swapping the arms mirrors the interval exactly, and it never has width zero: two runs that agree on 100 items can still
differ on the 101st, and ten goals that agree in all of their variants can differ in the eleventh. It needs no random
draws. How often it covers, and how often a bootstrap does, is in `docs/method.md`, from `tests/studies/intervals.py`.

Letters of shapes: C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from moe_cli.clusters import ClusterMean, Floats, ItemMoments, cluster_mean, design_effect
from moe_cli.compare.significance import LEVEL

CONFIDENCE = 1 - LEVEL
LEAST_FREEDOM, MOST_FREEDOM = 0.05, 1e4  # between which the t of several runs is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpread:
    """What the runs of the arms say about the variance of a difference."""

    total: float  # variance of the rates of the runs, of all arms together
    chance: float  # the part of it that runs of one and the same model would have; the items hold it as well
    freedom: float  # degrees of freedom of the total; 0: one run each, which says nothing
    estimated: bool  # whether these degrees of freedom are estimated from the same runs (Satterthwaite)
    step: float  # what one answer of one run changes in the difference of an item, mean of both arms


NO_SPREAD = RunSpread(total=0.0, chance=0.0, freedom=0.0, estimated=False, step=1.0)  # one run each
POOLED = (0.954, 0.25)  # confidence and knee of several runs, so that 95 % are covered (`docs/method.md`)
ESTIMATED = (0.952, 0.30)  # the same with Satterthwaite's degrees of freedom
LEAST_OF_PSEUDO = 0.25  # of the variance that the pseudo-clusters bring; so much of it the runs cannot take away


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval for a difference of two rates."""

    lower: float  # -0.21
    upper: float  # -0.04
    p_value: float  # two-sided, of no difference; 0.05 where 0 is at a bound
    error: float  # standard error, with the pseudo-clusters
    error_of_items: float  # without what they add to it
    freedom: float  # degrees of freedom of the t


def cluster_interval(
    differences_C: NDArray[np.generic],
    sizes_C: NDArray[np.number],
    spread: RunSpread = NO_SPREAD,
    *,
    items: ItemMoments | None = None,
) -> Interval:
    """Cluster-robust t interval after one pseudo-cluster for either arm; several runs add their variance.

    `items` are the moments of the differences of all items: they tell how alike items of a cluster are, and so how
    large the pseudo-clusters have to be. None: as alike as they can be. Where items have votes, sums and sizes are
    those of votes, the heaviest of which is 1: that is what a pseudo-item has.

    Pseudo-items: Bonett and Price 2012 (J. Educ. Behav. Stat. 37:479), here as many in a cluster as the design effect
    says. Variance and degrees of freedom of a mean over clusters: `clusters.cluster_mean`.
    """
    differences, sizes = differences_C.astype(np.float64), sizes_C.astype(np.float64)
    size = _pseudo_size(differences, sizes, spread.step, items)
    found = cluster_mean(*_with_pseudo_clusters(differences, sizes, spread.step, size))
    of_pseudo = 2 * (spread.step * size / (float(sizes.sum()) + 2 * size)) ** 2
    if spread.freedom:
        error, freedom = _with_runs(found, spread, LEAST_OF_PSEUDO * of_pseudo)
    else:
        error, freedom = sqrt(found.variance), found.freedom
    critical = float(stdtrit(freedom, 1 - LEVEL / 2))
    estimate = fsum(differences.tolist()) / fsum(sizes.tolist())
    return Interval(
        lower=max(-1.0, min(estimate, found.mean - critical * error)),
        upper=min(1.0, max(estimate, found.mean + critical * error)),
        p_value=2 * float(stdtr(freedom, -abs(found.mean) / error)),
        error=error,
        error_of_items=sqrt(max(0.0, error**2 - of_pseudo)),
        freedom=freedom,
    )


def _with_runs(items: ClusterMean, spread: RunSpread, least: float) -> tuple[float, float]:
    """Standard error, and degrees of freedom of its t, where arms have several runs.

    A problem of Behrens and Fisher's kind: the variance over items is known well, the one over runs hardly, and
    Satterthwaite's degrees of freedom of their sum rest on the latter. In their place a line: the squared critical
    value rises from z^2 to t^2 of the runs as their share of the variance rises from the knee to 1, a fit to the
    solution of Trickett, Welch and James (1956, Biometrika 43:203).
    """
    confidence, knee = ESTIMATED if spread.estimated else POOLED
    tail = (1 + confidence) / 2
    z, t_items, t_runs = (float(value) for value in (ndtri(tail), *stdtrit([items.freedom, spread.freedom], tail)))
    of_items = max(least, items.variance - spread.chance) * (t_items / z) ** 2
    variance = of_items + spread.total
    share = max(0.0, (spread.total / variance - knee) / (1 - knee))
    return sqrt(variance), _freedom_of(sqrt(z**2 + (t_runs**2 - z**2) * share))


def _freedom_of(critical: float) -> float:
    """The degrees of freedom whose t has this 97.5 % point, by bisection."""
    lower, upper = LEAST_FREEDOM, MOST_FREEDOM
    while upper - lower > 1e-12 * upper:
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if stdtrit(middle, 1 - LEVEL / 2) > critical else (lower, middle)
    return upper


def rate_interval(
    yes_C: NDArray[np.float64], sizes_C: NDArray[np.number], spread: RunSpread, *, items: ItemMoments | None = None
) -> tuple[float, float]:
    """The same for one rate: its difference from one half, with pseudo-clusters of yes and of no.

    `items` are the moments of the differences from one half.
    """
    half = replace(spread, step=spread.step / 2)
    found = cluster_interval(yes_C - sizes_C / 2, sizes_C, half, items=items)
    rate = fsum(yes_C.tolist()) / fsum(sizes_C.tolist())
    return max(0.0, min(rate, found.lower + 0.5)), min(1.0, max(rate, found.upper + 0.5))


def _pseudo_size(differences_C: Floats, sizes_C: Floats, step: float, items: ItemMoments | None) -> float:
    """How many items a pseudo-cluster has: as many as a cluster, but one where items of a cluster are independent.

    The design effect is that after two whole clusters that disagree were added: where nothing differs, the clusters
    cannot show that they are alike, and are taken to be.
    """
    size = max(1.0, float(sizes_C.mean()))
    if items is None:
        return size
    every = _with_pseudo_clusters(differences_C, sizes_C, step, size)
    return min(size, design_effect(*every, items.with_two_clusters(step, -step, size)))


def _with_pseudo_clusters(differences_C: Floats, sizes_C: Floats, step: float, size: float) -> tuple[Floats, Floats]:
    return np.append(differences_C, [step * size, -step * size]), np.append(sizes_C, [size, size])
