"""Size of the union that the same rule selects from noise, with the sides of every cluster swapped at random.

One coin per cluster swaps it in the pooled counts and in its batch alike; p- and q-values are computed for each draw as
for the real sides. Pure.

Letters of shapes: C clusters, D draws, X experts of all layers, M candidates of one draw (padded, ascending).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_cli.prepare.contrasts import clusters_of
from moe_cli.prepare.permutation import p_values, q_values, random_swaps
from moe_cli.prepare.ranking import Bools, Floats
from moe_cli.prepare.risk import Clusters, pooled_swapped
from moe_cli.prepare.selection import Rule, by_risk, limit_candidates, meets_conditions, select_of_batch
from moe_cli.prepare.uncertainty import used_pairs
from moe_cli.records import NullUnion, RoutingCounts

REPEATABLE = {"p", "q"}  # what a condition may compare beside what the rule ranks by


def select_from_noise(
    rule: Rule, counts: RoutingCounts, batches: Sequence[Sequence[int]], *, draws: int, permutations: int, seed: int
) -> NullUnion | None:
    """Size of the union that the same rule selects when the sides of each cluster are swapped at random.

    None where the rule does not rank by a difference, or has conditions that would need resamples of every draw, or the
    swaps of other sides.
    """
    computable = REPEATABLE | {rule.quantity}
    if not rule.is_by_difference or any(condition.quantity not in computable for condition in rule.conditions):
        return None
    used = used_pairs(batches)
    names = sorted({counts.clusters[index] for index in used})
    clusters = clusters_of(rule.quantity, counts, used)
    swaps_DC = random_swaps(clusters.num_clusters, draws, np.random.default_rng([seed, 4]))
    shared_columns = range(len(names), clusters.num_clusters)  # harmless prompts, which every batch shares
    pooled_DX = pooled_swapped(clusters, swaps_DC)
    candidates_DX = _candidates(rule, clusters, pooled_DX, permutations, seed)
    index_DM = np.argsort(~candidates_DX, axis=1, kind="stable")[:, : candidates_DX.sum(1).max()]
    allowed_DM = np.take_along_axis(candidates_DX, index_DM, axis=1)
    union_DM = np.zeros_like(allowed_DM)
    for batch in batches:
        columns = [names.index(name) for name in sorted({counts.clusters[index] for index in batch})]
        values_DX = pooled_swapped(clusters_of(rule.quantity, counts, batch), swaps_DC[:, [*columns, *shared_columns]])
        union_DM |= select_of_batch(rule, np.take_along_axis(values_DX, index_DM, axis=1), allowed_DM)
    sizes_D = union_DM.sum(1)
    low, high = np.quantile(sizes_D, [0.025, 0.975])
    return NullUnion(draws=draws, mean=float(sizes_D.mean()), lower=float(low), upper=float(high))


def _candidates(rule: Rule, clusters: Clusters, pooled_DX: Floats, permutations: int, seed: int) -> Bools:
    """Candidates of every draw [D, X]."""
    quantities: dict[str, Floats] = {rule.quantity: pooled_DX}
    if any(condition.quantity in ("p", "q") for condition in rule.conditions):
        quantities["p"], _ = p_values(clusters, pooled_DX, permutations, np.random.default_rng([seed, 6]))
        quantities["q"] = q_values(quantities["p"])
    met_DX = meets_conditions(rule.conditions, quantities)
    if rule.original:
        return limit_candidates(rule, pooled_DX, met_DX, within_budget=False)
    return by_risk(rule, pooled_DX, met_DX)
