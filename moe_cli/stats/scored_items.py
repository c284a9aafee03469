"""The items that every run of two arms could score, as arrays, and the interval of their difference.

An item of a suite with n_s items has the vote min(n_s) / n_s where a metric covers several suites, so that every suite
has one vote. A difference of yes and no is summed without rounding.

Letters of shapes: R runs of an arm, n items, C clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from moe_cli.stats.clusters import item_moments
from moe_cli.stats.intervals import ArmSums, Interval, RunSpread, cluster_interval, run_spread
from moe_cli.stats.outcomes import PairedOutcomes


@dataclass(frozen=True, slots=True)
class ScoredItems:
    """The items that every run could score: n items in C clusters, R runs of an arm."""

    ids: tuple[str, ...]  # n
    a_Rn: NDArray[np.float64]
    b_Rn: NDArray[np.float64]
    cluster_n: NDArray[np.intp]
    vote_n: NDArray[np.float64]  # of an item: 1 in the smallest suite
    sizes_C: NDArray[np.float64]  # sum of the votes of its items
    num_suites: int

    def mean(self, outcome_Rn: NDArray[np.float64]) -> float:
        """The mean over the runs, each of which is the mean of its suites."""
        return fsum((outcome_Rn * self.vote_n).flat) / (len(outcome_Rn) * fsum(self.vote_n))

    @property
    def graded(self) -> bool:
        """Whether some outcome is a fraction, neither yes nor no."""
        return any(bool(((of_arm != 0) & (of_arm != 1)).any()) for of_arm in (self.a_Rn, self.b_Rn))


@dataclass(frozen=True, slots=True)
class DifferenceInterval:
    """The difference b - a of one metric, with its 95 % interval alone."""

    difference: float
    lower: float
    upper: float
    n: int  # items scored in every run


def difference_interval(metric: PairedOutcomes, seeded: tuple[bool, bool] = (True, True)) -> DifferenceInterval | None:
    """The difference with the interval of `difference_of_pairs`; None where no item was scored in every run."""
    scored = scored_items(metric)
    if scored is None:
        return None
    interval = interval_of(scored, seeded)
    return DifferenceInterval(difference_of(scored), interval.lower, interval.upper, scored.a_Rn.shape[1])


def scored_items(metric: PairedOutcomes) -> ScoredItems | None:
    """The outcomes as arrays; None where no item was scored in every run."""
    yes_Rn = np.array((*metric.a, *metric.b), dtype=np.float64)  # None is nan; sums of yes and no are exact
    if metric.missing_is_no:
        yes_Rn = np.nan_to_num(yes_Rn)
    kept_n = ~np.isnan(yes_Rn).any(0)
    if not kept_n.any():
        return None
    yes_Rn = yes_Rn[:, kept_n]
    names, cluster_n = np.unique(np.array(metric.clusters)[kept_n], return_inverse=True)
    num_a = len(metric.a)
    kept = np.flatnonzero(kept_n)
    vote_n = votes_of(metric, kept)
    return ScoredItems(
        ids=tuple(metric.ids[place] for place in kept),
        a_Rn=yes_Rn[:num_a],
        b_Rn=yes_Rn[num_a:],
        cluster_n=cluster_n,
        vote_n=vote_n,
        sizes_C=np.bincount(cluster_n, weights=vote_n, minlength=len(names)).astype(np.float64),
        num_suites=len({metric.suites[place] for place in kept}) if metric.over_all else 1,
    )


def votes_of(metric: PairedOutcomes, kept: Iterable[int]) -> NDArray[np.float64]:
    """min(n_s) / n_s for an item of a suite with n_s items."""
    suites = [metric.suites[index] if metric.over_all else "" for index in kept]
    sizes = Counter(suites)
    smallest = min(sizes.values())
    return np.array([smallest / sizes[suite] for suite in suites])


def cluster_sums_of(yes_Rn: NDArray[np.float64], scored: ScoredItems) -> NDArray[np.float64]:
    """Sums of the votes for yes [R, C]."""
    num_clusters = len(scored.sizes_C)
    return np.array([np.bincount(scored.cluster_n, yes_n * scored.vote_n, minlength=num_clusters) for yes_n in yes_Rn])


def interval_of(scored: ScoredItems, seeded: tuple[bool, bool]) -> Interval:
    """The 95 % interval of b - a; an arm that is not `seeded` adds nothing for its runs."""
    a_RC, b_RC = cluster_sums_of(scored.a_Rn, scored), cluster_sums_of(scored.b_Rn, scored)
    items = item_moments(scored.b_Rn.mean(0) - scored.a_Rn.mean(0), scored.vote_n)
    spread = spread_of_runs(scored, seeded)
    return cluster_interval(b_RC.mean(0) - a_RC.mean(0), scored.sizes_C, spread, items=items)


def spread_of_runs(scored: ScoredItems, seeded: tuple[bool, bool]) -> RunSpread:
    """What the runs of both arms say about the variance of b - a."""
    a_RC, b_RC = cluster_sums_of(scored.a_Rn, scored), cluster_sums_of(scored.b_Rn, scored)
    return run_spread([ArmSums(a_RC, seeded[0]), ArmSums(b_RC, seeded[1])], scored.sizes_C)


def changes_of(scored: ScoredItems) -> NDArray[np.float64]:
    """How much more often b says yes to each item, times the runs of both: yes and no are not rounded."""
    return np.asarray(scored.b_Rn.sum(0) * len(scored.a_Rn) - scored.a_Rn.sum(0) * len(scored.b_Rn))


def difference_of(scored: ScoredItems) -> float:
    """The difference b - a, the mean over all pairs of runs."""
    num_pairs = len(scored.a_Rn) * len(scored.b_Rn)
    return fsum(changes_of(scored) * scored.vote_n) / (num_pairs * fsum(scored.vote_n))
