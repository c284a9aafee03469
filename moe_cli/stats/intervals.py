"""Intervals of a difference whose items come in clusters and whose arms may be several runs.

Swapping the arms mirrors the interval exactly, and it never has width zero: two runs that agree on 100 items can
still differ on the 101st, and ten goals that agree in all of their variants can differ in the eleventh, in all runs at
once where runs answer alike. It needs no random draws. How often it covers, and how often a bootstrap does, is in
`docs/method.md`, from `tests/studies/intervals.py`.

Arms of several runs add the variance over runs. An arm of one run adds nothing, because one run cannot show it, and
neither does an untrained model, which has no seed that could have been another.

Letters of shapes: R runs of an arm, C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb, fsum, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from moe_cli.records.comparison import SeedSpread
from moe_cli.stats.clusters import ClusterMean, Floats, ItemMoments, cluster_mean, design_effect
from moe_cli.stats.significance import LEVEL

LEAST_FREEDOM, MOST_FREEDOM = 0.05, 1e4  # between which the t of several runs is looked for
POOLED = (0.954, 0.25)  # confidence and knee of several runs, so that 95 % are covered (`docs/method.md`)
ESTIMATED = (0.952, 0.30)  # the same with Satterthwaite's degrees of freedom
LEAST_OF_PSEUDO = 0.25  # of the variance that the pseudo-clusters bring; so much of it the runs cannot take away
MOST_WAYS = 20_000  # to exchange runs, that are looked at: 8 runs an arm have 12,870
ALIKE = 0.9  # likeness of runs, up to which one answer of one run is the least that can change (`docs/method.md`)
ROUNDING = 1e-12
ENOUGH = 2  # degrees of freedom of an arm, from which on Satterthwaite's are estimated: three runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpread:
    """What the runs of the arms say about the variance of a difference."""

    total: float  # variance of the rates of the runs, of all arms together
    chance: float  # the part of it that runs of one and the same model would have; the items hold it as well
    freedom: float  # degrees of freedom of the total; 0: one run each, which says nothing
    estimated: bool  # whether these degrees of freedom are estimated from the same runs (Satterthwaite)
    step: float  # what one answer, with those of other runs that go with it, changes in the difference of an item


NO_SPREAD = RunSpread(total=0.0, chance=0.0, freedom=0.0, estimated=False, step=1.0)  # one run each


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
    large the pseudo-clusters have to be. None: as alike as they can be. If items have votes, sums and sizes are sums
    of votes, the largest of which is 1; a pseudo-item has vote 1.

    Pseudo-items: Bonett and Price 2012 (J. Educ. Behav. Stat. 37:479), here as many in a cluster as the design
    effect says. Variance and degrees of freedom of a mean over clusters: `clusters.cluster_mean`.
    """
    differences, sizes = differences_C.astype(np.float64), sizes_C.astype(np.float64)
    size = _pseudo_size(differences, sizes, spread.step, items)
    mean = cluster_mean(*_with_pseudo_clusters(differences, sizes, spread.step, size))
    of_pseudo = 2 * (spread.step * size / (float(sizes.sum()) + 2 * size)) ** 2
    if spread.freedom:
        error, freedom = _with_runs(mean, spread, LEAST_OF_PSEUDO * of_pseudo)
    else:
        error, freedom = sqrt(mean.variance), mean.freedom
    critical = float(stdtrit(freedom, 1 - LEVEL / 2))
    estimate = fsum(differences.tolist()) / fsum(sizes.tolist())
    return Interval(
        lower=max(-1.0, min(estimate, mean.mean - critical * error)),
        upper=min(1.0, max(estimate, mean.mean + critical * error)),
        p_value=2 * float(stdtr(freedom, -abs(mean.mean) / error)),
        error=error,
        error_of_items=sqrt(max(0.0, error**2 - of_pseudo)),
        freedom=freedom,
    )


