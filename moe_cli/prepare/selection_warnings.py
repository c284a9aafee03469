"""Warnings, in plain words and with the numbers, that a selection may be noise or not what the user meant.

A selection that noise explains is never shown without a sentence that says so. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from moe_cli.config.sections import EvidenceCondition
from moe_cli.prepare.contrasts import Quantity
from moe_cli.prepare.permutation import ALPHA, most_draws, smallest_p
from moe_cli.prepare.selection import BatchSelection, Rule
from moe_cli.records import AnswerPart, NullUnion, RiskDifferences, Separation

NAMES: Mapping[Quantity, str] = {
    "risk_diff": "pooled risk difference",
    "text": "text part of the pooled risk difference",
    "prompt": "prompt part of the pooled risk difference",
    "did": "pooled risk difference less the wrapper",
}
SURELY_BELOW: Mapping[Quantity, str] = {
    "risk_diff": "are significantly less active while complying inside attacks",
    "text": "are significantly less active on the text of compliance",
    "prompt": "are significantly less active on the same answers inside attacks",
    "did": "have a risk difference significantly below what the wrapper alone does",
}
CONTROLS = ("random", "frequency", "all")  # not chosen for what the sides differ in


def selection_warnings(
    rule: Rule,
    chosen: BatchSelection,
    risk: RiskDifferences,
    null: NullUnion | None,
    separation: Separation | str,
    share: float,
    budget: float | None,
) -> Iterator[str]:
    """Every warning about the selection; `share` is the union's part of all parameters."""
    yield from _about_noise(rule, chosen, risk, null)
    yield from _about_separation(rule, separation)
    yield from _about_reach(rule, risk)
    size, num_candidates = len(chosen.union), len(chosen.candidates)
    if rule.max_candidates is None:
        yield f"without a budget the union holds {size} experts, {share:.0%} of all parameters"
    if budget is not None and share > budget:
        yield f"the union is {share:.2%} of all parameters, above the budget of {budget:.2%}: not trained"
    if unused := num_candidates - size:
        yield f"{unused} of {num_candidates} candidates were selected by no batch and will not be trained"
    if rule.named is not None and rule.named.remark is not None:
        yield rule.named.remark


def part_notes(part: AnswerPart, reasoning: float) -> Iterator[str]:
    """What the counted tokens are where answers hold reasoning; `reasoning` is its share of their tokens."""
    if part == "spoken":
        yield f"reasoning ({reasoning:.0%} of the answer tokens) is not counted: --answer-part spoken"
    elif part == "reasoning":
        yield f"only reasoning ({reasoning:.0%} of the answer tokens) is counted: --answer-part reasoning"
    elif reasoning:
        yield (
            f"{reasoning:.0%} of the counted answer tokens are reasoning, which the judge does not read: moe select "
            "--answer-part spoken counts without it"
        )


def _about_noise(rule: Rule, chosen: BatchSelection, risk: RiskDifferences, null: NullUnion | None) -> Iterator[str]:
    size = len(chosen.union)
    if size == 0:
        yield _why_nothing(rule)
        return
    if null is not None and size <= null.upper:
        yield (
            f"the union of {size} experts is not larger than what the same rule selects from swapped sides "
            f"({null.mean:.1f} on average, up to {null.upper:.0f}): by its size alone it cannot be told from noise"
        )
    yield from _about_q(rule, chosen, risk)


def _about_q(rule: Rule, chosen: BatchSelection, risk: RiskDifferences) -> Iterator[str]:
    """q is two-sided: a small one supports a selected expert only where its risk difference is above 0."""
    members, size = list(chosen.union), len(chosen.union)
    small, pooled = risk.q_value.ravel()[members] < ALPHA, risk.pooled.ravel()[members]
    if reverse := int((small & (pooled < 0)).sum()):
        yield f"{reverse} of {size} selected experts {SURELY_BELOW[rule.quantity]} (q < {ALPHA})"
    if rule.method in CONTROLS:
        return
    strong = int((small & (pooled > 0)).sum())
    if strong == reverse == 0:
        yield f"none of the {size} selected experts has a q-value below {ALPHA}: each of them may be noise"
    elif num_others := size - strong - reverse:
        yield f"{num_others} of {size} selected experts have a q-value of {ALPHA} or more"


def _about_separation(rule: Rule, separation: Separation | str) -> Iterator[str]:
    if rule.method in CONTROLS or isinstance(separation, str) or separation.p_value <= ALPHA:
        return
    if separation.chance_of_same > ALPHA:
        yield (
            f"{separation.chance_of_same:.0%} of equally used random sets are the selected experts themselves, so that "
            "held-out goals cannot show whether these experts tell the sides apart better"
        )
        return
    yield (
        "on goals that chose no expert the experts that the rule selects do not surely tell the sides apart better "
        f"than equally used random ones (AUROC {separation.auroc.value:.3f}, random {separation.control_mean:.3f}, "
        f"p = {separation.p_value:.2g})"
    )


def _why_nothing(rule: Rule) -> str:
    met = "" if not rule.conditions else " that meets " + " and ".join(map(_text, rule.conditions))
    if rule.is_by_difference or rule.method in ("file", *CONTROLS):
        return f"no expert{met} has a {NAMES[rule.quantity]} above {rule.threshold}: nothing to train selectively"
    return f"the method {rule.method} finds no expert{met} that is more active while complying inside a batch's attacks"


def _about_reach(rule: Rule, risk: RiskDifferences) -> Iterator[str]:
    """Conditions that no data of this size can meet, or only for many experts at once."""
    size = int(np.count_nonzero(~np.isnan(risk.p_value)))
    swaps = max(risk.num_permutations, most_draws(size))
    floor = smallest_p(risk.num_clusters, swaps)
    cure = "bring more goals" if floor > 1 / (1 + swaps) else "raise prepare.resamples"
    basis = f"with {risk.num_clusters} goals and at most {swaps:,} swaps no p-value is below {floor:.2g}"
    for condition in rule.conditions:
        if condition.comparison not in ("<", "<="):
            continue
        if condition.quantity in ("p", "q") and condition.bound <= floor:
            yield f"{basis}, so no expert can meet {_text(condition)}: {cure}"
        elif condition.quantity == "q" and size * floor > condition.bound:
            yield (
                f"{basis}; over {size:,} experts a single one with it has q = {min(1.0, size * floor):.2g}, so "
                f"{_text(condition)} needs {math.ceil(size * floor / condition.bound)} experts with it at once: {cure}"
            )


def _text(condition: EvidenceCondition) -> str:
    return f"{condition.quantity}{condition.comparison}{condition.bound:g}"
