"""p-values from swapping the sides of whole clusters at random, and q-values over all experts.

p-values are two-sided and never 0; q-values are Benjamini-Hochberg. A fair coin for each cluster swaps all its tokens.
Where few swaps reach an expert's value more swaps are drawn for it, so that it can be told apart after the correction
for all experts. Pure.

Letters of shapes: C clusters, R swaps, D rows of values, X experts of all layers, A some of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe_cli.prepare.ranking import Bools, Floats
from moe_cli.prepare.risk import Clusters, pooled_swapped
from moe_cli.stats.significance import benjamini_hochberg

ALPHA = 0.05  # what a q-value is usually compared with: how many draws are enough follows from it
ENOUGH = 10  # draws that reached the value: further ones would not change what a p-value says
FAR = 10.0  # times `ALPHA`
MARGIN = 2.0  # draws beyond those that only just suffice
ROUNDING = 1e-12  # equal values that were summed in another order
CHUNK_DRAWS = 512


def random_swaps(num_clusters: int, draws: int, random: np.random.Generator) -> Floats:
    """A fair coin for each cluster and draw [R, C]."""
    num_coins = draws * num_clusters
    coins = np.unpackbits(np.frombuffer(random.bytes(-(-num_coins // 8)), dtype=np.uint8), count=num_coins)
    return coins.reshape(draws, num_clusters).astype(np.float64)


def swapped_values(clusters: Clusters, draws: int, random: np.random.Generator) -> Iterator[Floats]:
    """Absolute pooled risk differences under random swaps, `draws` rows in chunks [<= 512, X]."""
    for start in range(0, draws, CHUNK_DRAWS):
        swaps_RC = random_swaps(clusters.num_clusters, min(CHUNK_DRAWS, draws - start), random)
        yield np.abs(pooled_swapped(clusters, swaps_RC))


def times_reached(clusters: Clusters, pooled_DX: Floats, draws: int, random: np.random.Generator) -> Floats:
    """How many of `draws` swaps give an absolute value at least as large [D, X]; one set of swaps serves all rows."""
    values_XR = np.sort(np.concatenate(list(swapped_values(clusters, draws, random))).T, axis=1)
    bound_XD = np.abs(pooled_DX.T) - ROUNDING
    below_XD = [np.searchsorted(values_R, bound_D) for values_R, bound_D in zip(values_XR, bound_XD, strict=True)]
    return draws - np.stack(below_XD, axis=1).astype(np.float64)


def p_values(clusters: Clusters, pooled_DX: Floats, draws: int, random: np.random.Generator) -> tuple[Floats, int]:
    """(1 + k) / (1 + R) [D, X] of rows of pooled values, and the largest R.

    Values that few of the first `draws` swaps reach get more of them, in rounds that double R, until their q-value
    could be below `ALPHA`, or is far above it (sequential Monte Carlo p-values, Besag and Clifford 1991).
    """
    reached_DX = times_reached(clusters, pooled_DX, draws, random)
    drawn_DX, open_DX = np.full(pooled_DX.shape, draws), ~np.isnan(pooled_DX)
    num_D1 = open_DX.sum(1, keepdims=True)
    while True:
        p_DX = np.where(np.isnan(pooled_DX), np.nan, (1 + reached_DX) / (1 + drawn_DX))
        open_DX &= _undecided(p_DX * num_D1, reached_DX, open_DX & (reached_DX < ENOUGH))
        wanted_D1 = MARGIN * num_D1 / (ALPHA * np.maximum(1, open_DX.sum(1, keepdims=True)))
        rows, columns_of_rows = np.nonzero(open_DX & (draws < wanted_D1))
        if len(rows) == 0:
            return p_DX, draws
        experts_A, columns = np.unique(columns_of_rows, return_inverse=True)
        bounds = np.abs(pooled_DX[rows, columns_of_rows]) - ROUNDING
        for values_RA in swapped_values(clusters.only(experts_A), draws, random):
            reached_DX[rows, columns_of_rows] += np.count_nonzero(values_RA[:, columns] >= bounds, axis=0)
        draws *= 2
        drawn_DX[rows, columns_of_rows] = draws


def _undecided(alone_q_DX: Floats, reached_DX: Floats, few_DX: Bools) -> Bools:
    """Of the values that few swaps reached, those that need more swaps.

    None reached them, or q is not far above `ALPHA` if the others have the same p. `alone_q_DX` is the q-value of an
    expert that is the only one with its p.
    """
    best_q_DX = alone_q_DX / np.maximum(1, few_DX.sum(1, keepdims=True))
    undecided_DX: Bools = few_DX & ((reached_DX == 0) | (best_q_DX < FAR * ALPHA))
    return undecided_DX


def most_draws(num_experts: int) -> int:
    """Number of swaps drawn, where needed, to bring the q-value of a single expert below `ALPHA`."""
    return math.ceil(MARGIN * num_experts / ALPHA)


def smallest_p(num_clusters: int, draws: int) -> float:
    """Lower bound of p-values: there are 2^C patterns of swaps, each as far from 0 as its opposite."""
    return max(1 / (1 + draws), 2.0 ** (1 - num_clusters))


def q_values(p_DX: Floats) -> Floats:
    """Benjamini-Hochberg over the defined p-values of each row; NaN stays."""
    q_DX = np.full_like(p_DX, np.nan)
    for q_X, p_X in zip(q_DX, p_DX, strict=True):
        defined = ~np.isnan(p_X)
        if defined.any():
            q_X[defined] = benjamini_hochberg(p_X[defined].tolist())
    return q_DX
