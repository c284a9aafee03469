"""The selection with its evidence: p and q, intervals, stability, the null union, held-out goals, and other methods.

The same counts, batches, settings and seed give the same selection, whether a model has just been run or the counts
were read from disk. For the null union one coin per cluster swaps it in the pooled counts and in its batch alike; p-
and q-values are computed for each draw as for the real sides. Pure.

Letters of shapes: B batches, L expert layers, E experts, X = L * E (flat, layer-major), D draws, M candidates of one
draw (padded, ascending).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_cli.activity import begin_activity
from moe_cli.config import MoeConfig, PrepareConfig
from moe_cli.config.sections import conditions_of
from moe_cli.errors import UsageError
from moe_cli.prepare.methods import MethodInputs, candidates_of, is_computable
from moe_cli.prepare.permutation import ALPHA
from moe_cli.prepare.ranking import Bools, Floats
from moe_cli.prepare.risk import counts_of_part, reasoning_share
from moe_cli.prepare.selection import (
    BatchSelection,
    Rule,
    as_experts,
    as_masks,
    select_experts,
)
from moe_cli.prepare.selection_file import read_named_experts
from moe_cli.prepare.selection_warnings import part_notes, selection_warnings
from moe_cli.prepare.separation import measure_separation, split_goals, why_inseparable
from moe_cli.prepare.uncertainty import (
    Batches,
    ExpertParts,
    estimate_risk_differences,
    expert_parts,
    point_differences,
    used_pairs,
)
from moe_cli.prepare.union_evidence import risk_parts, select_from_noise, turn_evidence
from moe_cli.records import (
    ExpertEvidence,
    MethodOverlap,
    ModelIdentity,
    RiskDifferences,
    RoutingCounts,
    Selection,
    Separation,
)

EVIDENCE = {"p", "q", "lower", "stability"}  # quantities of a condition that take resampling or swapping


@dataclass(frozen=True, slots=True)
class SelectionResult:
    """Risk differences, their parts, and the selection made from them."""

    risk: RiskDifferences
    parts: ExpertParts
    masks: NDArray[np.bool_]  # [B, L, E]; batch b may update the expert
    selection: Selection


@begin_activity("selecting experts")
def find_experts(
    config: MoeConfig, base: ModelIdentity, params_per_expert: int, counts: RoutingCounts, batches: Batches
) -> SelectionResult:
    """Risk differences of the counted pairs, the experts of every batch (indices into `counts`), and the evidence.

    Raises:
        UsageError: the selection file names an expert that the model does not have, or the method needs a score that
            was not measured, or a part of the answers counts and none was counted apart.
    """
    settings, seed = config.prepare, config.seed
    rule = selection_rule(settings, base, params_per_expert)
    reasoning, counts = reasoning_share(counts), counts_of_part(counts, settings.answer_part)
    risk = estimate_risk_differences(counts, batches, rule, resamples=settings.resamples, seed=seed)
    part = _part(rule, counts, batches, settings.resamples, seed)
    used = used_pairs(batches)
    material = MethodInputs(counts, used, risk, seed, part)
    chosen, parts = chosen_by(rule, material), expert_parts(counts, batches)
    null = select_from_noise(
        rule, counts, batches, draws=settings.null_draws, permutations=settings.resamples, seed=seed
    )
    separation = separation_of(
        rule, counts, batches, chosen.union, draws=settings.null_draws, resamples=settings.resamples, seed=seed
    )
    trainable = len(chosen.union) * params_per_expert
    selection = Selection(
        method=rule.method,
        base=base,
        budget=settings.budget,
        threshold=rule.threshold,
        select_by=settings.select_by,
        per_layer=rule.per_layer,
        top_p=rule.top_p if rule.method.startswith("esft") else None,
        top_k=rule.top_k,
        seed=seed,
        params_per_expert=params_per_expert,
        num_experts_total=len(base.layers) * base.num_experts,
        candidates=as_experts(chosen.candidates, base.layers, base.num_experts),
        batches=tuple(as_experts(batch, base.layers, base.num_experts) for batch in chosen.batches),
        union=as_experts(chosen.union, base.layers, base.num_experts),
        trainable_params=trainable,
        trainable_ratio=trainable / base.total_params,
        evidence=tuple(_evidence(index, rule, chosen, material, parts, base) for index in chosen.union),
        null_union=null,
        num_significant=int(_significant(risk).sum()),
        overlaps=tuple(compare_selections(rule, material, chosen, batches, settings.resamples)),
        warnings=(
            *selection_warnings(
                rule, chosen, material.ranked, null, separation, trainable / base.total_params, settings.budget
            ),
            *part_notes(settings.answer_part, reasoning),
        ),
        parts=risk_parts(counts, used, chosen.union, resamples=settings.resamples, seed=seed),
        separation=separation if isinstance(separation, Separation) else None,
        no_separation=separation if isinstance(separation, str) else None,
        answer_part=settings.answer_part,
        turns=turn_evidence(counts, used, chosen.union, resamples=settings.resamples, seed=seed),
    )
    return SelectionResult(risk, parts, as_masks(chosen, len(base.layers), base.num_experts), selection)


def separation_of(
    rule: Rule, counts: RoutingCounts, batches: Batches, union: Sequence[int], *, draws: int, resamples: int, seed: int
) -> Separation | str:
    """How well what the rule selects from half of the goals tells the sides of the others apart, or why not.

    `union` (flat) is the selection of all goals, `draws` the number of control sets.
    """
    if reason := why_inseparable(rule, counts, used_pairs(batches)):
        return reason
    split = split_goals(counts, batches, seed)
    selected = chosen_by(rule, _point_inputs(rule, split.counts, split.batches, resamples, seed)).union
    if not selected:
        return "from half of the goals the same rule selects no expert"
    return measure_separation(split, selected, union, num_sets=draws, seed=seed)


def _point_inputs(rule: Rule, counts: RoutingCounts, batches: Batches, resamples: int, seed: int) -> MethodInputs:
    """What a rule ranks by; intervals, p, q and stability only where the rule compares them."""
    compared = {condition.quantity for condition in rule.conditions}
    if "stability" in (rule.method, rule.matched_to) or not EVIDENCE.isdisjoint(compared):
        risk = estimate_risk_differences(counts, batches, rule, resamples=resamples, seed=seed)
    else:
        risk = point_differences(counts, batches, "risk_diff")
    return _material_of(rule, MethodInputs(counts, used_pairs(batches), risk, seed), batches, resamples)


def selection_rule(settings: PrepareConfig, base: ModelIdentity, params_per_expert: int) -> Rule:
    """The rule of the settings, with the budget as a number of experts.

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
    return Rule(
        method=settings.method,
        threshold=settings.smallest_difference,
        top_k=settings.top_k,
        max_candidates=room,
        num_experts=base.num_experts,
        top_p=settings.top_p,
        per_layer=settings.per_layer,
        stability=settings.stability,
        matched_to=settings.matched_to,
        conditions=conditions_of(settings.select_by),
        named=None if settings.selection_file is None else read_named_experts(settings.selection_file, base),
    )


