"""How far the routers' distributions moved from the base's at the last token of harmful prompts.

That token decides the first one of the answer. Both models see the very same ids, without any answer. A prompt counts
once, however often it is answered. Layers whose experts no router chooses have no number, and a model whose routers are
not understood has none, with the reason. Which prompts share a batch depends on all prompts, not on those that are
done. The same items and seed give the same numbers bit for bit, in any order of items.

    KL[l] = mean over prompts of sum_e p[l, e] ln(p[l, e] / q[l, e])      p of the base, q of the tuned model

Letters: N prompts, C clusters, V values, R resamples, L expert layers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from moe_cli.errors import NumericError, UsageError
from moe_cli.evaluate.evaluation_items import prompt_id
from moe_cli.evaluate.paired_forward import base_in_place_of
from moe_cli.evaluate.text_drift import PROBABILITIES
from moe_cli.model.chat import encode_prompt
from moe_cli.model.interventions import fixed_layers
from moe_cli.model.load import LoadedModel
from moe_cli.model.router_seam import kl_divergences, last_token_distributions
from moe_cli.model.token_rows import length_batches
from moe_cli.ranks import on_first
from moe_cli.records import EvaluationItem, Progress, PromptDrift, PromptDriftItem, PromptLayerDrift
from moe_cli.records.manifest import Notify
from moe_cli.rounds import in_rounds
from moe_cli.stats.clusters import NUM_RESAMPLES, Floats, cluster_sums, estimate, resampled_sums

BATCHES_PER_TURN = 16  # that one model reads before the other does, where they take turns on one device

Row = tuple[EvaluationItem, tuple[int, ...]]


def harmful_prompts(items: Sequence[EvaluationItem]) -> tuple[EvaluationItem, ...]:
    """The harmful items, each once, however often it is answered."""
    return tuple(item for item in items if item.kind == "harmful" and item.id == prompt_id(item.id))


def measure_prompt_drift(
    base: LoadedModel,
    tuned: LoadedModel,
    items: Sequence[EvaluationItem],
    *,
    done: Collection[str],
    batch_size: int,
    batch_tokens: int | None,
    notify: Notify,
) -> Iterator[tuple[PromptDriftItem, ...]]:
    """Drift at the end of every prompt whose id is not in `done`, batch by batch, the longest prompts first.

    Several processes share the batches out; the first gets what comes of them.
    """
    ordered = sorted(items, key=lambda item: item.id)
    rows = [(item, encode_prompt(tuned.tokenizer, item.messages)) for item in ordered]
    missing = frozenset(item.id for item in ordered) - frozenset(done)
    batches = [
        [rows[index] for index in indices]
        for indices in length_batches([len(ids) for _, ids in rows], max_rows=batch_size, max_tokens=batch_tokens)
        if any(ordered[index].id in missing for index in indices)
    ]
    unread = unread_routers(tuned)
    fixed = () if unread else _fixed_of(base, tuned)

    def measured(group: Sequence[Sequence[Row]]) -> list[PromptDriftItem]:
        found = _unread_items(group, len(tuned.layers), unread) if unread else _items(base, tuned, group, fixed)
        return [item for item in found if item.id in missing]

    num_done = len(ordered) - len(missing)
    size = on_first(lambda: 1 if base.device == tuned.device else BATCHES_PER_TURN)
    for shares in in_rounds([batches[start : start + size] for start in range(0, len(batches), size)], measured):
        found = tuple(chain.from_iterable(shares))
        yield found
        num_done += len(found)
        notify(Progress(task="drift at harmful prompts", done=num_done, total=len(ordered)))


def unread_routers(loaded: LoadedModel) -> str | None:
    """Why the distributions of the model's routers are not known; None: they are."""
    try:
        last_token_distributions(loaded, [[0]])
    except UsageError as refused:
        return refused.message
    return None


def _fixed_of(base: LoadedModel, tuned: LoadedModel) -> list[int]:
    """Indices of the layers whose experts no router chooses: by the base, as the router of `tuned` may be steered."""
    with base_in_place_of(tuned, base):
        return fixed_layers(base.model, np.ones(len(base.layers), dtype=np.bool_))


def _unread_items(group: Sequence[Sequence[Row]], num_layers: int, unread: str) -> Iterator[PromptDriftItem]:
    for item, _ in chain.from_iterable(group):
        yield PromptDriftItem(id=item.id, cluster=item.cluster, kl=(None,) * num_layers, unread=unread)


def _items(
    base: LoadedModel, tuned: LoadedModel, group: Sequence[Sequence[Row]], fixed: Collection[int]
) -> Iterator[PromptDriftItem]:
    """The drift of every prompt of some batches; `fixed` are indices of layers whose router does not choose."""
    with base_in_place_of(tuned, base):
        of_base = [last_token_distributions(base, [ids for _, ids in batch]) for batch in group]
    for batch, log_p_L in zip(group, of_base, strict=True):
        log_q_L = last_token_distributions(tuned, [ids for _, ids in batch])
        kl_BL = torch.stack([kl_divergences(*pair) for pair in zip(log_p_L, log_q_L, strict=True)], dim=1)
        for (item, _), kl_L in zip(batch, kl_BL.tolist(), strict=True):
            if not np.isfinite(kl_L).all():
                raise NumericError(
                    f"the routers' distributions at the prompt {item.id} are not finite in both models",
                    hint=PROBABILITIES,
                )
            kl = tuple(None if index in fixed else value for index, value in enumerate(kl_L))
            yield PromptDriftItem(id=item.id, cluster=item.cluster, kl=kl)


def summarise_prompt_drift(
    items: Sequence[PromptDriftItem], layers: Sequence[int], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> PromptDrift:
    """Mean KL of every layer and over the layers; `layers` are the decoder's own indices, and there is an item.

    Raises:
        ValueError: items that are not of these layers, or of different ones (bugs of the caller).
    """
    ordered = sorted(items, key=lambda item: item.id)
    read = _read(ordered[0])
    if any(len(item.kl) != len(layers) or _read(item) != read for item in ordered):
        raise ValueError(f"the drift of the prompts is not that of the {len(layers)} layers")
    values_NV = np.array([[1.0, *(value for value in item.kl if value is not None)] for item in ordered])
    sums_CV = cluster_sums([item.cluster for item in ordered], values_NV)
    resampled = resampled_sums(sums_CV, seed=seed, num_resamples=num_resamples)
    drawn_RK = np.concatenate([_means(block_RV) for block_RV in resampled])
    mean_K = _means(sums_CV.sum(axis=0))
    kl_of = {index: estimate(mean_K[place], drawn_RK[:, place], len(sums_CV)) for place, index in enumerate(read)}
    return PromptDrift(
        layers=tuple(PromptLayerDrift(layer=layer, kl=kl_of.get(index)) for index, layer in enumerate(layers)),
        kl=estimate(mean_K.mean(), drawn_RK.mean(axis=1), len(sums_CV)) if read else None,
        num_prompts=len(ordered),
        unread=ordered[0].unread,
    )


def _read(item: PromptDriftItem) -> list[int]:
    return [index for index, value in enumerate(item.kl) if value is not None]


def _means(sums_V: Floats) -> Floats:
    """Means over prompts of every layer that is known; the first value counts the prompts."""
    means: Floats = sums_V[..., 1:] / sums_V[..., :1]
    return means
