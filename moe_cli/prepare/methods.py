"""The methods that choose the run's candidate experts, by name.

Every method respects the conditions, the maximum per layer and, where it ranks, the budget in the same way. The
controls take exactly as many experts of a layer as `risk_diff` would, or the method that they are matched to. Pure.

Letters of shapes: L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_cli.config.sections import MATCHED, Method
from moe_cli.errors import UsageError
from moe_cli.prepare.contrasts import PARTS, clusters_of, is_recorded, sum_over_batches
from moe_cli.prepare.ranking import Bools, Floats, flat_mask, largest, shares_in_layer, top_p
from moe_cli.prepare.risk import UNSAFE
from moe_cli.prepare.selection import Ranking, Rule, limit_candidates, meets_conditions
from moe_cli.records import RiskDifferences, RoutingCounts


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """The data that methods rank and choose by."""

    counts: RoutingCounts
    used: tuple[int, ...]  # pairs that a batch touches
    risk: RiskDifferences
    seed: int
    part: RiskDifferences | None = None  # of the part that the rule ranks by; None: it ranks by no part

    @property
    def ranked(self) -> RiskDifferences:
        """What the rule ranks by: a part, or the risk differences themselves."""
        return self.risk if self.part is None else self.part


def candidates_of(rule: Rule, material: MethodInputs) -> Bools:
    """The candidates of the run [X].

    Raises:
        UsageError: the method needs a score that was not measured.
    """
    if rule.method in MATCHED:
        return _matched(rule, material, candidates_of(replace(rule, method=rule.matched_to), material))
    met_X = meets_conditions(rule.conditions, quantities_of(rule, material))
    standing = STANDINGS[rule.method](rule, material)
    return limit_candidates(rule, standing.scores_X, standing.eligible_X & met_X, within_budget=standing.cut)


def quantities_of(rule: Rule, material: MethodInputs) -> dict[str, Floats]:
    """Values that conditions compare, flat; p, q, lower and stability are of what the rule ranks by.

    Raises:
        UsageError: a condition names a part of the risk difference whose counts were not recorded.
    """
    ranked = material.ranked
    measured = {
        "risk_diff": material.risk.pooled,
        "p": ranked.p_value,
        "q": ranked.q_value,
        "lower": ranked.lower,
        "stability": ranked.stability,
    }
    compared = {condition.quantity for condition in rule.conditions}
    parts = {
        name: sum_over_batches(clusters_of(name, material.counts, material.used)) for name in PARTS if name in compared
    }
    return {name: values.ravel() for name, values in measured.items()} | parts


def is_computable(rule: Rule, counts: RoutingCounts) -> Sequence[Method]:
    """The methods that these counts allow, beside `all` and `file`."""
    ranking: list[Method] = [method for method in STANDINGS if method not in ("all", "file")]
    if counts.gradients is None:
        ranking.remove("gradient")
    for part in PARTS:
        if not is_recorded(part, counts):
            ranking.remove(part)
    controls = rule.max_candidates is not None and rule.matched_to in ranking
    return [*ranking, *MATCHED] if controls else ranking


def gradients_of(counts: RoutingCounts) -> Floats:
    """[B, L, E]: the squared gradient norms by which `gradient` ranks.

    Raises:
        UsageError: they were not measured.
    """
    if counts.gradients is None:
        raise UsageError(
            "the squared gradient norms of the experts, by which `gradient` ranks, were not measured in this run",
            hint="run moe prepare with --method gradient or --scores gradient",
        )
    return counts.gradients


def _difference(rule: Rule, material: MethodInputs) -> Ranking:
    scores_X = material.ranked.pooled.ravel()
    eligible_X = np.ones(len(scores_X), dtype=np.bool_) if rule.original else scores_X > rule.threshold
    return Ranking(scores_X, eligible_X, cut=True)


def _stability(rule: Rule, material: MethodInputs) -> Ranking:
    return Ranking(material.risk.pooled.ravel(), material.risk.stability.ravel() >= rule.stability, cut=True)


def _esft_token(rule: Rule, material: MethodInputs) -> Ranking:
    return _of_layers(rule, _of_unsafe_answers(material.counts.routed, material))


def _esft_gate(rule: Rule, material: MethodInputs) -> Ranking:
    return _of_layers(rule, _of_unsafe_answers(material.counts.gates, material))


def _gradient(rule: Rule, material: MethodInputs) -> Ranking:
    scores_X = gradients_of(material.counts).mean(0).ravel()
    return Ranking(scores_X, scores_X > 0, cut=True)


def _all(rule: Rule, material: MethodInputs) -> Ranking:
    scores_X = material.risk.pooled.ravel()
    return Ranking(scores_X, np.ones(len(scores_X), dtype=np.bool_), cut=False)


def _file(rule: Rule, material: MethodInputs) -> Ranking:
    if rule.named is None:
        raise ValueError("the method `file` needs named experts")
    scores_X = material.risk.pooled.ravel()
    if rule.named.scores is None:
        return Ranking(scores_X, flat_mask(rule.named.indices, len(scores_X)), cut=False)
    table_X = np.full(len(scores_X), np.nan)
    table_X[list(rule.named.indices)] = rule.named.scores
    return Ranking(table_X, table_X > rule.threshold, cut=True)


STANDINGS: Mapping[Method, Callable[[Rule, MethodInputs], Ranking]] = {
    "risk_diff": _difference,
    "text": _difference,
    "prompt": _difference,
    "did": _difference,
    "esft-token": _esft_token,
    "esft-gate": _esft_gate,
    "gradient": _gradient,
    "stability": _stability,
    "all": _all,
    "file": _file,
}


def _of_unsafe_answers(amounts: NDArray[np.int32] | Floats, material: MethodInputs) -> Floats:
    """[L, E] summed over the answers to the attacked forms, pair by pair."""
    summed_LE: Floats = np.zeros(amounts.shape[-2:])
    for row in material.used:
        summed_LE += amounts[row, UNSAFE]
    return summed_LE


def _of_layers(rule: Rule, amounts_LE: Floats) -> Ranking:
    scores_LE = shares_in_layer(amounts_LE)
    return Ranking(scores_LE.ravel(), top_p(scores_LE, rule.top_p).ravel(), cut=False)


def _matched(rule: Rule, material: MethodInputs, model_X: Bools) -> Bools:
    """As many experts of each layer as `model_X` has: the most used ones, or random ones drawn once for the run."""
    numbers_L = model_X.reshape(-1, rule.num_experts).sum(1)
    if rule.method == "frequency":
        scores_LE = _of_unsafe_answers(material.counts.routed, material)
    else:
        scores_LE = np.random.default_rng([material.seed, 5]).random((len(numbers_L), rule.num_experts))
    rows = [largest(scores_E, int(number)) for scores_E, number in zip(scores_LE, numbers_L, strict=True)]
    return np.concatenate(rows)
