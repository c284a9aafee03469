"""How much of the selected experts' risk difference is the answers' text, the prompts, the wrapper alone, the harm.

A share is a quotient of sums over the experts. Its interval is the percentile interval of that quotient when the
clusters of pairs and those of harmless prompts are resampled, each kind for itself. Pure.

Letters of shapes: C clusters, R resamples with the data themselves as row 0, U selected experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_cli.prepare.bootstrap import TAIL, bootstrap_weights
from moe_cli.prepare.contrasts import (
    clusters_of,
    harm_clusters,
    is_recorded,
    quantity_of,
    sum_over_batches,
    wrapper_clusters,
)
from moe_cli.prepare.ranking import Floats
from moe_cli.prepare.risk import Clusters, pooled
from moe_cli.records import PartOfRisk, RiskParts, RoutingCounts

Batches = Sequence[Sequence[int]]

UNKNOWN = PartOfRisk(share=None, lower=None, upper=None)


@dataclass(frozen=True, slots=True)
class ExpertParts:
    """Parts of every expert's risk difference; None where what they need was not counted."""

    text: Floats | None  # [L, E] of the run
    text_of_batches: Floats | None  # [B, L, E]
    wrapper: Floats | None  # [L, E] of the run
    harm: Floats | None  # [L, E] of the run


def expert_parts(counts: RoutingCounts, batches: Batches) -> ExpertParts:
    """The text of the run and of every batch, and the wrapper and the harm of the run."""
    text = text_of_batches = wrapper = harm = None
    used = sorted({index for batch in batches for index in batch})
    if is_recorded("text", counts):
        text = quantity_of("text", counts, used)
        text_of_batches = np.stack([quantity_of("text", counts, batch) for batch in batches])
    if is_recorded("did", counts):
        shape = counts.routed.shape[-2:]
        wrapper = sum_over_batches(wrapper_clusters(counts)).reshape(shape)
        harm = sum_over_batches(harm_clusters(counts, used)).reshape(shape)
    return ExpertParts(text, text_of_batches, wrapper, harm)


def risk_parts(
    counts: RoutingCounts, used: Sequence[int], union: Sequence[int], *, resamples: int, seed: int
) -> RiskParts | None:
    """The parts of the pairs `used`, over the experts `union` (flat); None where they were not counted, or it is empty.

    No share is given where the summed risk difference is not surely above 0: its interval reaches to 0.
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


def _weights(clusters: Clusters, resamples: int, seed: Sequence[int]) -> Floats:
    """How often each cluster counts [R, C]: once, then as often as it is drawn."""
    drawn_RC = bootstrap_weights(clusters.sizes, resamples, np.random.default_rng(seed))
    return np.vstack([np.ones((1, clusters.num_clusters)), drawn_RC])


def _summed(clusters: Clusters, members_U: NDArray[np.intp], weights_RC: Floats) -> Floats:
    """The difference summed over the experts [R]."""
    return np.asarray(pooled(clusters.only(members_U), weights_RC).sum(1), dtype=np.float64)


def _part(part_R: Floats, whole_R: Floats | None) -> PartOfRisk:
    if whole_R is None:
        return UNKNOWN
    share_R = part_R / whole_R
    lower, upper = np.quantile(share_R[1:], [TAIL, 1 - TAIL])
    return PartOfRisk(share=float(share_R[0]), lower=float(lower), upper=float(upper))
