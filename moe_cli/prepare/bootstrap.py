"""Percentile intervals and stability from one set of resamples of whole clusters.

Comes in: counts within clusters. Goes out: for every expert an interval of its risk difference, and the share of
resamples in which a rule takes it. Always holds: clusters are drawn whole; an interval is undefined where a resample
leaves the difference undefined. Pure.

Letters of shapes: C clusters, R resamples, X experts of all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from moe_cli.prepare.ranking import Bools, Floats
from moe_cli.prepare.risk import Clusters, pooled

TAIL = 0.025  # each side of a 95 % interval
CHUNK_RESAMPLES = 250
CHUNK_EXPERTS = 128  # columns whose resamples are ordered at once: fits the cache


@dataclass(frozen=True, slots=True)
class ResampledValues:
    """What resampling the clusters says about every expert."""

    lower_X: Floats
    upper_X: Floats
    stability_X: Floats  # share of resamples in which the rule takes the expert


def bootstrap_weights(sizes: Sequence[int], resamples: int, random: np.random.Generator) -> Floats:
    """How often each cluster is drawn [R, C] when of every kind as many are drawn with replacement as there are."""
    drawn = [random.multinomial(size, np.full(size, 1 / size), size=resamples) for size in sizes]
    return np.hstack(drawn).astype(np.float64)


def resample(
    clusters: Clusters, resamples: int, random: np.random.Generator, taken: Callable[[Floats], Bools]
) -> ResampledValues:
    """95 % percentile interval and stability of every expert; `taken` is the rule on values [R, X]."""
    values_RX = bootstrap_values(clusters, resamples, random)
    taken_X = sum(np.count_nonzero(taken(part), axis=0) for part in _chunks(values_RX)) / resamples
    lower_X, upper_X = interval(values_RX)
    return ResampledValues(lower_X, upper_X, taken_X)


def bootstrap_values(clusters: Clusters, resamples: int, random: np.random.Generator) -> Floats:
    """Pooled risk differences of resampled clusters [R, X]."""
    weights_RC = bootstrap_weights(clusters.sizes, resamples, random)
    values_RX = np.empty((resamples, clusters.num_experts))
    for place, part in zip(_chunks(values_RX), _chunks(weights_RC), strict=True):
        place[:] = pooled(clusters, part)
    return values_RX


def batch_interval(clusters: Clusters, resamples: int, random: np.random.Generator) -> Floats:
    """95 % percentile interval [2, X] without keeping the resamples; undefined with a single cluster."""
    if min(clusters.sizes) < 2:
        return np.full((2, clusters.num_experts), np.nan)
    weights_RC = bootstrap_weights(clusters.sizes, resamples, random)
    parts = (clusters.only(part) for part in _expert_chunks(clusters.num_experts))
    return np.concatenate([_bounds(pooled(part, weights_RC)) for part in parts], axis=1)


def interval(values_RX: Floats) -> Floats:
    """2.5 % and 97.5 % percentiles [2, X], interpolated as numpy does; NaN where a resample is undefined."""
    return np.concatenate([_bounds(values_RX[:, part]) for part in _expert_chunks(values_RX.shape[1])], axis=1)


def _bounds(values_RX: Floats) -> Floats:
    """[2, X]."""
    last = len(values_RX) - 1
    place = TAIL * last
    below = int(place)
    above = min(below + 1, last)
    ordered_XR = np.ascontiguousarray(values_RX.T)
    ordered_XR.partition((below, above, last - above, last - below), axis=1)
    share = place - below
    lower_X = ordered_XR[:, below] * (1 - share) + ordered_XR[:, above] * share
    upper_X = ordered_XR[:, last - below] * (1 - share) + ordered_XR[:, last - above] * share
    undefined_X = np.isnan(values_RX).any(0)
    return np.where(undefined_X, np.nan, [lower_X, upper_X])


def _expert_chunks(num_experts: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_EXPERTS) for start in range(0, num_experts, CHUNK_EXPERTS))


def _chunks(rows: Floats) -> Iterator[Floats]:
    return (rows[start : start + CHUNK_RESAMPLES] for start in range(0, len(rows), CHUNK_RESAMPLES))
