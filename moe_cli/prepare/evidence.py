"""From routing counts to the selection with its evidence.

Comes in: counts, the batches over them, and the settings. Goes out: risk differences, masks and the `Selection`. Always
holds: the union stands beside the null union, and every warning is a plain sentence with its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_cli.config import MoeConfig, PrepareConfig
from moe_cli.errors import UsageError
from moe_cli.prepare.named import named_experts
from moe_cli.prepare.risk import Floats, risk_differences
from moe_cli.prepare.selection import Chosen, Rule, as_experts, as_masks, choose, null_union, stability
from moe_cli.records import ExpertEvidence, ModelIdentity, NullUnion, RiskDifferences, RoutingCounts, Selection


@dataclass(frozen=True, slots=True)
class Found:
    """What the routing says."""

    risk: RiskDifferences
    masks: NDArray[np.bool_]  # [B, L, E]; batch b may update the expert
    stability: Floats  # [L, E]; share of bootstrap resamples in which the rule makes the expert a candidate
    selection: Selection


def find_experts(
    config: MoeConfig,
    base: ModelIdentity,
    params_per_expert: int,
    counts: RoutingCounts,
    batches: Sequence[Sequence[int]],
) -> Found:
    """Risk differences of the counted pairs, the experts of every batch (indices into `counts`), and the evidence.

    Raises:
        UsageError: the selection file names an expert that the model does not have.
    """
    settings, seed = config.prepare, config.seed
    rule = selection_rule(settings, base, params_per_expert)
    risk = risk_differences(counts, batches, resamples=settings.resamples, seed=seed)
    chosen = choose(rule, risk, seed=seed)
    stable_X = np.full(risk.pooled.size, np.nan)  # undefined where no candidates are chosen by risk difference
    looks_at_risk = rule.method == "risk_diff"
    if looks_at_risk and rule.max_candidates is not None:
        stable_X = stability(rule, counts, batches, resamples=settings.resamples, seed=seed)
    null = null_union(rule, counts, batches, draws=settings.null_draws, seed=seed) if looks_at_risk else None
    trainable = len(chosen.union) * params_per_expert
    selection = Selection(
        method=rule.method,
        base=base,
        budget=settings.budget,
        threshold=rule.threshold,
        top_k=rule.top_k,
        seed=seed,
        params_per_expert=params_per_expert,
        num_experts_total=len(base.layers) * base.num_experts,
        candidates=as_experts(chosen.candidates, base.layers, base.num_experts),
        batches=tuple(as_experts(batch, base.layers, base.num_experts) for batch in chosen.batches),
        union=as_experts(chosen.union, base.layers, base.num_experts),
        trainable_params=trainable,
        trainable_ratio=trainable / base.total_params,
        evidence=tuple(_evidence(index, chosen, risk, stable_X, base) for index in chosen.union),
        null_union=null,
        warnings=tuple(_warnings(settings, rule, chosen, risk, null, trainable / base.total_params)),
    )
    masks = as_masks(chosen, len(base.layers), base.num_experts)
    return Found(risk, masks, stable_X.reshape(risk.pooled.shape), selection)


def selection_rule(settings: PrepareConfig, base: ModelIdentity, params_per_expert: int) -> Rule:
    """The rule that the settings describe; the budget becomes a number of experts.

    Raises:
        UsageError: the budget has no room for a single expert, or the selection file names one that is not there.
    """
    room = None if settings.budget is None else int(settings.budget * base.total_params / params_per_expert + 1e-9)
    if settings.budget is not None and room == 0:
        raise UsageError(
            f"the budget of {settings.budget:.2%} is {int(settings.budget * base.total_params):,} parameters, and one "
            f"expert of {base.name} has {params_per_expert:,}",
            hint="raise --budget",
        )
    named = () if settings.selection_file is None else named_experts(settings.selection_file, base)
    return Rule(settings.method, settings.threshold, settings.top_k, room, named)


def _evidence(
    index: int, chosen: Chosen, risk: RiskDifferences, stable_X: Floats, base: ModelIdentity
) -> ExpertEvidence:
    return ExpertEvidence(
        expert=as_experts([index], base.layers, base.num_experts)[0],
        risk_diff=_value(risk.pooled, index),
        lower=_value(risk.lower, index),
        upper=_value(risk.upper, index),
        q_value=_value(risk.q_value, index),
        stability=_value(stable_X, index),
        num_batches=sum(index in batch for batch in chosen.batches),
    )


def _value(values: Floats, index: int) -> float | None:
    value = float(values.ravel()[index])
    return None if np.isnan(value) else value


def _warnings(
    settings: PrepareConfig,
    rule: Rule,
    chosen: Chosen,
    risk: RiskDifferences,
    null: NullUnion | None,
    share: float,
) -> Iterator[str]:
    size = len(chosen.union)
    if size == 0:
        yield f"no expert has a pooled risk difference above {rule.threshold}: nothing to train selectively"
    if null is not None and size and size <= null.upper:
        yield (
            f"the union of {size} experts is not larger than what the same rule selects from swapped sides "
            f"({null.mean:.1f} on average, up to {null.upper:.0f}): by its size alone it cannot be told from noise"
        )
    weak = [index for index in chosen.union if not risk.q_value.ravel()[index] < 0.05]
    if weak and rule.method == "risk_diff":
        yield f"{len(weak)} of {size} selected experts have a q-value of 0.05 or more"
    if rule.max_candidates is None:
        yield f"without a budget the union holds {size} experts, {share:.0%} of all parameters"
    if settings.budget is not None and share > settings.budget:
        yield f"the union is {share:.2%} of all parameters, above the budget of {settings.budget:.2%}: not trained"
    if unused := set(chosen.candidates) - set(chosen.union):
        yield f"{len(unused)} of {len(chosen.candidates)} candidates were selected by no batch and will not be trained"
