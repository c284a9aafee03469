"""A mean over all items, estimated from a judge's outcomes for all of them and people's labels for some.

Prediction-powered inference with a tuned weight (PPI++, Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453). The
judge may be wrong in any way, and differently in each arm: the labels alone make the estimate right, the judge makes
it narrower where people agree with it. Rogan and Gladen's correction is given beside it.

Letters of shapes: N items, L of them labelled, C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from moe_cli.stats.clusters import Floats, cluster_mean, effective_number
from moe_cli.stats.significance import LEVEL

LEAST_CLUSTERS = 2  # of labelled items, without which there is no variance


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledItems:
    """Items that a judge scored, some of which people labelled."""

    judge_N: Floats
    people_N: Floats  # nan: not labelled
    probability_N: Floats  # that the item was drawn to be labelled; read where it is labelled
    vote_N: Floats  # in the mean
    cluster_N: NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedMean:
    """A mean corrected to what people would say."""

    value: float
    lower: float  # 95 %
    upper: float
    error: float
    freedom: float  # degrees of freedom of its t
    p_value: float  # two-sided, of a mean of 0
    weight: float  # lambda of the paper, from 0 (labels alone) to 1
    effective_clusters: float  # labelled clusters of one size that the labels are worth


def sums_of_clusters(clusters: NDArray[np.intp], values: Floats) -> Floats:
    """One sum for each cluster, in order of cluster number."""
    return np.bincount(clusters, values).astype(np.float64)


def corrected_mean(items: LabelledItems, *, step: float = 1.0, weight: float | None = None) -> CorrectedMean:
    """The mean of what people would say of all items. `step` is how much one answer can change: 1 in a difference.

    With g the judge's outcome, h people's, n labelled and M unlabelled items:

        lambda = clip(Cov_L(h, g) / Var_L(g) / (1 + n / M), 0, 1)
        mean   = lambda mean_M(g) + mean_L(h - lambda g)
        SE^2   = lambda^2 Var_M(g) / M + Var_L(h - lambda g) / n + 2 step^2 / (n + 2)^2

    and t with C_L - 1 degrees of freedom. Sums of clusters take the place of items: those of a cluster of which some
    items are labelled are added up before they are squared. Items of unequal probability are weighted by 1 /
    probability: lambda mean_M(g) is written as a mean over all items, which is the same for equal probabilities, so
    that items that are certain to be drawn leave no gap in it. The last term of the variance is that of two
    pseudo-items of either sign (Bonett and Price 2012): n labels without an error do not show that there is none.

    `weight` is used as lambda where it is given.
    """
    labelled = ~np.isnan(items.people_N)
    w_L = items.vote_N[labelled] / items.probability_N[labelled]
    h_L, g_L, cluster_L = items.people_N[labelled], items.judge_N[labelled], items.cluster_N[labelled]
    all_votes, free_votes = fsum(items.vote_N), fsum(items.vote_N[~labelled])
    names, cluster_L = np.unique(cluster_L, return_inverse=True)
    if len(names) < LEAST_CLUSTERS:
        raise ValueError(f"{len(names)} labelled clusters tell no variance")
    g_L = g_L - np.average(g_L, weights=w_L)
    if weight is None:
        weight = _weight(h_L - np.average(h_L, weights=w_L), g_L, w_L, cluster_L) * free_votes / all_votes
        weight = min(1.0, max(0.0, weight))
    spread = weight * all_votes / free_votes if free_votes else 0.0  # lambda of the form over all items
    drawn_L = items.vote_N[labelled] / all_votes / (w_L / fsum(w_L))  # share of the votes, of equal ones n / N
    rest_L = h_L - spread * (1 - drawn_L) * g_L
    sizes_C = sums_of_clusters(cluster_L, w_L)
    mean = cluster_mean(sums_of_clusters(cluster_L, w_L * rest_L), sizes_C)
    mean_judge = float(np.average(items.judge_N, weights=items.vote_N))
    value = spread * mean_judge + fsum(w_L * (items.people_N - spread * items.judge_N)[labelled]) / fsum(w_L)
    free_N = np.where(labelled, 0.0, spread * items.vote_N / all_votes * (items.judge_N - mean_judge))
    free_C = sums_of_clusters(items.cluster_N, free_N)
    influence_C = sums_of_clusters(cluster_L, w_L * (rest_L - mean.mean)) / fsum(w_L)
    scale = sqrt(mean.variance / squares) if (squares := fsum(influence_C**2)) else 1.0
    free_C[names] += scale * influence_C
    effective = effective_number(sizes_C)
    error = sqrt(fsum(free_C**2) + 2 * (step / (effective + 2)) ** 2)
    half = float(stdtrit(mean.freedom, 1 - LEVEL / 2)) * error
    return CorrectedMean(
        value=value,
        lower=value - half,
        upper=value + half,
        error=error,
        freedom=mean.freedom,
        p_value=2 * float(stdtr(mean.freedom, -abs(value) / error)),
        weight=weight,
        effective_clusters=effective,
    )


def _weight(h_L: Floats, g_L: Floats, w_L: Floats, cluster_L: NDArray[np.intp]) -> float:
    """Cov_L(h, g) / Var_L(g) of sums of clusters, both centred; 0 where the judge's outcomes are all the same."""
    h_C, g_C = sums_of_clusters(cluster_L, w_L * h_L), sums_of_clusters(cluster_L, w_L * g_L)
    variance = fsum(g_C**2)
    return fsum(h_C * g_C) / variance if variance > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeErrors:
    """How often a judge is right where people say yes, and where they say no; None where they never do."""

    sensitivity: float | None
    specificity: float | None
    worth_yes: float  # answers of one weight that the sensitivity rests on
    worth_no: float


def judge_errors(judge_L: Floats, people_L: Floats, weight_L: Floats) -> JudgeErrors:
    """Errors of the judge on labelled answers; a label between no and yes counts as both in part."""
    yes_L, no_L = weight_L * people_L, weight_L * (1 - people_L)
    return JudgeErrors(
        sensitivity=fsum(yes_L * judge_L) / fsum(yes_L) if yes_L.any() else None,
        specificity=fsum(no_L * (1 - judge_L)) / fsum(no_L) if no_L.any() else None,
        worth_yes=effective_number(yes_L) if yes_L.any() else 0.0,
        worth_no=effective_number(no_L) if no_L.any() else 0.0,
    )


def rogan_gladen(difference: float, error: float, errors: JudgeErrors) -> tuple[float, float, float] | None:
    """(judge's difference) / (sensitivity + specificity - 1) with its 95 % interval by the delta method.

    Right only if the judge errs alike in both arms (Rogan and Gladen 1978, Am. J. Epidemiol. 107:71). None where the
    judge does not tell yes from no, or people say the same of all.
    """
    sensitivity, specificity = errors.sensitivity, errors.specificity
    if sensitivity is None or specificity is None or sensitivity + specificity <= 1:
        return None
    informedness = sensitivity + specificity - 1
    chance = sensitivity * (1 - sensitivity) / errors.worth_yes + specificity * (1 - specificity) / errors.worth_no
    value = difference / informedness
    half = float(ndtri(1 - LEVEL / 2)) * sqrt(error**2 + value**2 * chance) / informedness
    return value, value - half, value + half
