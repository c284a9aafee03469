"""p-values of paired outcomes, and their correction for many metrics.

Swapping the runs changes nothing, and no change at all gives 1. Every value is exact; nothing is drawn at random.

Letters of shapes: C clusters, S distinct sizes of their changes, L sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

GRIDS = (*range(1, 21), 24, 25, 30, 32, 40, 50, 60, 64, 100)  # steps to 1
ROUNDING_GRIDS = (1000, 500, 200, 100, 50, 20, 10)  # the next where one takes too long
ON_THE_GRID = 1e-9
MOST_WORK = 2 * 10**7  # frequencies times sizes; about a second
MOST_SIZES = 300  # after so many sizes hardly any frequency is left
TILT_STEPS = 60  # of bisection; any tilt gives the same p, the best one without loss of digits
UNSEEN = 60.0  # e^-60 is nothing beside the rounding of a double
ROUNDING = 1e-12
LEVEL = 0.05  # below it a p-value is significant
CONFIDENCE = 1 - LEVEL  # of every interval


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact McNemar: of the items that changed, half are expected in either direction (McNemar 1947, binomial form).

    Takes every item as independent of the others, so it is too small where clusters hold several items.
    """
    if abs(only_a - only_b) <= 1:
        return 1.0  # both tails together hold everything
    return 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))


