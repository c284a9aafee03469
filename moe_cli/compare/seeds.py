"""How far the runs of one arm differ from each other, beyond the chance of their answers.

Comes in: for every run of an arm the sum of outcomes of every cluster. Goes out: a `RunSpread`. Always holds: one run
each adds nothing, because one run cannot tell; a model that was not trained has no seed that could have been another.

Letters of shapes: R runs of an arm, C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_cli.compare.intervals import NO_SPREAD, RunSpread


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
    """What the runs of all arms add to the variance of a difference (or of the rate of a single arm).

    Runs are nested in arms and crossed with clusters: the variance over clusters holds the chance of single answers
    already, so it is taken out of the variance over runs. An arm with one training run lends the spread of the other.
    """
    spreads = [_spread(arm.yes_RC, sizes_C) if arm.num_runs > 1 and arm.seeded else None for arm in arms]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return NO_SPREAD
    weights = {id(spread): 0.0 for spread in known}
    for arm, own in zip(arms, spreads, strict=True):
        if arm.seeded:
            weights[id(own or known[0])] += 1 / arm.num_runs
    variance = sum(weights[id(spread)] * (spread.total - spread.chance) for spread in known)
    return RunSpread(
        variance=max(0.0, variance),
        uncertainty=sum((weights[id(spread)] * spread.total) ** 2 / spread.freedom for spread in known),
        step=sum(1 / arm.num_runs for arm in arms) / len(arms),
    )


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
