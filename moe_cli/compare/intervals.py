"""The interval of a difference whose items come in clusters and whose arms may be several runs.

Swapping the arms mirrors the interval exactly, and it never has width zero: two runs that agree on 100 items can still
differ on the 101st, and ten goals that agree in all of their variants can differ in the eleventh. It needs no random
draws. How often it covers, and how often a bootstrap does, is in `docs/method.md`, from `tests/studies/intervals.py`.

Letters of shapes: C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from moe_cli.clusters import Floats, cluster_mean, design_effect
from moe_cli.compare.significance import LEVEL

CONFIDENCE = 1 - LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpread:
    """What the runs of the arms add to the variance of a difference."""

    variance: float  # from run to run, beyond the chance of the items
    uncertainty: float  # sum of squared variances of the arms' means over their degrees of freedom
    step: float  # what one answer of one run changes in the difference of an item, mean of both arms


NO_SPREAD = RunSpread(variance=0.0, uncertainty=0.0, step=1.0)  # one run each


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval for a difference of two rates."""

    lower: float  # -0.21
    upper: float  # -0.04
    p_value: float  # two-sided, of no difference; 0.05 where 0 is at a bound
    error: float  # standard error
    freedom: float  # degrees of freedom of the t


def cluster_interval(
    differences_C: NDArray[np.generic],
    sizes_C: NDArray[np.generic],
    spread: RunSpread = NO_SPREAD,
    *,
    squares: float | None = None,
) -> Interval:
    """Cluster-robust t interval after one pseudo-cluster for either arm, with the variance of runs added.

    `squares` is the sum of the squared differences of all items: how alike items of a cluster are, and so how large
    the pseudo-clusters have to be. None: as alike as they can be. Sums and sizes can be weighted ones.

    Pseudo-items: Bonett and Price 2012 (J. Educ. Behav. Stat. 37:479), here as many in a cluster as the design effect
    says. Variance and degrees of freedom of a mean over clusters: `clusters.cluster_mean`. Degrees of freedom of a sum
    of variances: Satterthwaite 1946 (Biometrics Bull. 2:110).
    """
    differences, sizes = differences_C.astype(np.float64), sizes_C.astype(np.float64)
    num_pseudo = _pseudo_size(differences, sizes, spread.step, squares)
    found = cluster_mean(*_with_pseudo_clusters(differences, sizes, spread.step, num_pseudo))
    variance = found.variance + spread.variance
    degrees = variance**2 / (found.variance**2 / found.freedom + spread.uncertainty)
    error, critical = sqrt(variance), float(stdtrit(degrees, 1 - LEVEL / 2))
    return Interval(
        lower=max(-1.0, found.mean - critical * error),
        upper=min(1.0, found.mean + critical * error),
        p_value=2 * float(stdtr(degrees, -abs(found.mean) / error)),
        error=error,
        freedom=degrees,
    )


def rate_interval(
    yes_C: NDArray[np.float64], sizes_C: NDArray[np.int64], spread: RunSpread, *, squares: float | None = None
) -> tuple[float, float]:
    """The same for one rate: its difference from one half, with pseudo-clusters of yes and of no.

    `squares` are those of the differences from one half.
    """
    half = replace(spread, step=spread.step / 2)
    found = cluster_interval(yes_C - sizes_C / 2, sizes_C, half, squares=squares)
    return max(0.0, found.lower + 0.5), min(1.0, found.upper + 0.5)


def _pseudo_size(differences_C: Floats, sizes_C: Floats, step: float, squares: float | None) -> float:
    """How many items a pseudo-cluster has: as many as a cluster, but one where items of a cluster are independent.

    The design effect is that after two whole clusters that disagree were added: where nothing differs, the clusters
    cannot show that they are alike, and are taken to be.
    """
    size = max(1.0, float(sizes_C.mean()))
    if squares is None:
        return size
    every = _with_pseudo_clusters(differences_C, sizes_C, step, size)
    return min(size, design_effect(*every, squares + 2 * size * step**2))


def _with_pseudo_clusters(differences_C: Floats, sizes_C: Floats, step: float, size: float) -> tuple[Floats, Floats]:
    return np.append(differences_C, [step * size, -step * size]), np.append(sizes_C, [size, size])
