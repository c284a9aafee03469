"""How far the runs of one arm differ from each other, beyond the chance of their answers.

One run each adds nothing, because one run cannot tell; a model that was not trained has no seed that could have been
another.

Letters of shapes: R runs of an arm, C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from moe_cli.compare.intervals import NO_SPREAD, RunSpread
from moe_cli.records.comparison import SeedSpread

MOST_WAYS = 20_000  # to exchange runs, that are looked at: 8 runs an arm have 12,870
ROUNDING = 1e-12
ENOUGH = 2  # degrees of freedom of an arm, from which on Satterthwaite's are estimated: three runs


@dataclass(frozen=True, slots=True)
class ArmSums:
    """The yes of one arm."""

    yes_RC: NDArray[np.float64]
    seeded: bool  # False: not trained

    @property
    def num_runs(self) -> int:
        """Runs of the arm."""
        return len(self.yes_RC)


@dataclass(frozen=True, slots=True)
class _Spread:
    """Of one arm with several runs."""

    total: float  # variance of the rates of its runs
    chance: float  # the part of it that runs of one and the same model would have
    freedom: int


def run_spread(arms: Sequence[ArmSums], sizes_C: NDArray[np.number]) -> RunSpread:
    """What the runs of all arms say about the variance of a difference (or of the rate of a single arm).

    Runs are nested in arms and crossed with clusters: the variance over clusters holds the chance of single answers
    already, so it is known what part of the variance over runs is that chance. An arm with one training run lends the
    spread of the other. Degrees of freedom are Satterthwaite's (1946, Biometrics Bull. 2:110) where two arms have three
    runs or more; two runs say too little about that, and those of the arms are added up.
    """
    spreads = [_spread(arm.yes_RC, sizes_C) if arm.num_runs > 1 and arm.seeded else None for arm in arms]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return replace(NO_SPREAD, step=_step(arms))
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
        step=_step(arms),
    )


def seed_spread(rates_a: NDArray[np.float64], rates_b: NDArray[np.float64]) -> SeedSpread:
    """How far runs lie apart, and the exact two-sided p of exchanging them between the arms, which are rates of runs.

    With as many runs in either arm every way to exchange them has a mirror image, so that the least p is 2 / ways.
    """
    every, num_a = np.concatenate([rates_a, rates_b]), len(rates_a)
    ways = comb(len(every), num_a)
    return SeedSpread(
        range_a=(float(rates_a.min()), float(rates_a.max())),
        range_b=(float(rates_b.min()), float(rates_b.max())),
        num_runs=(num_a, len(rates_b)),
        p_permuted=_permuted_p(every, num_a) if ways <= MOST_WAYS else None,
        smallest_p=(2 if num_a == len(rates_b) else 1) / ways,
    )


def _permuted_p(every: NDArray[np.float64], num_a: int) -> float:
    num_b = len(every) - num_a
    sums = np.array([every[list(chosen)].sum() for chosen in combinations(range(len(every)), num_a)])
    distances = np.abs(sums / num_a - (every.sum() - sums) / num_b)  # the first is the arms as they are
    return float((distances >= distances[0] - ROUNDING).mean())


def _step(arms: Sequence[ArmSums]) -> float:
    return sum(1 / arm.num_runs for arm in arms) / len(arms)


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