def sign_flip_p(differences_C: NDArray[np.generic]) -> float:
    """Exact sign-flip test of clusters: under no effect, the two runs of a whole cluster could be swapped.

    P(|sum of +-D_c| >= |sum of D_c|) over all 2^C sign patterns (Fisher's randomisation test for pairs). With clusters
    of one item it is exact McNemar.

    Fractions are counted in whole steps of a grid: that of the values where they have one, else thousandths,
    or larger steps where there are very many clusters. Rounding is the same in either direction, so the test of the
    rounded differences is exact as well.
    """
    whole_C = _on_a_grid(differences_C.astype(np.float64))
    observed, sizes_S, counts_S = abs(int(whole_C.sum())), *_distinct(whole_C)
    if observed == 0:
        return 1.0
    if len(sizes_S) == 1:
        same = observed // int(sizes_S[0])  # all changes are of one size: count them
        return mcnemar_p((int(counts_S[0]) - same) // 2, (int(counts_S[0]) + same) // 2)
    if observed == int((sizes_S * counts_S).sum()):
        return 2.0 ** (1 - int(counts_S.sum()))
    step = int(np.gcd.reduce(sizes_S))
    return min(1.0, 2 * _upper_tail(sizes_S // step, counts_S, observed // step))


def _distinct(whole_C: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct sizes of the changes, the most frequent first, and how many changes have each."""
    sizes_S, counts_S = np.unique(np.abs(whole_C[whole_C != 0]), return_counts=True)
    order = np.argsort(-counts_S, kind="stable")
    return sizes_S[order], counts_S[order]


def _upper_tail(sizes_S: NDArray[np.int64], counts_S: NDArray[np.int64], observed: int) -> float:
    """P(sum of +-sizes >= observed), 0 < observed < the sum of all sizes.

    Of each distinct size the number of plus signs is binomial; their convolution is one inverse Fourier transform of
    the product of the characteristic functions. The signs are tilted so that the mean is the observed sum (Esscher
    1932), p = e^tilt / (1 + e^tilt) of a plus in place of 1/2, so that the transform's absolute error is small beside
    the chance even of a sum that hardly ever occurs; the sum over its upper tail undoes the tilt.
    """
    weight_S = (sizes_S * counts_S).astype(np.float64)
    theta = _tilt(sizes_S, weight_S, observed)
    plus_S = 1 / (1 + np.exp(-theta * sizes_S))
    length = _length(sizes_S, counts_S)
    chance_L = _chances(sizes_S, counts_S, plus_S, length, (weight_S.sum() + observed) / 2 - fsum(weight_S * plus_S))
    upper_L = chance_L[: length // 2 + 1]  # of the plus signs' sizes: the observed sum, and more
    tail = fsum(upper_L * np.exp(-theta * np.arange(len(upper_L))))
    half_S = theta * sizes_S / 2
    log_cosh_S = half_S + np.log1p(np.exp(-2 * half_S)) - np.log(2)
    return max(0.0, tail) * exp(fsum(counts_S * log_cosh_S) - theta * observed / 2)


def _tilt(sizes_S: NDArray[np.int64], weight_S: NDArray[np.float64], observed: int) -> float:
    """The tilt whose mean is the observed sum."""

    def beyond(theta: float) -> float:
        return float((weight_S * np.tanh(theta * sizes_S / 2)).sum()) - observed

    lower, upper = 0.0, 1 / float(sizes_S.max())
    while beyond(upper) < 0:
        lower, upper = upper, 2 * upper
    for _ in range(TILT_STEPS):
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if beyond(middle) < 0 else (lower, middle)
    return upper


def _length(sizes_S: NDArray[np.int64], counts_S: NDArray[np.int64]) -> int:
    """Length of the transform: all sums, or those around the mean whose chance is above e^-UNSEEN (Hoeffding)."""
    reach = sqrt(UNSEEN / 2 * float((counts_S * sizes_S.astype(np.float64) ** 2).sum()))
    return int(2 ** (int(min(float((sizes_S * counts_S).sum()), reach)) * 2 + 2).bit_length())


def _chances(
    sizes_S: NDArray[np.int64], counts_S: NDArray[np.int64], plus_S: NDArray[np.float64], length: int, shift: float
) -> NDArray[np.float64]:
    """Chance of every sum of the sizes with a plus, from the observed sum on; `shift` is its distance from the mean.

    Frequencies at which the product has vanished are not computed further.
    """
    places = np.arange(length // 2 + 1)
    log_size, phase = np.zeros(len(places)), -2 * np.pi / length * places * shift
    for size, count, plus in zip(sizes_S, counts_S, plus_S, strict=True):
        angle = 2 * np.pi / length * ((places * int(size)) % length)
        lost = 4 * plus * (1 - plus) * np.sin(angle / 2) ** 2
        log_size += count / 2 * np.log1p(-np.minimum(lost, 1 - 1e-16))
        turned = np.arctan2(plus * np.sin(angle), 1 - plus + plus * np.cos(angle))
        phase += count * (turned - 2 * np.pi / length * places * float(size) * plus)
        kept = log_size > -UNSEEN
        places, log_size, phase = places[kept], log_size[kept], phase[kept]
    transform = np.zeros(length // 2 + 1, dtype=np.complex128)
    transform[places] = np.exp(log_size - 1j * phase)
    return np.fft.irfft(transform, length)


def _on_a_grid(differences_C: NDArray[np.float64]) -> NDArray[np.int64]:
    """The differences in steps of the coarsest grid that holds them, else of the finest one that can be counted."""
    for parts in GRIDS:
        if np.abs(differences_C * parts - np.rint(differences_C * parts)).max(initial=0.0) < ON_THE_GRID:
            return _steps(differences_C, parts)
    for parts in ROUNDING_GRIDS:
        steps_C = _steps(differences_C, parts)
        sizes_S, counts_S = _distinct(steps_C)
        if min(len(sizes_S), MOST_SIZES) * _length(sizes_S, counts_S) <= MOST_WORK:
            break
    return steps_C


def _steps(differences_C: NDArray[np.float64], parts: int) -> NDArray[np.int64]:
    return np.asarray(np.rint(differences_C * parts), dtype=np.int64)


def rank_p(value: float, drawn: Sequence[float]) -> float:
    """(1 + number of draws with at least this value) / (1 + number of draws), one-sided and never 0.

    Exact where chance makes the value one more of the draws. Values that only rounding keeps apart are equal.
    """
    return (1 + sum(other >= value - ROUNDING for other in drawn)) / (1 + len(drawn))


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
