"""What taking a set of experts away does beyond what equally used experts do, and what may be said of it.

The effect of a set is the mean over items of a change in one yes-or-no outcome. The selected set is held against
control sets (`control_sets`): its specific effect is its effect less their mean, its p-value its rank among them.
Intervals of an effect are the paired intervals of a comparison; those of a difference from the control sets come from
resampling goals and control sets together. The same outcomes give the same numbers, bit for bit.

Letters: N items, C goals, R control sets, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_cli.records.ablation import AblationVerdict
from moe_cli.records.drift import Estimate
from moe_cli.stats.clusters import (
    BLOCK,
    NUM_RESAMPLES,
    Floats,
    cluster_draws,
    cluster_sums,
    estimate,
    item_moments,
)
from moe_cli.stats.intervals import cluster_interval
from moe_cli.stats.significance import LEVEL, sign_flip_p

SEED = 0
NORMAL_TAIL, NORMAL_POWER = 1.959964, 0.841621  # of the 97.5 % and the 80 % point


@dataclass(frozen=True, slots=True)
class Contrast:
    """The selected set against the control sets in one outcome."""

    estimate: Estimate  # the selected set's mean less the mean of the control sets
    error: float  # standard deviation of the resamples


def effect_estimate(changes_N: Floats, clusters: Sequence[str]) -> Estimate:
    """The mean change with its 95 % interval over goals; a change is -1, 0 or 1."""
    sums_C2 = _sums(clusters, changes_N[:, None])
    value = float(changes_N.mean())
    if len(sums_C2) < 2:
        return Estimate(value=value, lower=None, upper=None, n=len(sums_C2))
    interval = cluster_interval(sums_C2[:, 1], sums_C2[:, 0], items=item_moments(changes_N))
    return Estimate(value=value, lower=interval.lower, upper=interval.upper, n=len(sums_C2))


def effect_p(changes_N: Floats, clusters: Sequence[str]) -> float:
    """Exact two-sided sign-flip test of whole goals."""
    return sign_flip_p(_sums(clusters, changes_N[:, None])[:, 1])


def contrast_of(selected_N: Floats, controls_RN: Floats, clusters: Sequence[str]) -> Contrast:
    """The selected set less the mean of the control sets, resampled over goals and control sets."""
    sums_CX = _sums(clusters, np.column_stack([selected_N, controls_RN.T]))
    value = float(selected_N.mean() - controls_RN.mean())
    resampled_B = np.concatenate(list(_resampled(sums_CX)))
    return Contrast(estimate(value, resampled_B, len(sums_CX)), float(resampled_B.std()))


def _sums(clusters: Sequence[str], values_NX: Floats) -> Floats:
    """[C, 1 + X]: items of every goal, and the sums of the values."""
    return cluster_sums(clusters, np.column_stack([np.ones(len(values_NX)), values_NX]))


def _resampled(sums_CX: Floats) -> Iterator[Floats]:
    """Resampled differences; columns: number of items, selected, then the control sets."""
    generator = np.random.default_rng(SEED)
    num_controls = sums_CX.shape[1] - 2
    for start in range(0, NUM_RESAMPLES, BLOCK):
        num = min(BLOCK, NUM_RESAMPLES - start)
        drawn_BX = cluster_draws(len(sums_CX), num, generator) @ sums_CX
        weights_BR = cluster_draws(num_controls, num, generator) / num_controls
        yield (drawn_BX[:, 1] - (drawn_BX[:, 2:] * weights_BR).sum(1)) / drawn_BX[:, 0]


def detectable_effect(contrast: Contrast, controls_R: Sequence[float]) -> float:
    """The specific effect that would be found in 80 of 100 cases.

    It has to pass so many control sets that p is at most 0.05, and its interval has to lie above 0; beyond the larger
    of both stands 0.84 standard errors.
    """
    allowed = int(LEVEL * (1 + len(controls_R)) + 1e-9) - 1
    to_pass = sorted(controls_R, reverse=True)[allowed] - float(np.mean(controls_R))
    return max(to_pass, NORMAL_TAIL * contrast.error) + NORMAL_POWER * contrast.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the verdict on a set of experts rests on."""

    effect: Estimate
    repair: Estimate
    specific: Estimate
    p_value: float
    p_opposite: float  # of the other end of the ranks
    harm_to_benign: Estimate | None
    more_degenerate: Estimate
    margin: float  # a specific effect up to it does not matter
    utility_margin: float  # of broken answers, beyond the control sets'


def breaks_model(evidence: Evidence, *, surely: bool) -> bool:
    """Whether the set harms benign answers, or empties answers, by more than the margin beyond the control sets.

    `surely`: and the interval of that is above 0.
    """
    harms = [one for one in (evidence.harm_to_benign, evidence.more_degenerate) if one is not None]
    return any(
        harm.value > evidence.utility_margin and (not surely or (harm.lower is not None and harm.lower > 0))
        for harm in harms
    )


def verdict_of(evidence: Evidence) -> AblationVerdict:
    """The first that holds: breaks the model, opposite, not specific, specific; else inconclusive.

    *Opposite* is a specific effect whose whole interval is below 0 by more than the margin, with a rank at the other
    end that chance has in at most 5 % of cases: without the set there is more of what was to go.
    *Not specific* is a specific effect whose whole interval is at most the margin: it does not matter, even where it
    is significant. *Specific* needs a rank that chance has in at most 5 % of cases, intervals of the specific effect
    and of the repair above 0, and no sign that the model breaks.
    """
    if breaks_model(evidence, surely=True):
        return "breaks the model"
    specific, repair = evidence.specific, evidence.repair
    if specific.upper is not None and specific.upper < -evidence.margin and evidence.p_opposite <= LEVEL:
        return "opposite"
    if specific.upper is not None and specific.upper <= evidence.margin:
        return "not specific"
    found = evidence.p_value <= LEVEL and _is_above(specific) and _is_above(repair)
    return "specific" if found and not breaks_model(evidence, surely=False) else "inconclusive"


def _is_above(one: Estimate) -> bool:
    return one.lower is not None and one.lower > 0


def mean_changes(changes_XN: NDArray[np.generic]) -> tuple[float, ...]:
    """The effect of every condition; equal numbers of items give equal effects, so that ties are ties."""
    return tuple(float(total) / changes_XN.shape[1] for total in changes_XN.sum(1).tolist())