def _with_runs(items: ClusterMean, spread: RunSpread, least: float) -> tuple[float, float]:
    """Standard error, and degrees of freedom of its t, where arms have several runs.

    This is a Behrens-Fisher problem: the variance over items is known well, the one over runs hardly, and
    Satterthwaite's degrees of freedom of their sum depend on the latter. Instead a line is used: the squared
    critical value rises from z^2 to t^2 of the runs as their share of the variance rises from the knee to 1, a fit
    to the solution of Trickett, Welch and James (1956, Biometrika 43:203).
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
    """The interval of one rate: its difference from one half, with pseudo-clusters of yes and of no.

    `items` are the moments of the differences from one half.
    """
    half = replace(spread, step=spread.step / 2)
    interval = cluster_interval(yes_C - sizes_C / 2, sizes_C, half, items=items)
    rate = fsum(yes_C.tolist()) / fsum(sizes_C.tolist())
    return max(0.0, min(rate, interval.lower + 0.5)), min(1.0, max(rate, interval.upper + 0.5))


def _pseudo_size(differences_C: Floats, sizes_C: Floats, step: float, items: ItemMoments | None) -> float:
    """Items in a pseudo-cluster: as many as in a cluster, but one where items of a cluster are independent.

    The design effect is that after two whole clusters that disagree were added: where nothing differs, the clusters
    cannot show that they are alike, and are taken to be.
    """
    size = max(1.0, float(sizes_C.mean()))
    if items is None:
        return size
    clusters = _with_pseudo_clusters(differences_C, sizes_C, step, size)
    return min(size, design_effect(*clusters, items.with_two_clusters(step, -step, size)))


def _with_pseudo_clusters(differences_C: Floats, sizes_C: Floats, step: float, size: float) -> tuple[Floats, Floats]:
    return np.append(differences_C, [step * size, -step * size]), np.append(sizes_C, [size, size])


@dataclass(frozen=True, slots=True)
class ArmSums:
    """Sums of the yes outcomes of one arm."""

    yes_RC: NDArray[np.float64]
    seeded: bool  # False: not trained

    @property
    def num_runs(self) -> int:
        """Number of runs of the arm."""
        return len(self.yes_RC)


@dataclass(frozen=True, slots=True)
class _Spread:
    """The variance over the runs of one arm."""

    total: float  # variance of the rates of its runs
    chance: float  # the part of it that runs of one and the same model would have
    freedom: int


def run_spread(arms: Sequence[ArmSums], sizes_C: NDArray[np.number]) -> RunSpread:
    """What the runs of all arms say about the variance of a difference (or of the rate of a single arm).

    Runs are nested in arms and crossed with clusters. The variance over clusters already includes the chance of
    single answers, so only the rest of the variance over runs is added. An arm with one training run borrows the
    spread of the other. Degrees of freedom are Satterthwaite's (1946, Biometrics Bull. 2:110) where two arms have
    three runs or more; two runs say too little about that, and those of the arms are added up.
    """
    spreads = [_spread(arm.yes_RC, sizes_C) if arm.num_runs > 1 and arm.seeded else None for arm in arms]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return replace(NO_SPREAD, step=_step(arms, sizes_C))
    weights = {id(spread): 0.0 for spread in known}
    for arm, own in zip(arms, spreads, strict=True):
        if arm.seeded:
            weights[id(own or known[0])] += 1 / arm.num_runs
    parts = [weights[id(spread)] * spread.total for spread in known]
    total = sum(parts)
    estimated = len(known) > 1 and total > 0 and min(spread.freedom for spread in known) >= ENOUGH
    squares = sum(part**2 / spread.freedom for part, spread in zip(parts, known, strict=True))
    return RunSpread(
        total=total,
        chance=sum(weights[id(spread)] * spread.chance for spread in known),
        freedom=total**2 / squares if estimated else float(sum(spread.freedom for spread in known)),
        estimated=estimated,
        step=_step(arms, sizes_C),
    )


def seed_spread(rates_a: NDArray[np.float64], rates_b: NDArray[np.float64]) -> SeedSpread:
    """How far runs lie apart, and the exact two-sided p of exchanging runs, given by their rates, between the arms.

    If both arms have equally many runs, every way to exchange them has a mirror image, so the smallest p is 2 /
    ways.
    """
    rates, num_a = np.concatenate([rates_a, rates_b]), len(rates_a)
    ways = comb(len(rates), num_a)
    return SeedSpread(
        range_a=(float(rates_a.min()), float(rates_a.max())),
        range_b=(float(rates_b.min()), float(rates_b.max())),
        num_runs=(num_a, len(rates_b)),
        p_permuted=_permuted_p(rates, num_a) if ways <= MOST_WAYS else None,
        smallest_p=(2 if num_a == len(rates_b) else 1) / ways,
    )


def _permuted_p(rates: NDArray[np.float64], num_a: int) -> float:
    num_b = len(rates) - num_a
    sums = np.array([rates[list(chosen)].sum() for chosen in combinations(range(len(rates)), num_a)])
    distances = np.abs(sums / num_a - (rates.sum() - sums) / num_b)  # the first is the arms as they are
    return float((distances >= distances[0] - ROUNDING).mean())


def _step(arms: Sequence[ArmSums], sizes_C: NDArray[np.number]) -> float:
    return sum(_step_of_arm(arm.yes_RC, sizes_C.astype(np.float64)) for arm in arms) / len(arms)


def _step_of_arm(yes_RC: NDArray[np.float64], sizes_C: Floats) -> float:
    """What one answer of one run changes in the mean over R runs, with the answers of the others that go with it.

    It is the design effect of R answers to one cluster, by R: 1 where runs are alike, and 1/R where they differ enough
    that the items hold what runs have in common (`ALIKE`). A cluster of yes and one of no in all runs are added: where
    nothing differs the runs cannot show that they are independent, and are taken to be alike.
    """
    num_runs = len(yes_RC)
    if num_runs == 1:
        return 1.0
    of_run_RC = yes_RC - np.outer(yes_RC.sum(1) / sizes_C.sum(), sizes_C)
    apart = float(((of_run_RC - of_run_RC.mean(0)) ** 2).sum()) / (num_runs - 1)
    of_pseudo = 2 * (max(1.0, float(sizes_C.mean())) / 2) ** 2
    alike = max(0.0, 1 - apart / (float((of_run_RC**2).sum()) / num_runs + of_pseudo))
    return (1 + (num_runs - 1) * max(0.0, (alike - ALIKE) / (1 - ALIKE))) / num_runs


def _spread(yes_RC: NDArray[np.float64], sizes_C: NDArray[np.number]) -> _Spread:
    """Two-way analysis of variance: what is left after run and cluster is chance."""
    num_runs, num_clusters = yes_RC.shape
    num = float(sizes_C.sum())
    rate_R = yes_RC.sum(1) / num
    left_RC = yes_RC - yes_RC.mean(0) - np.outer(rate_R - rate_R.mean(), sizes_C)
    per_cluster = num_clusters / max(1, num_clusters - 1)
    return _Spread(
        total=float(rate_R.var(ddof=1)),
        chance=float((left_RC**2).sum()) * per_cluster / (num**2 * (num_runs - 1)),
        freedom=num_runs - 1,
    )
