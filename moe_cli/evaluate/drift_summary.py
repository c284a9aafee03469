"""How far a model moved from its base on benign text, over all texts.

Comes in: drift items in any order. Goes out: a `DriftSummary`. Always holds: every mean is weighted by tokens, the
intervals come from resampling whole clusters, and the same items and seed give the same numbers bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_cli.errors import UsageError
from moe_cli.evaluate.resampling import NUM_RESAMPLES, Floats, cluster_sums, estimate, resampled_sums
from moe_cli.records.drift import DriftItem, DriftSummary

# Columns of the sums of a cluster.
TOKENS, NLL_BASE, NLL_TUNED, KL, SAME_TOP = range(5)


def summarise_drift(items: Sequence[DriftItem], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> DriftSummary:
    """Perplexity ratio exp(mean nll_tuned - mean nll_base), mean KL and share of equal top tokens.

    Raises:
        UsageError: no item, or an item without a token.
    """
    refuse_empty(items)
    ordered = sorted(items, key=lambda item: item.id)
    sums_CV = _cluster_sums(ordered)
    total_V = sums_CV.sum(axis=0)
    resampled_RV = np.concatenate(list(resampled_sums(sums_CV, seed=seed, num_resamples=num_resamples)))
    num_clusters = len(sums_CV)
    return DriftSummary(
        perplexity_ratio=estimate(_perplexity_ratio(total_V), _perplexity_ratio(resampled_RV), num_clusters),
        kl_mean=estimate(_per_token(total_V, KL), _per_token(resampled_RV, KL), num_clusters),
        kl_99=float(np.quantile(np.concatenate([item.kl_tokens for item in ordered]), 0.99)),
        same_top_share=estimate(_per_token(total_V, SAME_TOP), _per_token(resampled_RV, SAME_TOP), num_clusters),
        perplexity_base=float(np.exp(_per_token(total_V, NLL_BASE))),
        perplexity_tuned=float(np.exp(_per_token(total_V, NLL_TUNED))),
        num_tokens=int(total_V[TOKENS]),
    )


def refuse_empty(items: Sequence[DriftItem]) -> None:
    """Refuse what no mean over tokens can be taken of.

    Raises:
        UsageError: no item, or an item without a token.
    """
    if not items:
        raise UsageError("there is no text to measure drift on", hint="give at least one item of kind 'text'")
    for item in items:
        if item.num_tokens < 1:
            raise UsageError(f"text {item.id!r} has no answer token to compare", hint="give it an assistant's answer")
        if len(item.kl_tokens) != item.num_tokens:
            raise ValueError(f"{item.id!r} has {item.num_tokens} tokens but {len(item.kl_tokens)} KL values")


def _cluster_sums(items: Sequence[DriftItem]) -> Floats:
    """Sums of every cluster [C, 5], clusters in order of name."""
    values_NV = np.array(
        [[item.num_tokens, item.nll_base, item.nll_tuned, sum(item.kl_tokens), item.same_top] for item in items],
        dtype=np.float64,
    )
    return cluster_sums([item.cluster for item in items], values_NV)


def _per_token(sums: Floats, column: int) -> Floats:
    mean: Floats = sums[..., column] / sums[..., TOKENS]
    return mean


def _perplexity_ratio(sums: Floats) -> Floats:
    ratio: Floats = np.exp((sums[..., NLL_TUNED] - sums[..., NLL_BASE]) / sums[..., TOKENS])
    return ratio
