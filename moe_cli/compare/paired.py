"""The paired difference of two runs, metric by metric, with a verdict.

Comes in: the evaluation records of two runs on the same items (or paired outcomes from elsewhere). Goes out: a
`PairComparison`. Always holds: compare(a, b) is exactly -compare(b, a), and compare(a, a) is 0; "better" and "worse"
need the adjusted p below 0.05 and an interval without 0; not significant is never called equal.

Items of one cluster (the attack variants of one goal) move together, so exact McNemar finds too much: the verdict rests
on sign flips of whole clusters, and McNemar's p stands beside it. Both are equal where every cluster is one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_cli.compare.intervals import cluster_interval
from moe_cli.compare.outcomes import PairedOutcomes, paired_outcomes
from moe_cli.compare.significance import benjamini_hochberg, holm, mcnemar_p, sign_flip_p
from moe_cli.records.comparison import PairComparison, PairedDifference, PairVerdict
from moe_cli.records.evaluation import EvaluationRecord

MARGIN = 0.02  # a smaller difference does not matter
LEVEL = 0.05
ROUNDING = 1e-12  # 2 of 100 is within a margin of 0.02, whatever 1 - 0.98 is in binary


@dataclass(frozen=True, slots=True)
class _Scored:
    """The items that both runs could score: n items in C clusters."""

    a_n: NDArray[np.int64]
    b_n: NDArray[np.int64]
    differences_C: NDArray[np.int64]  # sum of b - a in every cluster
    sizes_C: NDArray[np.int64]


def pair_comparison(
    name_a: str,
    records_a: Sequence[EvaluationRecord],
    name_b: str,
    records_b: Sequence[EvaluationRecord],
    *,
    margin: float = MARGIN,
) -> PairComparison:
    """Run b against run a in every metric.

    Raises:
        ArtifactError: the items of the two runs are not the same.
    """
    metrics = paired_outcomes(records_a, records_b, names=(name_a, name_b))
    measured = [metric for metric in metrics if _num_scored(metric)]
    return PairComparison(
        a=name_a,
        b=name_b,
        differences=paired_differences(measured, margin=margin),
        unmeasured=tuple(metric.metric for metric in metrics if not _num_scored(metric)),
    )


def paired_differences(metrics: Sequence[PairedOutcomes], *, margin: float = MARGIN) -> tuple[PairedDifference, ...]:
    """The difference of every metric, in the given order: Holm over the primary ones, Benjamini-Hochberg over the rest.

    Every metric needs at least one item that was scored in both runs.
    """
    raw = [_uncorrected(metric) for metric in metrics]
    primary = iter(holm([difference.p_value for difference in raw if difference.primary]))
    others = iter(benjamini_hochberg([difference.p_value for difference in raw if not difference.primary]))
    corrected = [replace(found, p_adjusted=next(primary if found.primary else others)) for found in raw]
    return tuple(replace(found, verdict=_verdict(found, margin)) for found in corrected)


def _num_scored(metric: PairedOutcomes) -> int:
    return sum(a is not None and b is not None for a, b in zip(metric.a, metric.b, strict=True))


def _scored(metric: PairedOutcomes) -> _Scored:
    rows = [
        (cluster, a, b)
        for cluster, a, b in zip(metric.clusters, metric.a, metric.b, strict=True)
        if a is not None and b is not None
    ]
    if not rows:
        raise ValueError(f"{metric.metric}: no item was scored in both runs")
    a_n, b_n = (np.array([row[column] for row in rows], dtype=np.int64) for column in (1, 2))
    names, cluster_n = np.unique([row[0] for row in rows], return_inverse=True)
    differences_C = np.zeros(len(names), dtype=np.int64)
    np.add.at(differences_C, cluster_n, b_n - a_n)
    return _Scored(a_n, b_n, differences_C, np.bincount(cluster_n, minlength=len(names)))


def _uncorrected(metric: PairedOutcomes) -> PairedDifference:
    """The difference before correction, without its verdict."""
    scored = _scored(metric)
    n = len(scored.a_n)
    only_a, only_b = (int(np.count_nonzero(scored.b_n - scored.a_n == sign)) for sign in (-1, 1))
    interval = cluster_interval(scored.differences_C, scored.sizes_C)
    p_value = sign_flip_p(scored.differences_C)
    return PairedDifference(
        metric=metric.metric,
        better=metric.better,
        primary=metric.primary,
        n=n,
        clusters=len(scored.sizes_C),
        unpaired=len(metric.a) - n,
        rate_a=int(scored.a_n.sum()) / n,
        rate_b=int(scored.b_n.sum()) / n,
        difference=(only_b - only_a) / n,
        lower=interval.lower,
        upper=interval.upper,
        only_a=only_a,
        only_b=only_b,
        p_mcnemar=mcnemar_p(only_a, only_b),
        p_value=p_value,
        p_adjusted=p_value,
        verdict="inconclusive",
        detectable=interval.detectable,
    )


def _verdict(found: PairedDifference, margin: float) -> PairVerdict:
    """What may be said of b against a.

    A whole interval inside the margin is a difference that does not matter, even a significant one. "ceiling": a has at
    most the margin left to gain and b did not lose more than it, so these items cannot show an improvement.
    """
    if -margin <= found.lower and found.upper <= margin:
        return "within margin"
    if found.p_adjusted < LEVEL and not found.lower <= 0 <= found.upper:
        return "better" if (found.difference < 0) == (found.better == "lower") else "worse"
    room, loss = (found.rate_a, found.difference) if found.better == "lower" else (1 - found.rate_a, -found.difference)
    return "ceiling" if max(room, loss) <= margin + ROUNDING else "inconclusive"
