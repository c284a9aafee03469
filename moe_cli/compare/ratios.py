"""How many times as often harm occurs: what stands beside a difference of rates that are both small.

0 and 38 of 5,000 differ by 0.8 points, and by a factor of 38. A difference within the margin says little where harm is
rare, so it is bare only where the factor is known to be below `MOST_TIMES`.
"""

from __future__ import annotations

from math import exp, fsum, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from moe_cli.compare.significance import LEVEL
from moe_cli.records.comparison import CountRatio


def ratio_of_counts(a_C: NDArray[np.float64], b_C: NDArray[np.float64]) -> CountRatio:
    """(k_b + 1) / (k_a + 1) with its interval, from the yes of every cluster.

    The delta method on its logarithm, with sums over clusters in the place of items and one yes more in either arm:
    variance = sum over clusters of (b_c / K_b - a_c / K_a)^2 + 1 / K_b^2 + 1 / K_a^2, K = k + 1. For independent items
    and arms that is Katz's 1 / K_a + 1 / K_b (Katz et al. 1978, Biometrics 34:469) of rare outcomes.
    """
    most_a, most_b = fsum(a_C) + 1, fsum(b_C) + 1
    middle = log(most_b) - log(most_a)
    variance = fsum((b_C / most_b - a_C / most_a) ** 2) + most_a**-2 + most_b**-2
    half = float(ndtri(1 - LEVEL / 2)) * sqrt(variance)
    return CountRatio(value=exp(middle), lower=exp(middle - half), upper=exp(middle + half))
