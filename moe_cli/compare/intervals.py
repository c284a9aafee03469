"""The interval of a paired difference whose items come in clusters.

Comes in: for every cluster the sum of its differences (b - a, each -1, 0 or 1) and its number of items. Goes out: the
interval, its standard error and the smallest effect it could have found. Always holds: swapping the runs mirrors the
interval exactly, and it never has width zero: two runs that agree on 100 items can still differ on the 101st.

A percentile bootstrap over clusters falls to 0.912 with 33 clusters of three items, and has width zero where nothing
flipped. This one covers 0.932 to 0.978 (`tests/simulate_intervals.py`) and needs no random draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95
POWER = 0.80
PSEUDO_DIFFERENCES = (1, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval for a difference of two rates."""

    lower: float  # -0.21
    upper: float  # -0.04
    detectable: float  # 0.12; smallest true difference that is found with 80 % power


def cluster_interval(differences_C: NDArray[np.int64], sizes_C: NDArray[np.int64]) -> Interval:
    """Cluster-robust t interval after one pseudo-item for either run.

    Pseudo-items: Bonett and Price 2012 (J. Educ. Behav. Stat. 37:479). Variance of a mean over clusters of unequal
    size, C / (C - 1) * sum (D_c - d n_c)^2 / n^2: Cameron and Miller 2015 (J. Hum. Resour. 50:317), arXiv 2411.00640.
    """
    sums = np.concatenate([differences_C, PSEUDO_DIFFERENCES]).astype(np.float64)
    sizes = np.concatenate([sizes_C, np.ones(len(PSEUDO_DIFFERENCES))])
    num, num_clusters = float(sizes.sum()), len(sums)
    centre = float(sums.sum()) / num
    # Sorted, so that the rounding of the sum does not depend on the order or the sign of the clusters.
    squares = np.sort((sums - centre * sizes) ** 2)
    error = sqrt(num_clusters / (num_clusters - 1) * float(squares.sum())) / num
    critical = float(stdtrit(num_clusters - 1, (1 + CONFIDENCE) / 2))
    half = critical * error
    return Interval(
        lower=max(-1.0, centre - half),
        upper=min(1.0, centre + half),
        detectable=min(1.0, (critical + float(ndtri(POWER))) * error),
    )
