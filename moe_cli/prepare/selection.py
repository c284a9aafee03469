"""Which experts each batch may update: the candidates of the run, the experts of every batch, their union.

Deterministic: ties go by (layer, expert), and the order of pairs within a batch does not matter. Pure.

Letters of shapes: B batches, L expert layers, E experts, X = L * E (flat, layer-major); anything may stand before X.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import cast

import numpy as np
from numpy.typing import NDArray

from moe_cli.config.sections import CONTRASTS, IN_EVERY_BATCH, EvidenceCondition, Method
from moe_cli.prepare.contrasts import Quantity
from moe_cli.prepare.ranking import Bools, Floats, largest
from moe_cli.prepare.selection_file import NamedExperts
from moe_cli.records import Expert

COMPARISONS: Mapping[str, Callable[[Floats, float], Bools]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule by which experts are selected."""

    method: Method
    threshold: float  # candidates by a risk difference, or by a part of it, have one above it
    top_k: int  # most experts of one batch
    max_candidates: int | None  # what the budget has room for; None: no budget
    num_experts: int  # E
    top_p: float = 0.2  # of a layer's score, for the methods of ESFT
    per_layer: int | None = None  # most candidates of one layer
    stability: float = 0.8  # smallest share of the resamples, for the method `stability`
    conditions: tuple[EvidenceCondition, ...] = ()  # what candidates must meet
    named: NamedExperts | None = None  # of the method `file`
    matched_to: Method = "risk_diff"  # whose numbers of experts per layer the controls take

    @property
    def original(self) -> bool:
        """Whether the original rule applies.

        There are no candidates then: every batch selects its largest differences above the threshold.
        """
        return self.is_by_difference and self.max_candidates is None

    @property
    def is_by_difference(self) -> bool:
        """Whether the method ranks by the risk difference, or by a part of it."""
        return self.method == "risk_diff" or self.method in CONTRASTS

    @property
    def quantity(self) -> Quantity:
        """The quantity whose differences choose candidates and batches."""
        return cast(Quantity, self.method) if self.method in CONTRASTS else "risk_diff"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores of a method, and which experts it allows."""

    scores_X: Floats  # larger is better
    eligible_X: Bools
    cut: bool  # the budget shortens it, largest scores first


@dataclass(frozen=True, slots=True)
class BatchSelection:
    """The selection as flat expert indices."""

    candidates: tuple[int, ...]  # ascending
    batches: tuple[tuple[int, ...], ...]  # B; ascending each

    @property
    def union(self) -> tuple[int, ...]:
        """Every expert that any batch selected, ascending."""
        return tuple(sorted({index for batch in self.batches for index in batch}))


def meets_conditions(conditions: Sequence[EvidenceCondition], quantities: Mapping[str, Floats]) -> Bools:
    """Mask of where all conditions hold [..., X]; an undefined quantity meets none."""
    size = next(iter(quantities.values()))
    masks = (
        COMPARISONS[condition.comparison](quantities[condition.quantity], condition.bound) for condition in conditions
    )
    return reduce(np.logical_and, masks, np.ones(size.shape, dtype=np.bool_))


def by_risk(rule: Rule, pooled_X: Floats, met_X: Bools | bool = True) -> Bools:
    """Mask of the largest differences above the threshold, within the limits per layer and of the budget [..., X]."""
    return limit_candidates(rule, pooled_X, met_X & (pooled_X > rule.threshold), within_budget=True)


def limit_candidates(rule: Rule, scores_X: Floats, eligible_X: Bools, *, within_budget: bool) -> Bools:
    """The eligible experts [..., X] within the limit per layer and, with `within_budget`, the budget."""
    kept_X = eligible_X
    if rule.per_layer is not None:
        scores_LE = np.where(kept_X, scores_X, np.nan).reshape(*kept_X.shape[:-1], -1, rule.num_experts)
        kept_X = largest(scores_LE, rule.per_layer).reshape(kept_X.shape)
    if within_budget and rule.max_candidates is not None:
        kept_X = largest(np.where(kept_X, scores_X, np.nan), rule.max_candidates)
    return kept_X


def select_of_batch(rule: Rule, values_X: Floats, candidates_X: Bools) -> Bools:
    """The candidates that one batch with these risk differences selects [..., X]."""
    if rule.method in IN_EVERY_BATCH:
        return candidates_X
    above = rule.threshold if rule.original else 0.0
    return largest(np.where(candidates_X, values_X, np.nan), rule.top_k, above)


def select_experts(rule: Rule, candidates_X: Bools, per_batch_BX: Floats) -> BatchSelection:
    """The experts of every batch: its candidates with a difference above 0, at most the `top_k` largest.

    Controls, lists and `all` select every candidate in every batch: a control that trained in fewer batches than the
    method it is compared with would show that, not the effect of other experts. Without a budget the original rule
    applies, above the threshold.
    """
    selected_BX = select_of_batch(rule, per_batch_BX, np.broadcast_to(candidates_X, per_batch_BX.shape))
    batches = tuple(tuple(np.flatnonzero(row).tolist()) for row in selected_BX)
    return BatchSelection(tuple(np.flatnonzero(candidates_X).tolist()), batches)


def as_experts(indices: Sequence[int], layers: Sequence[int], num_experts: int) -> tuple[Expert, ...]:
    """Flat indices as (layer, index)."""
    return tuple(Expert(layer=layers[i // num_experts], index=i % num_experts) for i in indices)


def as_masks(chosen: BatchSelection, num_layers: int, num_experts: int) -> NDArray[np.bool_]:
    """`mask[b, l, e]`: batch b selected expert e of the l-th expert layer; [B, L, E]."""
    masks_BX = np.zeros((len(chosen.batches), num_layers * num_experts), dtype=np.bool_)
    for batch, indices in enumerate(chosen.batches):
        masks_BX[batch, list(indices)] = True
    return masks_BX.reshape(-1, num_layers, num_experts)
