"""Paired differences corrected by people's labels.

The corrected numbers take the place of the judge's: the verdict, its prices and thresholds are based on them, and
the judge's stay beside them. A suite with too few labelled items keeps the judge's numbers and has no verdict.

Letters of shapes: N items, L of them labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from moe_cli.records import Estimate, JudgeAlone, LabelCorrection
from moe_cli.records.comparison import PairedDifference
from moe_cli.records.record import CountRatio
from moe_cli.stats.clusters import Floats
from moe_cli.stats.label_correction import (
    CorrectedMean,
    LabelledItems,
    corrected_mean,
    judge_errors,
    rogan_gladen,
    sums_of_clusters,
)
from moe_cli.stats.metrics import metric_and_suite
from moe_cli.stats.power import POWER
from moe_cli.stats.proportions import ratio_of_counts
from moe_cli.stats.significance import LEVEL

FEWEST_OF_SUITE = 20  # labelled items of a suite, below which it has no verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLabels:
    """Labels of both arms' answers to one item: 1 for yes, 0 for no, between them where labellers disagree."""

    a: float | None  # None: not labelled
    b: float | None
    probability: float  # that the item was drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLabels:
    """The labels of two arms."""

    of_metric: Mapping[str, Mapping[str, ItemLabels]]  # by metric over all suites, and id of the item

    def of(self, metric: str) -> Mapping[str, ItemLabels] | None:
        """The labels of a metric or of one of its suites; None where nobody labelled it."""
        return self.of_metric.get(metric_and_suite(metric)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """What a judge says of the items of two arms with one run each."""

    ids: tuple[str, ...]
    a_N: Floats
    b_N: Floats
    vote_N: Floats
    cluster_N: NDArray[np.intp]
    error: float  # standard error of its difference
    num_tests: int  # that are corrected together


def correct_with_labels(
    difference: PairedDifference, judged: JudgedPair, labels: Mapping[str, ItemLabels]
) -> PairedDifference:
    """The difference corrected by the labels of its items; uncorrected where there are too few."""
    of_items = [labels.get(id) for id in judged.ids]
    people_2N = np.array(
        [[np.nan] * 2 if label is None else [label.a, label.b] for label in of_items], dtype=np.float64
    ).T
    people_2N[:, np.isnan(people_2N).any(0)] = np.nan
    probability_N = np.array([np.nan if label is None else label.probability for label in of_items])
    labelled = ~np.isnan(people_2N[0])
    num = int(labelled.sum())
    if num < FEWEST_OF_SUITE or len(np.unique(judged.cluster_N[labelled])) < 2:
        return replace(difference, labelled=num)

    def items(judge_N: Floats, people_N: Floats) -> LabelledItems:
        return LabelledItems(
            judge_N=judge_N,
            people_N=people_N,
            probability_N=probability_N,
            vote_N=judged.vote_N,
            cluster_N=judged.cluster_N,
        )

    mean = corrected_mean(items(judged.b_N - judged.a_N, people_2N[1] - people_2N[0]))
    arms = [
        corrected_mean(items(judge_N, people_N), step=0.5, weight=mean.weight)
        for judge_N, people_N in zip((judged.a_N, judged.b_N), people_2N, strict=True)
    ]
    correction = _correction(difference, judged, people_2N, probability_N, mean, arms)
    correction = replace(correction, drawn=sum(label is not None for label in of_items))
    moved = (mean.value - difference.difference) * difference.n / (difference.n + difference.unpaired)
    critical = float(stdtrit(mean.freedom, 1 - LEVEL / judged.num_tests / 2))
    return replace(
        difference,
        rate_a=correction.rate_a.value,
        rate_b=correction.rate_b.value,
        difference=mean.value,
        lower=max(-1.0, mean.lower),
        upper=min(1.0, mean.upper),
        lowest=None if difference.lowest is None else difference.lowest + moved,
        highest=None if difference.highest is None else difference.highest + moved,
        p_value=mean.p_value,
        p_adjusted=mean.p_value,
        detectable=min(1.0, (critical + float(ndtri(POWER))) * mean.error),
        ratio=None if difference.ratio is None else _ratio(judged, people_2N[:, labelled], probability_N, labelled),
        labelled=num,
        correction=correction,
    )


def _correction(
    difference: PairedDifference,
    judged: JudgedPair,
    people_2N: Floats,
    probability_N: Floats,
    mean: CorrectedMean,
    arms: list[CorrectedMean],
) -> LabelCorrection:
    labelled = ~np.isnan(people_2N[0])
    weight_L = judged.vote_N[labelled] / probability_N[labelled]
    judge_2L, people_2L = np.stack([judged.a_N, judged.b_N])[:, labelled], people_2N[:, labelled]
    in_arm = [judge_errors(judge_L, people_L, weight_L) for judge_L, people_L in zip(judge_2L, people_2L, strict=True)]
    in_both = judge_errors(judge_2L.ravel(), people_2L.ravel(), np.tile(weight_L, 2))
    classic = rogan_gladen(difference.difference, judged.error, in_both)
    clusters = len(np.unique(judged.cluster_N[labelled]))
    rate_a, rate_b = (_rate(arm, clusters) for arm in arms)
    return LabelCorrection(
        n=int(labelled.sum()),
        drawn=int(labelled.sum()),
        clusters=clusters,
        effective_clusters=mean.effective_clusters,
        weight=mean.weight,
        rate_a=rate_a,
        rate_b=rate_b,
        judge=JudgeAlone(
            rate_a=difference.rate_a,
            rate_b=difference.rate_b,
            difference=difference.difference,
            lower=difference.lower,
            upper=difference.upper,
            p_value=difference.p_value,
        ),
        sensitivity=(in_arm[0].sensitivity, in_arm[1].sensitivity),
        specificity=(in_arm[0].specificity, in_arm[1].specificity),
        rogan_gladen=None
        if classic is None
        else Estimate(value=classic[0], lower=max(-1.0, classic[1]), upper=min(1.0, classic[2]), n=clusters),
    )


def _rate(arm: CorrectedMean, clusters: int) -> Estimate:
    value, lower, upper = (min(1.0, max(0.0, bound)) for bound in (arm.value, arm.lower, arm.upper))
    return Estimate(value=value, lower=lower, upper=upper, n=clusters)


def _ratio(judged: JudgedPair, people_2L: Floats, probability_N: Floats, labelled: NDArray[np.bool_]) -> CountRatio:
    """Ratio of the rates of harm in the labelled answers, weighted by votes and inverse probability."""
    weight_L = judged.vote_N[labelled] / probability_N[labelled]
    weight_L = weight_L * len(weight_L) / fsum(weight_L)
    _, cluster_L = np.unique(judged.cluster_N[labelled], return_inverse=True)
    a_C, b_C = (sums_of_clusters(cluster_L, weight_L * people_L) for people_L in people_2L)
    return ratio_of_counts(a_C, b_C)
