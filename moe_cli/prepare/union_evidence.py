"""Evidence of the union: its size by chance, and the parts and turns of the summed risk difference of its experts.

A part's share is a quotient of sums over the experts. Its interval is the percentile interval of that quotient when the
clusters of pairs and those of harmless prompts are resampled, each kind for itself. Pairs whose attacks are answered at
different turns hold different goals: their differences are of these goals, too. Pure.

Letters of shapes: C clusters, R resamples (row 0 of shares: the data themselves), U selected experts, S sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_cli.prepare.contrasts import Quantity, clusters_of, harm_clusters, is_recorded, wrapper_clusters
from moe_cli.prepare.permutation import p_values, q_values, random_swaps
from moe_cli.prepare.ranking import Bools, Floats
from moe_cli.prepare.risk import UNSAFE, Clusters, cluster_counts, pooled, pooled_swapped
from moe_cli.prepare.selection import Rule, by_risk, limit_candidates, meets_conditions, select_of_batch
from moe_cli.prepare.uncertainty import TAIL, bootstrap_weights, used_pairs
from moe_cli.records import NullUnion, PartOfRisk, RiskParts, RoutingCounts, TurnEvidence

REPEATABLE = {"p", "q"}  # what a condition may compare beside what the rule ranks by
UNKNOWN = PartOfRisk(share=None, lower=None, upper=None)


def risk_parts(
    counts: RoutingCounts, used: Sequence[int], union: Sequence[int], *, resamples: int, seed: int
) -> RiskParts | None:
    """Parts of the risk difference of the pairs `used`, summed over the experts `union` (flat).

    None where they were not counted, or the union is empty. No share is given where the interval of the summed risk
    difference reaches to 0.
    """
    if not union or not is_recorded("text", counts):
        return None
    members_U = np.array(union, dtype=np.intp)
    risk, prompt = clusters_of("risk_diff", counts, used), clusters_of("prompt", counts, used)
    weights_RC = _weights(risk, resamples, [seed, 8])
    risk_R, prompt_R = _summed(risk, members_U, weights_RC), _summed(prompt, members_U, weights_RC)
    is_sure = risk.num_clusters > 1 and bool(np.quantile(risk_R[1:], TAIL) > 0)  # undefined is not
    whole_R = risk_R if is_sure else None
    wrapper = harm = None
    num_harmless = 0
    if is_recorded("did", counts):
        harmless, apart = wrapper_clusters(counts), harm_clusters(counts, used)
        num_harmless = harmless.num_clusters
        harmless_RC = _weights(harmless, resamples, [seed, 9])
        wrapper = _part(_summed(harmless, members_U, harmless_RC), whole_R)
        harm = _part(_summed(apart, members_U, np.hstack([weights_RC, harmless_RC])), whole_R)
    return RiskParts(
        num_experts=len(union),
        risk_diff=float(risk_R[0]),
        text=_part(risk_R - prompt_R, whole_R),
        prompt=_part(prompt_R, whole_R),
        wrapper=wrapper,
        harm=harm,
        num_goals=risk.num_clusters,
        num_harmless=num_harmless,
    )


def turn_evidence(
    counts: RoutingCounts, used: Sequence[int], union: Sequence[int], *, resamples: int, seed: int
) -> tuple[TurnEvidence, ...]:
    """Risk differences summed over the experts `union` (flat), by the turn at which the pair's attack is answered.

    Both forms of a pair are in the group of its attack. Empty where every counted answer is the first.
    """
    if counts.turns is None:
        return ()
    members_U = np.array(union, dtype=np.intp)
    turn_of = {index: int(counts.turns[index, UNSAFE]) for index in used}
    return tuple(
        _at_turn(turn, counts, [index for index in used if turn_of[index] == turn], members_U, resamples, seed)
        for turn in sorted(set(turn_of.values()))
    )


def _at_turn(
    turn: int, counts: RoutingCounts, pairs: Sequence[int], members_U: NDArray[np.intp], resamples: int, seed: int
) -> TurnEvidence:
    clusters = cluster_counts(counts, pairs)
    sums_R = np.full(resamples + 1, np.nan)  # a sum over no expert is no difference of 0
    if len(members_U):
        sums_R = _summed(clusters, members_U, _weights(clusters, resamples, [seed, 10, turn]))
    interval = np.quantile(sums_R[1:], [TAIL, 1 - TAIL]) if clusters.num_clusters > 1 else np.full(2, np.nan)
    difference, lower, upper = (None if np.isnan(value) else float(value) for value in (sums_R[0], *interval))
    return TurnEvidence(
        turn=turn,
        num_pairs=len(pairs),
        num_goals=clusters.num_clusters,
        num_tokens=int(clusters.seen_SC[UNSAFE].sum()),
        risk_diff=difference,
        lower=lower,
        upper=upper,
    )


def _weights(clusters: Clusters, resamples: int, seed: Sequence[int]) -> Floats:
    """Weights of the clusters [R, C]: first 1 for each, then how often each is drawn."""
    drawn_RC = bootstrap_weights(clusters.sizes, resamples, np.random.default_rng(seed))
    return np.vstack([np.ones((1, clusters.num_clusters)), drawn_RC])


def _summed(clusters: Clusters, members_U: NDArray[np.intp], weights_RC: Floats) -> Floats:
    """Differences summed over the experts [R]."""
    return np.asarray(pooled(clusters.only(members_U), weights_RC).sum(1), dtype=np.float64)


def _part(part_R: Floats, whole_R: Floats | None) -> PartOfRisk:
    if whole_R is None:
        return UNKNOWN
    share_R = part_R / whole_R
    lower, upper = np.quantile(share_R[1:], [TAIL, 1 - TAIL])
    return PartOfRisk(share=float(share_R[0]), lower=float(lower), upper=float(upper))


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
    column_of = {name: column for column, name in enumerate(sorted({counts.clusters[index] for index in used}))}
    clusters = clusters_of(rule.quantity, counts, used)
    swaps_DC = random_swaps(clusters.num_clusters, draws, np.random.default_rng([seed, 4]))
    pooled_DX = pooled_swapped(clusters, swaps_DC)
    candidates_DX = _candidates(rule, clusters, pooled_DX, permutations, seed)
    index_DM = np.argsort(~candidates_DX, axis=1, kind="stable")[:, : candidates_DX.sum(1).max()]
    allowed_DM = np.take_along_axis(candidates_DX, index_DM, axis=1)
    union_DM = np.zeros_like(allowed_DM)
    own: Quantity = rule.quantity
    shared_DX = np.zeros(pooled_DX.shape)
    if rule.quantity == "did":  # of the harmless prompts, which all batches share
        own, shared_DX = "risk_diff", pooled_swapped(wrapper_clusters(counts), swaps_DC[:, len(column_of) :])
    for batch in batches:
        columns = sorted({column_of[counts.clusters[index]] for index in batch})
        values_DX = pooled_swapped(clusters_of(own, counts, batch), swaps_DC[:, columns]) - shared_DX
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
