"""How far the trained model moved from its base: on texts, in its routing and in its weights.

Shares are of the choices of all texts together; intervals are over whole clusters; the same items and seed give the
same numbers bit for bit, in any order of items, as counts are summed exactly.

In one layer n_e and m_e are the choices of expert e by base and tuned model, N and M their sums, p = n / N, q = m / M:

    KL       sum_e p'_e ln(p'_e / q'_e) with p'_e = (n_e + 1/2) / (N + E/2), q' likewise: an expert that the tuned
             model never chooses would make it infinite; half a choice more for every expert keeps it finite
    JS       1/2 KL(p || (p + q)/2) + 1/2 KL(q || (p + q)/2), nothing added; 0 to ln 2
    overlap  2 x choices that both made for the same token / (N + M): with a full top-k its shared part
    entropy  -sum_e p_e ln p_e / ln E: 1 where every expert is chosen equally often

KL and JS count noise as drift, the more, the fewer texts there are: a jackknife over clusters takes that off. What is
left of a value below 0 is 0.

Where nothing is chosen all shares are 0; if neither model chooses anything the overlap is 1.

Letters: N items, C clusters, R resamples, L expert layers, E experts, M measures.

A bare model has no base, so nothing is measured for it; without texts only the drift of the weights is measured, and
with harmful prompts that of the routers at their end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr, xlogy

from moe_cli.artifacts.journal import Journal
from moe_cli.config import MoeConfig
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.prompt_drift import harmful_prompts, measure_prompt_drift, summarise_prompt_drift
from moe_cli.evaluate.target import ModelPool
from moe_cli.evaluate.text_drift import measure_text_drift, refuse_empty, summarise_drift
from moe_cli.evaluate.weight_drift import measure_weight_drift
from moe_cli.model.load import LoadedModel
from moe_cli.ranks import gathered, is_first, on_first
from moe_cli.records import (
    DriftItem,
    DriftSummary,
    EvaluationItem,
    GroupDrift,
    ModelIdentity,
    PromptDrift,
    PromptDriftItem,
    RoutingDrift,
    WeightDrift,
)
from moe_cli.records.drift import LayerDrift
from moe_cli.stats.clusters import (
    BLOCK,
    NUM_RESAMPLES,
    Floats,
    cluster_sums,
    estimate,
    jackknife_estimate,
    resampled_sums,
)

ADDED = 0.5  # choices, to every expert of both models, for KL alone
KL, JS, OVERLAP = range(3)

Bools = NDArray[np.bool_]
Measured = TypeVar("Measured", DriftItem, PromptDriftItem)
MOST_LOGITS = 1 << 30  # of one model at once: 2 GiB in bfloat16


def measure_routing_drift(
    items: Sequence[DriftItem],
    layers: Sequence[int],
    *,
    selected_LE: Bools | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> RoutingDrift:
    """Routing drift of every layer; `layers` are the decoder's own indices.

    Raises:
        UsageError: no item, or an item without a token.
        ValueError: counts that are not of these layers, or a selection of another shape (a bug of the caller).
    """
    refuse_empty(items)
    sums_CV, shape_LE = _cluster_sums(sorted(items, key=lambda item: item.id))
    if shape_LE[0] != len(layers) or (selected_LE is not None and selected_LE.shape != shape_LE):
        of_selection = None if selected_LE is None else selected_LE.shape
        raise ValueError(f"counts are {shape_LE}, there are {len(layers)} layers, the selection is {of_selection}")
    resampled = resampled_sums(sums_CV, seed=seed, num_resamples=num_resamples)
    drawn_RL = np.concatenate([_measures(block_RV, shape_LE)[:, OVERLAP] for block_RV in resampled])
    total_1V, num_clusters = sums_CV.sum(axis=0, keepdims=True), len(sums_CV)
    measured_ML = _measures(total_1V, shape_LE)[0]
    blocks = (sums_CV[start : start + BLOCK] for start in range(0, num_clusters, BLOCK))
    left_out_CML = np.concatenate([_measures(total_1V - block_CV, shape_LE) for block_CV in blocks])
    counts_2LE = total_1V[0, : -len(layers)].reshape(2, *shape_LE)
    shares_2LE = _shares(counts_2LE)

    def mean_on(model: int) -> float | None:
        return None if selected_LE is None else float(shares_2LE[model][selected_LE].sum() / len(layers))

    return RoutingDrift(
        layers=tuple(
            _layer(
                layer,
                measured_ML[:, index],
                left_out_CML[..., index],
                drawn_RL[:, index],
                counts_2LE[:, index],
                None if selected_LE is None else selected_LE[index],
            )
            for index, layer in enumerate(layers)
        ),
        js=jackknife_estimate(measured_ML[JS].mean(), left_out_CML[:, JS].mean(axis=1), most=log(2)),
        overlap=estimate(measured_ML[OVERLAP].mean(), drawn_RL.mean(axis=1), num_clusters),
        on_selected_base=mean_on(0),
        on_selected_tuned=mean_on(1),
        num_selected=None if selected_LE is None else int(selected_LE.sum()),
        num_tokens=sum(item.num_tokens for item in items),
        is_unbiased=True,
    )


def _cluster_sums(items: Sequence[DriftItem]) -> tuple[Floats, tuple[int, ...]]:
    """Sums of every cluster [C, V] and (L, E): V are the counts [2, L, E] of both models, then the same choices [L]."""
    counts_N2LE = np.array([[item.experts_base, item.experts_tuned] for item in items], dtype=np.float64)
    same_NL = np.array([item.same_choices for item in items], dtype=np.float64)
    values_NV = np.concatenate([counts_N2LE.reshape(len(items), -1), same_NL], axis=1)
    return cluster_sums([item.cluster for item in items], values_NV), counts_N2LE.shape[2:]


def _layer(
    layer: int, measured_M: Floats, left_out_CM: Floats, overlap_R: Floats, counts_2E: Floats, selected_E: Bools | None
) -> LayerDrift:
    share_2E = _shares(counts_2E)
    entropy_2 = -xlogy(share_2E, share_2E).sum(axis=-1) / np.log(share_2E.shape[-1])
    on_selected = (None, None) if selected_E is None else share_2E[:, selected_E].sum(axis=-1).tolist()
    return LayerDrift(
        layer=layer,
        kl=jackknife_estimate(measured_M[KL], left_out_CM[:, KL], most=inf),
        js=jackknife_estimate(measured_M[JS], left_out_CM[:, JS], most=log(2)),
        overlap=estimate(measured_M[OVERLAP], overlap_R, len(left_out_CM)),
        on_selected_base=on_selected[0],
        on_selected_tuned=on_selected[1],
        entropy_base=float(entropy_2[0]),
        entropy_tuned=float(entropy_2[1]),
    )


def _measures(sums_RV: Floats, shape_LE: tuple[int, ...]) -> Floats:
    """KL, JS and overlap of every layer [R, M, L] from the sums of resamples."""
    num_layers = shape_LE[0]
    counts_2RLE = sums_RV[:, :-num_layers].reshape(-1, 2, *shape_LE).swapaxes(0, 1)
    same_RL = sums_RV[:, -num_layers:]
    base_RLE, tuned_RLE = _shares(counts_2RLE)
    middle_RLE = (base_RLE + tuned_RLE) / 2
    js_RL = (rel_entr(base_RLE, middle_RLE) + rel_entr(tuned_RLE, middle_RLE)).sum(axis=-1) / 2
    kl_RL = rel_entr(*_shares(counts_2RLE + ADDED)).sum(axis=-1)
    chosen_RL = counts_2RLE.sum(axis=(0, -1))
    overlap_RL = np.divide(2 * same_RL, chosen_RL, out=np.ones_like(same_RL), where=chosen_RL > 0)
    return np.stack([np.maximum(kl_RL, 0), np.maximum(js_RL, 0), overlap_RL], axis=1)  # below 0 by rounding alone


def _shares(counts_E: Floats) -> Floats:
    """Share of each expert in the choices of its layer; leading axes stay."""
    shares: Floats = counts_E / np.maximum(counts_E.sum(axis=-1, keepdims=True), ADDED)
    return shares


@dataclass(frozen=True, slots=True)
class Drift:
    """All drift of one evaluation."""

    items: tuple[DriftItem, ...] = ()
    texts: DriftSummary | None = None
    routing: RoutingDrift | None = None
    weights: tuple[GroupDrift, ...] | None = None
    prompt_items: tuple[PromptDriftItem, ...] = ()
    prompts: PromptDrift | None = None


def measure_drift(
    models: ModelPool,
    items: tuple[DriftItem, ...],
    prompt_items: tuple[PromptDriftItem, ...],
    selected_LE: NDArray[np.bool_] | None,
    config: MoeConfig,
    work: StageCache,
) -> Drift:
    """Drift of the trained model; `items` are on texts, `selected_LE` what the prepare run selected, where known."""
    training = models.target.training
    if training is None:
        return Drift()
    routing = (
        measure_routing_drift(items, training.base.layers, selected_LE=selected_LE, seed=config.seed) if items else None
    )
    return Drift(
        items=items,
        texts=summarise_drift(items, seed=config.seed) if items else None,
        routing=routing,
        weights=_of_weights(models, training.base, selected_LE, work),
        prompt_items=prompt_items,
        prompts=summarise_prompt_drift(prompt_items, training.base.layers, seed=config.seed) if prompt_items else None,
    )


def drift_items(
    models: ModelPool, texts: Sequence[EvaluationItem], config: MoeConfig, work: StageCache
) -> tuple[DriftItem, ...]:
    """What the trained model and its base make of every text; nothing for a bare model.

    Of several processes each reads its share of the texts, and the first gets all of it.
    """
    training, settings = models.target.training, config.evaluate
    if training is None:
        return ()
    depends_on = (*_models_key(models, training.base), tuple(texts), settings.batch_size, settings.batch_tokens)
    journal = on_first(lambda: work.journal("drift", "drift of texts", DriftItem, *depends_on))
    return _items_of(journal, texts, measure_text_drift, models, config, work)


def prompt_drift_items(
    models: ModelPool, items: Sequence[EvaluationItem], config: MoeConfig, work: StageCache
) -> tuple[PromptDriftItem, ...]:
    """How far the routers moved at the end of every harmful prompt of `items`; nothing for a bare model.

    Of several processes each reads its share of the prompts, and the first gets all of it.
    """
    training, settings = models.target.training, config.evaluate
    if training is None:
        return ()
    prompts = harmful_prompts(items)
    depends_on = (*_models_key(models, training.base), prompts, settings.batch_size, settings.batch_tokens)
    label = "drift at harmful prompts"
    journal = on_first(lambda: work.journal("drift", label, PromptDriftItem, *depends_on, file="prompts"))
    return _items_of(journal, prompts, measure_prompt_drift, models, config, work)


def _items_of(
    journal: Journal[Measured],
    items: Sequence[EvaluationItem],
    measure: Callable[..., Iterator[tuple[Measured, ...]]],
    models: ModelPool,
    config: MoeConfig,
    work: StageCache,
) -> tuple[Measured, ...]:
    """The record of every item: those in the journal, and what is missing there; the base is loaded only for these."""
    done = {item.id: item for item in journal.records()} if is_first() else {}
    ids_done = gathered(tuple(done))[0]
    if len(ids_done) < len(items):
        for batch in measure(
            models.base(),
            models.tuned(),
            items,
            done=ids_done,
            batch_size=config.evaluate.batch_size,
            batch_tokens=max_drift_tokens(config.evaluate.batch_tokens, models.tuned()),
            notify=work.notify,
        ):
            if batch:
                journal.append(batch)
            done |= {item.id: item for item in batch}
    return tuple(done[item_id] for item_id in sorted(done))


def max_drift_tokens(batch_tokens: int, loaded: LoadedModel) -> int:
    """Tokens per batch of texts: at most `batch_tokens`, and at most `MOST_LOGITS` logits of one model."""
    vocabulary: int = loaded.model.config.get_text_config().vocab_size
    return max(1, min(batch_tokens, MOST_LOGITS // vocabulary))


def _of_weights(
    models: ModelPool, base: ModelIdentity, selected_LE: NDArray[np.bool_] | None, work: StageCache
) -> tuple[GroupDrift, ...]:
    selection = None if selected_LE is None else (selected_LE.shape, selected_LE.tobytes())
    journal = work.journal(
        "drift", "drift of weights", WeightDrift, *_models_key(models, base), selection, file="weights"
    )
    if not (records := journal.records()):
        records = [WeightDrift(groups=measure_weight_drift(models.base(), models.tuned(), selected_LE))]
        journal.append(records)
    return records[0].groups


def _models_key(models: ModelPool, base: ModelIdentity) -> tuple[object, ...]:
    """What identifies both models, and the machine, for the journal."""
    return base.fingerprint, base.settings, models.tuned().depends_on
