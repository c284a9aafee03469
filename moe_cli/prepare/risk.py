"""Risk differences of expert activation.

The risk difference of an expert is its rate while the model complies inside attacks (the unsafe side) minus its rate
while it refuses plain goals (the safe side), per batch and aggregated. It is within [-1, 1], changes sign when the
sides are swapped, and is NaN (never 0) where a side saw no token. Pure.

Source: SteerMoE (arXiv 2509.09660). Tokens of one answer are not independent, so the unit of uncertainty is the goal:
all pairs of one goal are one cluster that is resampled, or swapped, as a whole.
Letters of shapes: N pairs, C clusters, R resamples, B batches, L expert layers, E experts, X = L * E.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_cli.errors import UsageError
from moe_cli.prepare.ranking import Floats
from moe_cli.records import AnswerPart, RoutingCounts

SAFE, UNSAFE = 0, 1


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """Answer-token counts summed within clusters."""

    routed_SCX: Floats  # [side, C, X] tokens whose top-k holds the expert
    seen_SC: Floats  # [side, C] tokens counted

    @property
    def num_clusters(self) -> int:
        """Number of clusters, C."""
        return int(self.routed_SCX.shape[1])

    @property
    def num_experts(self) -> int:
        """Number of experts, X."""
        return int(self.routed_SCX.shape[2])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of clusters of each kind; here there is one kind."""
        return (self.num_clusters,)

    def unsafe_then_safe(self) -> Floats:
        """The counts of both sides, one below the other [2 C, X]; as they lie in memory, where they lie so."""
        sides_SCX = self.routed_SCX[::-1]
        if sides_SCX.flags.c_contiguous:
            return sides_SCX.reshape(-1, self.num_experts)
        return np.concatenate([*sides_SCX])

    def only(self, experts_A: NDArray[np.intp] | slice) -> ClusterCounts:
        """The counts of a few experts [A]."""
        return ClusterCounts(self.routed_SCX[:, :, experts_A], self.seen_SC)


@dataclass(frozen=True, slots=True)
class Term:
    """One weighted difference within a `Contrast`."""

    factor: float
    clusters: ClusterCounts
    columns: slice  # which clusters of the contrast these are


@dataclass(frozen=True, slots=True)
class Contrast:
    """A sum of differences over the same clusters, or over clusters of several kinds that stand one after another."""

    terms: tuple[Term, ...]
    sizes: tuple[int, ...]  # clusters of each kind, which is resampled for itself

    @property
    def num_clusters(self) -> int:
        """Number of clusters of all kinds, C."""
        return sum(self.sizes)

    @property
    def num_experts(self) -> int:
        """Number of experts, X."""
        return self.terms[0].clusters.num_experts

    def only(self, experts_A: NDArray[np.intp] | slice) -> Contrast:
        """The counts of a few experts [A]."""
        terms = (replace(term, clusters=term.clusters.only(experts_A)) for term in self.terms)
        return Contrast(tuple(terms), self.sizes)


Clusters = ClusterCounts | Contrast


def rate_difference(routed_safe: Floats, seen_safe: Floats, routed_unsafe: Floats, seen_unsafe: Floats) -> Floats:
    """`a_unsafe / n_unsafe - a_safe / n_safe`, elementwise; NaN where a side saw no token."""
    with np.errstate(divide="ignore", invalid="ignore"):
        difference: Floats = routed_unsafe / seen_unsafe - routed_safe / seen_safe
    return np.where((seen_safe > 0) & (seen_unsafe > 0), difference, np.nan)


def cluster_counts(counts: RoutingCounts, used: Sequence[int]) -> ClusterCounts:
    """Sum the answer-token counts of the pairs `used` by cluster."""
    return within_clusters(
        [counts.clusters[row] for row in used],
        (counts.routed[row] for row in used),
        counts.seen[list(used)],
        num_experts=math.prod(counts.routed.shape[-2:]),
    )


def counts_of_part(counts: RoutingCounts, part: AnswerPart) -> RoutingCounts:
    """The same counts over a part of every answer alone: without its reasoning, or over that alone.

    Raises:
        UsageError: no reasoning was counted.
    """
    reasoning = counts.reasoning
    if part == "whole":
        return counts
    if reasoning is None or (part == "reasoning" and not reasoning.seen.any()):
        raise UsageError(
            f"the {part} part of the answers is asked for, but no reasoning was counted apart: no answer holds any, or "
            "an earlier version of moe counted",
            hint="select on the whole answers (--answer-part whole), or run moe prepare again",
        )

    def of_part(whole: NDArray[Any], apart: NDArray[Any]) -> NDArray[Any]:
        return apart if part == "reasoning" else whole - apart

    crossed, harmless = counts.crossed, counts.harmless
    if crossed is not None and reasoning.crossed is not None:
        crossed = of_part(crossed, reasoning.crossed)
    if harmless is not None and reasoning.harmless is not None and reasoning.harmless_seen is not None:
        of_harmless = of_part(harmless.routed, reasoning.harmless), of_part(harmless.seen, reasoning.harmless_seen)
        harmless = replace(harmless, routed=of_harmless[0], seen=of_harmless[1])
    return replace(
        counts,
        routed=of_part(counts.routed, reasoning.routed),
        seen=of_part(counts.seen, reasoning.seen),
        gates=of_part(counts.gates, reasoning.gates),
        crossed=crossed,
        harmless=harmless,
        reasoning=None,
    )


