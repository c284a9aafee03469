"""Risk differences with their uncertainty.

Comes in: routing counts, the batches over them, and the rule whose stability is asked for. Goes out: `RiskDifferences`.
Always holds: the unit that is resampled and swapped is the cluster; the same seed gives the same numbers. Pure.

Letters of shapes: B batches, L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_cli.prepare.bootstrap import batch_interval, resampled
from moe_cli.prepare.permutation import p_values, q_values
from moe_cli.prepare.risk import cluster_counts, mean_of_batches, of_pairs, pooled
from moe_cli.prepare.selection import Rule, by_risk
from moe_cli.records import RiskDifferences, RoutingCounts

Batches = Sequence[Sequence[int]]


def risk_differences(
    counts: RoutingCounts, batches: Batches, rule: Rule, *, resamples: int, seed: int
) -> RiskDifferences:
    """Risk differences of the pairs in `batches` (indices into `counts`), with intervals, p, q and stability.

    Per batch; as the mean of the batches (the original definition) and pooled from the summed counts. Intervals are
    percentiles of a bootstrap over clusters, of the pooled value and of each batch; stability is the share of these
    resamples in which `by_risk` takes the expert. p and q are of the pooled value.
    """
    shape = counts.routed.shape[-2:]
    clusters = cluster_counts(counts, used_pairs(batches))
    pooled_X = pooled(clusters, np.ones((1, clusters.num_clusters)))[0]
    again = resampled(clusters, resamples, np.random.default_rng([seed, 1]), lambda values: by_risk(rule, values))
    p_1X, num_permutations = p_values(clusters, pooled_X[None], resamples, np.random.default_rng([seed, 2]))
    per_batch_BLE = np.stack([of_pairs(counts, batch) for batch in batches])
    bounds_B2X = [
        batch_interval(cluster_counts(counts, list(batch)), resamples, np.random.default_rng([seed, 7, index]))
        for index, batch in enumerate(batches)
    ]
    lower_BX, upper_BX = np.stack(bounds_B2X, axis=1)
    return RiskDifferences(
        layers=counts.layers,
        per_batch=per_batch_BLE,
        mean=mean_of_batches(per_batch_BLE),
        pooled=pooled_X.reshape(shape),
        lower=again.lower_X.reshape(shape),
        upper=again.upper_X.reshape(shape),
        batch_lower=lower_BX.reshape(-1, *shape),
        batch_upper=upper_BX.reshape(-1, *shape),
        p_value=p_1X.reshape(shape),
        q_value=q_values(p_1X).reshape(shape),
        stability=again.stability_X.reshape(shape),
        num_resamples=resamples,
        num_permutations=num_permutations,
        num_clusters=clusters.num_clusters,
    )


def used_pairs(batches: Batches) -> tuple[int, ...]:
    """Every pair that a batch touches, ascending."""
    return tuple(sorted({index for batch in batches for index in batch}))