def chosen_by(rule: Rule, material: MethodInputs) -> BatchSelection:
    """Candidates and batches that a rule selects."""
    per_batch = material.ranked.per_batch
    return select_experts(rule, candidates_of(rule, material), per_batch.reshape(len(per_batch), -1))


def compare_selections(
    rule: Rule, material: MethodInputs, chosen: BatchSelection, batches: Batches, resamples: int
) -> Iterator[MethodOverlap]:
    """Overlap with the selection of every other method that these counts allow, under the same settings."""
    mine = set(chosen.union)
    for method in is_computable(rule, material.counts):
        if method == rule.method:
            continue
        other_rule = replace(rule, method=method, named=None)
        other = chosen_by(other_rule, _material_of(other_rule, material, batches, resamples))
        theirs = set(other.union)
        either, shared = len(mine | theirs), len(mine & theirs)
        yield MethodOverlap(
            method=method,
            num_candidates=len(other.candidates),
            union_size=len(theirs),
            num_shared=shared,
            jaccard=shared / either if either else None,
        )


def _material_of(rule: Rule, material: MethodInputs, batches: Batches, resamples: int) -> MethodInputs:
    """Inputs for another rule; intervals, p and q of a part only where its conditions compare them."""
    compared = {condition.quantity for condition in rule.conditions}
    if rule.quantity == "risk_diff" or not EVIDENCE.isdisjoint(compared):
        return replace(material, part=_part(rule, material.counts, batches, resamples, material.seed))
    return replace(material, part=point_differences(material.counts, batches, rule.quantity))


def _part(rule: Rule, counts: RoutingCounts, batches: Batches, resamples: int, seed: int) -> RiskDifferences | None:
    """The part of the risk difference that the rule ranks by, with evidence; None where it ranks by no part."""
    if rule.quantity == "risk_diff":
        return None
    return estimate_risk_differences(counts, batches, rule, resamples=resamples, seed=seed, quantity=rule.quantity)


def _significant(risk: RiskDifferences) -> Bools:
    return (risk.q_value < ALPHA) & (risk.pooled > 0)


def _evidence(
    index: int, rule: Rule, chosen: BatchSelection, material: MethodInputs, parts: ExpertParts, base: ModelIdentity
) -> ExpertEvidence:
    risk, ranked = material.risk, material.ranked
    return ExpertEvidence(
        expert=as_experts([index], base.layers, base.num_experts)[0],
        risk_diff=_value(risk.pooled, index),
        lower=_value(ranked.lower, index),
        upper=_value(ranked.upper, index),
        p_value=_value(ranked.p_value, index),
        q_value=_value(ranked.q_value, index),
        stability=_value(ranked.stability, index),
        num_batches=sum(index in batch for batch in chosen.batches),
        text=None if parts.text is None else _value(parts.text, index),
        wrapper=None if parts.wrapper is None else _value(parts.wrapper, index),
        harm=None if parts.harm is None else _value(parts.harm, index),
        ranked_by=None if rule.quantity == "risk_diff" else _value(ranked.pooled, index),
    )


def _value(values: Floats, index: int) -> float | None:
    value = float(values.ravel()[index])
    return None if np.isnan(value) else value
