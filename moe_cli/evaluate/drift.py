"""How far the tuned model moved from its base on held-out benign text, token by token.

Comes in: both models and the items of kind `text`. Goes out: one `DriftItem` per text. Always holds: only answer tokens
count; both models see the very same ids; logarithms are in float32, in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from moe_cli.model.chat import EncodedChat, encode_answered
from moe_cli.model.load import LoadedModel
from moe_cli.model.padding import attention_mask, right_padded
from moe_cli.records import DriftItem, EvaluationItem, Progress


def drift_items(
    base: LoadedModel,
    tuned: LoadedModel,
    items: Sequence[EvaluationItem],
    *,
    batch_size: int,
    notify: Callable[[object], None],
) -> list[DriftItem]:
    """Drift on every text, in order of id."""
    encoded = {item.id: encode_answered(base.tokenizer, item.messages) for item in items}
    order = sorted(items, key=lambda item: (-len(encoded[item.id].token_ids), item.id))
    found: list[DriftItem] = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found += _drift_of_batch(base, tuned, batch, [encoded[item.id] for item in batch])
        notify(Progress(task="drift", done=len(found), total=len(order)))
    return sorted(found, key=lambda item: item.id)


@torch.inference_mode()
def _drift_of_batch(
    base: LoadedModel, tuned: LoadedModel, items: Sequence[EvaluationItem], rows: Sequence[EncodedChat]
) -> Iterator[DriftItem]:
    ids = [row.token_ids for row in rows]
    ids_BS, mask_BS = right_padded(ids), attention_mask(ids)
    logits = [
        loaded.model(
            input_ids=ids_BS.to(loaded.device), attention_mask=mask_BS.to(loaded.device), use_cache=False
        ).logits
        for loaded in (base, tuned)
    ]
    for place, (item, row) in enumerate(zip(items, rows, strict=True)):
        answer = slice(row.num_prompt - 1, len(row.token_ids) - 1)  # the positions that predict the answer's tokens
        next_T = torch.tensor(row.token_ids[row.num_prompt :])
        base_TV, tuned_TV = (part[place, answer].float().log_softmax(-1).cpu() for part in logits)
        yield _drift_item(item, next_T, base_TV, tuned_TV)


def _drift_item(item: EvaluationItem, next_T: Tensor, base_TV: Tensor, tuned_TV: Tensor) -> DriftItem:
    """KL(base || tuned) per token, and the negative log likelihood of the text under both."""
    kl_T = (base_TV.exp() * (base_TV - tuned_TV)).sum(-1).clamp(min=0.0)
    return DriftItem(
        id=item.id,
        cluster=item.cluster,
        num_tokens=len(next_T),
        nll_base=float(-base_TV.gather(1, next_T[:, None]).sum()),
        nll_tuned=float(-tuned_TV.gather(1, next_T[:, None]).sum()),
        kl_tokens=tuple(kl_T.tolist()),
        same_top=int((base_TV.argmax(-1) == tuned_TV.argmax(-1)).sum()),
    )
