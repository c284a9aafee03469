"""The paired difference of two arms, metric by metric, with a verdict.

compare(a, b) is exactly -compare(b, a), and compare(a, a) is 0. "Better" and "worse" need the adjusted p below the
level and an interval without 0. Not significant is never called equal.

Items of one cluster (the attack variants of one goal) are correlated, so exact McNemar finds too much: with one run
each the verdict rests on sign flips of whole clusters, and McNemar's p is reported beside it. Both are equal where
every cluster is one item. McNemar's test is not defined for fractions, so graded outcomes have none. Where an arm is
several runs the p is that of the interval, which includes how far runs differ.

A metric over several suites is the mean of its suites, one vote each: an item of a suite with n_s items has the vote
min(n_s) / n_s, so that a large suite cannot hide what happens in a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray

from moe_cli.records.comparison import PairComparison, PairedDifference, PairVerdict
from moe_cli.stats.clusters import effective_number, item_moments
from moe_cli.stats.intervals import ArmSums, rate_interval, run_spread, seed_spread
from moe_cli.stats.labelled import JudgedPair, PairLabels, correct_with_labels
from moe_cli.stats.metrics import HARM, metric_and_suite
from moe_cli.stats.outcomes import Outcomes, PairedOutcomes, RunItems, find_flips, paired_outcomes
from moe_cli.stats.power import Design, detectable_effect
from moe_cli.stats.proportions import ratio_of_counts
from moe_cli.stats.scored_items import (
    ScoredItems,
    changes_of,
    cluster_sums_of,
    difference_of,
    interval_of,
    scored_items,
    spread_of_runs,
    votes_of,
)
from moe_cli.stats.significance import LEVEL, benjamini_hochberg, holm, mcnemar_p, sign_flip_p

FEWEST_GOALS = 20  # of one size; fewer never show that a difference is within the margin
ROUNDING = 1e-12  # 2 of 100 is within a margin of 0.02, whatever 1 - 0.98 is in binary


@dataclass(frozen=True, slots=True)
class ArmItems:
    """One arm: its runs on the same items."""

    name: str
    run_names: tuple[str, ...]
    runs: tuple[RunItems, ...]  # none, where one of them is not evaluated
    seeded: bool  # False: not trained, so no seed could have been another


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """The rate of one arm, the mean over its runs."""

    rate: float
    lower: float
    upper: float
    n: int


def compare_pair(
    a: ArmItems, b: ArmItems, *, margin: float, num_pairs: int = 1, labels: PairLabels | None = None
) -> PairComparison:
    """Compare arm b with arm a in every metric. All runs hold the same items.

    `num_pairs` is how many pairs are corrected together later (`pair_correction.py`), which decides what can be found.
    With `labels` of people both arms have one run, and the labelled metrics are corrected.
    """
    metrics = paired_outcomes(a.runs, b.runs)
    measured = [metric for metric in metrics if _is_measured(metric)]
    names = {metric.metric for metric in measured}
    num_tests = num_pairs * sum(metric.primary for metric in measured)
    return PairComparison(
        a=a.name,
        b=b.name,
        differences=difference_of_pairs(
            measured, margin=margin, seeded=(a.seeded, b.seeded), num_tests=num_tests, labels=labels
        ),
        unmeasured=tuple(metric.metric for metric in metrics if metric.metric not in names),
        flips=find_flips(metrics),
    )


def difference_of_pairs(
    metrics: Sequence[PairedOutcomes],
    *,
    margin: float,
    seeded: tuple[bool, bool] = (True, True),
    num_tests: int | None = None,
    labels: PairLabels | None = None,
) -> tuple[PairedDifference, ...]:
    """The difference of every metric, in the given order: Holm over the primary ones, Benjamini-Hochberg over the rest.

    Every metric needs at least one item that was scored in every run. `num_tests` is how many primary differences
    are corrected together, which decides what can be found; None: those given here. People's `labels` correct the
    metrics that they were given for.
    """
    num_primary = sum(metric.primary for metric in metrics)
    families = {True: num_tests or num_primary, False: len(metrics) - num_primary}
    raw = [_unadjusted(metric, seeded, families[metric.primary], labels) for metric in metrics]
    primary = iter(holm([difference.p_value for difference in raw if difference.primary]))
    others = iter(benjamini_hochberg([difference.p_value for difference in raw if not difference.primary]))
    corrected = [replace(one, p_adjusted=next(primary if one.primary else others)) for one in raw]
    return tuple(replace(one, verdict=paired_verdict(one, margin)) for one in corrected)


def rate_estimate(metric: PairedOutcomes, seeded: bool) -> RateEstimate | None:
    """The rate of arm a with its interval; None where no item was scored in every run. Arm b is ignored."""
    scored = scored_items(replace(metric, b=metric.a))
    if scored is None:
        return None
    yes_RC = cluster_sums_of(scored.a_Rn, scored)
    spread = run_spread([ArmSums(yes_RC, seeded)], scored.sizes_C)
    items = item_moments(scored.a_Rn.mean(0) - 0.5, scored.vote_n)
    lower, upper = rate_interval(yes_RC.mean(0), scored.sizes_C, spread, items=items)
    return RateEstimate(scored.mean(scored.a_Rn), lower, upper, scored.a_Rn.shape[1])


def _is_measured(metric: PairedOutcomes) -> bool:
    """Whether an item was scored in every run."""
    return metric.missing_is_no or any(None not in of_item for of_item in zip(*metric.a, *metric.b, strict=True))


def _rates(yes_RC: NDArray[np.float64], scored: ScoredItems) -> NDArray[np.float64]:
    """The rate of every run."""
    return np.asarray(yes_RC.sum(1) / fsum(scored.vote_n))


def _unadjusted(
    metric: PairedOutcomes, seeded: tuple[bool, bool], num_tests: int, labels: PairLabels | None
) -> PairedDifference:
    """The difference without its adjusted p and verdict."""
    scored = scored_items(metric)
    if scored is None:
        raise ValueError(f"{metric.metric}: no item was scored in every run")
    num_a, num_b, n = len(scored.a_Rn), len(scored.b_Rn), scored.a_Rn.shape[1]
    a_RC, b_RC = cluster_sums_of(scored.a_Rn, scored), cluster_sums_of(scored.b_Rn, scored)
    spread = spread_of_runs(scored, seeded)
    a_n, b_n, differences_C = scored.a_Rn.mean(0), scored.b_Rn.mean(0), b_RC.mean(0) - a_RC.mean(0)
    interval = interval_of(scored, seeded)
    change_n = changes_of(scored)
    only_a, only_b = int((change_n < -ROUNDING).sum()), int((change_n > ROUNDING).sum())
    alone, graded = num_a == num_b == 1, scored.graded
    p_value = sign_flip_p((b_RC[0] - a_RC[0]) / scored.vote_n.min()) if alone else interval.p_value
    lowest, highest = _bounds(metric)
    design = Design(
        a_n=a_n,
        b_n=b_n,
        vote_n=scored.vote_n,
        differences_C=differences_C,
        sizes_C=scored.sizes_C,
        exact=alone and not graded and scored.vote_n.min() == 1,
        step=spread.step,
        error=interval.error,
        error_of_items=interval.error_of_items,
        freedom=interval.freedom,
    )
    of_harm = metric_and_suite(metric.metric)[0] in HARM and not graded
    of_metric = labels.of(metric.metric) if labels else None
    difference = PairedDifference(
        metric=metric.metric,
        better=metric.better,
        primary=metric.primary,
        graded=graded,
        n=n,
        clusters=len(scored.sizes_C),
        effective_clusters=effective_number(scored.sizes_C),
        unpaired=len(metric.ids) - n,
        rate_a=scored.mean(scored.a_Rn),
        rate_b=scored.mean(scored.b_Rn),
        difference=difference_of(scored),
        lower=interval.lower,
        upper=interval.upper,
        lowest=lowest,
        highest=highest,
        only_a=only_a,
        only_b=only_b,
        p_mcnemar=mcnemar_p(only_a, only_b) if alone and not graded else None,
        p_value=p_value,
        seeds=None if alone else seed_spread(*(_rates(arm_RC, scored) for arm_RC in (a_RC, b_RC))),
        p_adjusted=p_value,
        verdict="inconclusive",
        detectable=None if of_metric is not None else detectable_effect(design, num_tests),
        suites=scored.num_suites,
        yes_a=fsum(scored.a_Rn.flat) / num_a,
        yes_b=fsum(scored.b_Rn.flat) / num_b,
        ratio=ratio_of_counts(a_RC.mean(0), b_RC.mean(0)) if of_harm else None,
    )
    if of_metric is None:
        return difference
    judged = JudgedPair(
        ids=scored.ids,
        a_N=a_n,
        b_N=b_n,
        vote_N=scored.vote_n,
        cluster_N=scored.cluster_n,
        error=interval.error,
        num_tests=num_tests,
    )
    return correct_with_labels(difference, judged, of_metric)


def _bounds(metric: PairedOutcomes) -> tuple[float | None, float | None]:
    """The lowest and highest difference over all items, whatever the missing outcomes would have been."""
    if not any(yes is None for run in (*metric.a, *metric.b) for yes in run):
        return None, None
    votes_n = votes_of(metric, range(len(metric.ids)))
    (low_a, high_a), (low_b, high_b) = _extremes(metric.a, votes_n), _extremes(metric.b, votes_n)
    return low_b - high_a, high_b - low_a


def _extremes(runs: Sequence[Outcomes], votes_n: NDArray[np.float64]) -> tuple[float, float]:
    num = len(runs) * fsum(votes_n)
    yes = fsum(vote * (outcome or 0) for run in runs for vote, outcome in zip(votes_n, run, strict=True))
    missing = fsum(vote for run in runs for vote, outcome in zip(votes_n, run, strict=True) if outcome is None)
    return yes / num, (yes + missing) / num


def paired_verdict(difference: PairedDifference, margin: float) -> PairVerdict:
    """The verdict on b against a.

    A whole interval inside the margin is a difference that does not matter, even a significant one, but too few
    goals do not show that. "ceiling": a has at most the margin left to gain and b did not lose more than it, so
    these items cannot show an improvement. A suite without enough labels has no verdict if its metric was labelled
    elsewhere.
    """
    if difference.by_judge_alone:
        return "inconclusive"
    if difference.deciding_clusters >= FEWEST_GOALS and -margin <= difference.lower and difference.upper <= margin:
        return "within margin"
    if (direction := significant_direction(difference)) is not None:
        return direction
    room, loss = (
        (difference.rate_a, difference.difference)
        if difference.better == "lower"
        else (1 - difference.rate_a, -difference.difference)
    )
    return "ceiling" if max(room, loss) <= margin + ROUNDING else "inconclusive"


def significant_direction(difference: PairedDifference) -> PairVerdict | None:
    """Whether b is significantly better or worse than a, however little; None where it is neither."""
    if difference.p_adjusted < LEVEL and not difference.lower <= 0 <= difference.upper:
        return "better" if (difference.difference < 0) == (difference.better == "lower") else "worse"
    return None