def reasoning_share(counts: RoutingCounts) -> float:
    """Share of the counted answer tokens that are known to be reasoning."""
    apart, whole = counts.reasoning, int(counts.seen.sum())
    return int(apart.seen.sum()) / whole if apart and whole else 0.0


def within_clusters(
    names_N: Sequence[str],
    routed: Iterable[NDArray[np.integer] | Floats],
    seen_NS: NDArray[np.int64],
    *,
    num_experts: int,
) -> ClusterCounts:
    """Sum counts of two sides by the clusters named in `names_N`; clusters in order of name.

    `routed` gives [side, L, E] of every pair in turn, so that they need not be in memory at once.
    """
    names = sorted(set(names_N))
    index = {name: number for number, name in enumerate(names)}
    routed_SCX = np.zeros((2, len(names), num_experts))[::-1]  # in the order in which `pooled` multiplies the sides
    seen_SC = np.zeros((2, len(names)))
    for name, routed_SLE, seen_S in zip(names_N, routed, seen_NS, strict=True):
        routed_SCX[:, index[name]] += routed_SLE.reshape(2, -1)
        seen_SC[:, index[name]] += seen_S
    return ClusterCounts(routed_SCX, seen_SC)


def pooled(clusters: Clusters, weights_RC: Floats) -> Floats:
    """Pooled risk differences [R, X] when cluster c counts `weights_RC[r, c]` times.

    The rates are linear in the counts once the tokens of each side are known, so one product gives the differences.
    """
    if isinstance(clusters, Contrast):
        return reduce(
            np.add, (term.factor * pooled(term.clusters, weights_RC[:, term.columns]) for term in clusters.terms)
        )
    seen_SR = clusters.seen_SC @ weights_RC.T
    num = clusters.num_clusters
    shares_RC = np.empty((len(weights_RC), 2 * num))  # of the unsafe side, then of the safe one
    np.divide(weights_RC, _known(seen_SR[UNSAFE]), out=shares_RC[:, :num])
    np.divide(weights_RC, -_known(seen_SR[SAFE]), out=shares_RC[:, num:])
    differences: Floats = shares_RC @ clusters.unsafe_then_safe()
    return differences


def pooled_swapped(clusters: Clusters, swaps_RC: Floats) -> Floats:
    """Pooled risk differences [R, X] when the sides of cluster c are swapped where `swaps_RC[r, c]` is 1.

    With m the tokens that move, (U - m) / n_unsafe - (S + m) / n_safe, as one product.
    """
    if isinstance(clusters, Contrast):
        return reduce(
            np.add, (term.factor * pooled_swapped(term.clusters, swaps_RC[:, term.columns]) for term in clusters.terms)
        )
    routed, seen = clusters.routed_SCX, clusters.seen_SC
    moved_R = swaps_RC @ (seen[UNSAFE] - seen[SAFE])
    unsafe_R1, safe_R1 = _known(seen[UNSAFE].sum() - moved_R), _known(seen[SAFE].sum() + moved_R)
    shares_RT = np.empty((len(swaps_RC), clusters.num_clusters + 2))
    np.multiply(swaps_RC, -1 / unsafe_R1 - 1 / safe_R1, out=shares_RT[:, :-2])
    shares_RT[:, -2:] = np.hstack([1 / unsafe_R1, -1 / safe_R1])
    totals_SX = routed.sum(1)
    differences: Floats = shares_RT @ np.vstack([routed[UNSAFE] - routed[SAFE], totals_SX[UNSAFE], totals_SX[SAFE]])
    return differences


def _known(seen_R: Floats) -> Floats:
    """[R, 1]; NaN where no token was seen, so that what is divided by it is undefined."""
    return np.where(seen_R > 0, seen_R, np.nan)[:, None]


def of_pairs(counts: RoutingCounts, pairs: Sequence[int]) -> Floats:
    """Pooled risk difference [L, E] of some pairs (indices into `counts`)."""
    routed_SLE = counts.routed[list(pairs)].sum(0, dtype=np.int64).astype(np.float64)
    seen_S = counts.seen[list(pairs)].sum(0).astype(np.float64)
    return rate_difference(routed_SLE[SAFE], seen_S[SAFE], routed_SLE[UNSAFE], seen_S[UNSAFE])


def mean_of_batches(values_BLE: Floats) -> Floats:
    """Mean over the batches where the value is defined; NaN where it is undefined in all."""
    defined = (~np.isnan(values_BLE)).sum(0)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.nansum(values_BLE, axis=0) / np.where(defined > 0, defined, np.nan)
    return mean
