"""How far the trained model moved from its base: on texts, in its routing and in its weights.

A bare model has no base, so nothing is measured for it; without texts only the drift of the weights is measured.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_cli.config import MoeConfig
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.routing_drift import measure_routing_drift
from moe_cli.evaluate.target import ModelPool
from moe_cli.evaluate.text_drift import measure_text_drift, summarise_drift
from moe_cli.evaluate.weight_drift import measure_weight_drift
from moe_cli.model.load import LoadedModel
from moe_cli.records import (
    DriftItem,
    DriftSummary,
    EvaluationItem,
    GroupDrift,
    ModelIdentity,
    RoutingDrift,
    WeightDrift,
)

MOST_LOGITS = 1 << 30  # of one model at once: 2 GiB in bfloat16


@dataclass(frozen=True, slots=True)
class Drift:
    """All drift of one evaluation."""

    items: tuple[DriftItem, ...] = ()
    texts: DriftSummary | None = None
    routing: RoutingDrift | None = None
    weights: tuple[GroupDrift, ...] | None = None


def measure_drift(
    models: ModelPool,
    texts: Sequence[EvaluationItem],
    selected_LE: NDArray[np.bool_] | None,
    config: MoeConfig,
    work: StageCache,
) -> Drift:
    """Drift of the trained model; `selected_LE` are the experts that the prepare run selected, where that is known."""
    training = models.target.training
    if training is None:
        return Drift()
    items = _on_texts(models, training.base, texts, config, work)
    routing = (
        measure_routing_drift(items, training.base.layers, selected_LE=selected_LE, seed=config.seed) if items else None
    )
    return Drift(
        items=items,
        texts=summarise_drift(items, seed=config.seed) if items else None,
        routing=routing,
        weights=_of_weights(models, training.base, selected_LE, work),
    )


def _on_texts(
    models: ModelPool, base: ModelIdentity, texts: Sequence[EvaluationItem], config: MoeConfig, work: StageCache
) -> tuple[DriftItem, ...]:
    settings = config.evaluate
    depends_on = (*_models_key(models, base), tuple(texts), settings.batch_size, settings.batch_tokens)
    journal = work.journal("drift", "drift of texts", DriftItem, *depends_on)
    done = {item.id: item for item in journal.records()}
    for batch in _missing(models, texts, tuple(done), config, work):
        journal.append(batch)
        done |= {item.id: item for item in batch}
    return tuple(done[item_id] for item_id in sorted(done))


def _missing(
    models: ModelPool, texts: Sequence[EvaluationItem], done: Collection[str], config: MoeConfig, work: StageCache
) -> Iterator[tuple[DriftItem, ...]]:
    """Drift of the texts that are not done yet; the base is loaded only for them."""
    if len(done) == len(texts):
        return
    yield from measure_text_drift(
        models.base(),
        models.tuned(),
        texts,
        done=done,
        batch_size=config.evaluate.batch_size,
        batch_tokens=max_drift_tokens(config.evaluate.batch_tokens, models.tuned()),
        notify=work.notify,
    )


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
