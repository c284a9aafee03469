"""What taking a set of experts away does beyond what equally used experts do, and what may be said of it.

The effect of a set is the mean over items of a change in one yes-or-no outcome. The selected set is held against
control sets (`control_sets`): its specific effect is its effect less their mean, its p-value its rank among them.
Intervals of an effect are the paired intervals of a comparison; those of a difference from the control sets take these
as the runs of one arm. None has the width zero, and the same outcomes give the same numbers, bit for bit.

Control sets may hold selected experts, and what those do then counts on both sides. Where a selected expert is in the
share q of the control sets, only 1 - q of what it does shows in the specific effect, and that the set carries no harm
is said of the effect itself (`largest_own_effect`) or not at all (`why_untestable`).

Letters: N items, C goals, R control sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_cli.records.ablation import AblationVerdict
from moe_cli.records.drift import Estimate
from moe_cli.stats.clusters import Floats, cluster_sums, item_moments
from moe_cli.stats.intervals import ArmSums, cluster_interval, run_spread
from moe_cli.stats.significance import LEVEL, sign_flip_p

NORMAL_POWER = 0.841621  # of the 80 % point


@dataclass(frozen=True, slots=True)
class ControlContrast:
    """The selected set against the control sets in one outcome."""

    estimate: Estimate  # the selected set's mean less the mean of the control sets
    error: float | None  # its standard error; None: one goal has none
    at_most: float | None  # upper end where an item of a pseudo-cluster counts 1


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


def contrast_of(selected_N: Floats, controls_RN: Floats, clusters: Sequence[str]) -> ControlContrast:
    """The selected set less the mean of the control sets, with its 95 % interval over goals and control sets.

    In the pseudo-clusters of the interval an item counts as much as one answer of either side does on average. For the
    most that the selected set may do it counts 1: what a goal adds that changes without the selected set alone.
    """
    difference_N = selected_N - controls_RN.mean(0)
    sums_CX = _sums(clusters, np.column_stack([difference_N, selected_N, controls_RN.T]))
    sizes_C, num_goals = sums_CX[:, 0], len(sums_CX)
    value = float(selected_N.mean() - controls_RN.mean())
    if num_goals < 2:
        return ControlContrast(Estimate(value=value, lower=None, upper=None, n=num_goals), None, None)
    arms = (ArmSums(sums_CX[:, 2][None], seeded=False), ArmSums(sums_CX[:, 3:].T, seeded=True))
    spread, items = run_spread(arms, sizes_C), item_moments(difference_N)
    own = (1 + 1 / len(controls_RN)) / 2
    interval = cluster_interval(sums_CX[:, 1], sizes_C, replace(spread, step=own), items=items)
    wide = cluster_interval(sums_CX[:, 1], sizes_C, replace(spread, step=1.0), items=items)
    lower, upper = min(value, interval.lower), max(value, interval.upper)  # means of equal numbers differ by rounding
    return ControlContrast(
        Estimate(value=value, lower=lower, upper=upper, n=num_goals), interval.error, max(upper, wide.upper)
    )


def _sums(clusters: Sequence[str], values_NX: Floats) -> Floats:
    """[C, 1 + X]: items of every goal, and the sums of the values."""
    return cluster_sums(clusters, np.column_stack([np.ones(len(values_NX)), values_NX]))


def detectable_specific_effect(contrast: ControlContrast, controls_R: Sequence[float]) -> float | None:
    """The specific effect that would be found in 80 of 100 cases; None where one goal carries no interval.

    It has to pass so many control sets that p is at most 0.05, and its interval, which reaches so far below it, has to
    lie above 0; beyond the larger of both stands 0.84 standard errors.
    """
    if contrast.error is None or contrast.estimate.lower is None:
        return None
    allowed = int(LEVEL * (1 + len(controls_R)) + 1e-9) - 1
    to_pass = sorted(controls_R, reverse=True)[allowed] - float(np.mean(controls_R))
    return max(to_pass, contrast.estimate.value - contrast.estimate.lower) + NORMAL_POWER * contrast.error


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationEvidence:
    """What the verdict on a set of experts rests on."""

    effect: Estimate
    repair: Estimate
    specific: Estimate
    specific_at_most: float | None  # the specific effect by `ControlContrast.at_most`
    p_value: float
    p_opposite: float  # of the other end of the ranks
    harm_to_benign: Estimate | None
    more_degenerate: Estimate
    most_shared: float  # share of the control sets that hold the selected expert that most of them hold
    chance_of_same: float  # that a control set is the selected set
    largest: float  # that an effect can be: the share of items that show what is to go while nothing is taken away
    margin: float  # an effect of the selected experts' own up to it does not matter
    utility_margin: float  # of broken answers, beyond the control sets'


def breaks_model(evidence: AblationEvidence, *, surely: bool) -> bool:
    """Whether the set harms benign answers, or empties answers, by more than the margin beyond the control sets.

    `surely`: and the interval of that is above 0.
    """
    harms = [one for one in (evidence.harm_to_benign, evidence.more_degenerate) if one is not None]
    return any(
        harm.value > evidence.utility_margin and (not surely or (harm.lower is not None and harm.lower > 0))
        for harm in harms
    )


def largest_own_effect(evidence: AblationEvidence) -> float | None:
    """The most that these experts may do if no other expert does anything; None: one goal, or others surely do.

    If effects add up, e is in the share q_e of the control sets, and no other expert does anything, then specific(S) =
    sum of (1 - q_e) effect(e), which is at least (1 - max q) effect(S), whichever of S have the effect.
    """
    if evidence.specific_at_most is None or others_do_more(evidence):
        return None
    if evidence.most_shared == 1:
        return evidence.largest  # all of it may be hidden
    return min(evidence.largest, evidence.specific_at_most / (1 - evidence.most_shared))


def others_do_more(evidence: AblationEvidence) -> bool:
    """Whether equally used experts surely do more than the selected ones."""
    return evidence.specific_at_most is not None and evidence.specific_at_most < 0


def most_to_show(evidence: AblationEvidence) -> float:
    """The most that specific(S) can be, by what is there to go and by the expert that most control sets hold."""
    return (1 - evidence.most_shared) * evidence.largest


def why_untestable(evidence: AblationEvidence) -> str | None:
    """Why these control sets cannot show that the selected experts do no more than others; None: they can."""
    if evidence.chance_of_same > LEVEL:
        return f"a control set is the set of these experts itself with a chance of {evidence.chance_of_same:.0%}"
    if evidence.largest < evidence.margin:
        return (
            f"only {100 * evidence.largest:.1f} % of the answers show what is to go while nothing is taken away, and "
            f"the margin is {100 * evidence.margin:.1f} points"
        )
    visible = most_to_show(evidence)
    if visible >= evidence.margin:
        return None
    return (
        f"one of these experts is in {evidence.most_shared:.0%} of the control sets, so that of the "
        f"{100 * evidence.largest:.1f} points that can go no more than {100 * visible:.1f} may show: less than the "
        f"margin of {100 * evidence.margin:.1f}"
    )


def specificity_verdict(evidence: AblationEvidence) -> AblationVerdict:
    """The first that holds: breaks the model, opposite, not specific, specific; else inconclusive.

    *Opposite* is a specific effect whose whole interval is below 0 by more than the margin, with a rank at the other
    end that chance has in at most 5 % of cases, and an effect whose interval is below 0: without the set there is more
    of what was to go. Without the latter others only do more.
    *Not specific* are experts whose control sets can tell and do as much: surely more than they, or
    `largest_own_effect` is at most the margin and does not matter, even where it is significant. *Specific* needs a
    rank that chance has in at most 5 % of cases, intervals of the specific effect, of the effect and of the repair
    above 0, and no sign that the model breaks.
    """
    if breaks_model(evidence, surely=True):
        return "breaks the model"
    specific, repair = evidence.specific, evidence.repair
    does_less = _is_below(specific, -evidence.margin) and evidence.p_opposite <= LEVEL
    if does_less and _is_below(evidence.effect, 0.0):
        return "opposite"
    own = largest_own_effect(evidence)
    others_do_as_much = others_do_more(evidence) or (own is not None and own <= evidence.margin)
    if others_do_as_much and why_untestable(evidence) is None:
        return "not specific"
    found = evidence.p_value <= LEVEL and all(map(is_above, (specific, evidence.effect, repair)))
    return "specific" if found and not breaks_model(evidence, surely=False) else "inconclusive"


def is_above(one: Estimate) -> bool:
    """Whether its interval is above 0."""
    return one.lower is not None and one.lower > 0


def _is_below(one: Estimate, bound: float) -> bool:
    return one.upper is not None and one.upper < bound


def mean_changes(changes_XN: NDArray[np.generic]) -> tuple[float, ...]:
    """The effect of every condition; equal numbers of items give equal effects, so that ties are ties."""
    return tuple(float(total) / changes_XN.shape[1] for total in changes_XN.sum(1).tolist())
