"""How much the refusal loss of each fixed batch pulls on each expert.

Comes in: the training examples. Goes out: squared gradient norms per batch. Always holds: the loss is that of training,
over the examples of the batch whose target is a refusal; one forward and one backward for each batch; no weight and no
gradient of the model is left changed.

Letters: B batches, L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from moe_cli.experts.gradient_norms import measure_gradient_norms
from moe_cli.model.chat import EncodedChat, encode_answered
from moe_cli.model.load import LoadedModel
from moe_cli.model.loss import answered_rows, loss_sum, num_answer_tokens
from moe_cli.records import Progress, TrainingExample


def refusal_gradients(
    loaded: LoadedModel, examples: Sequence[TrainingExample], *, max_length: int, notify: Callable[[object], None]
) -> NDArray[np.float64]:
    """[B, L, E] squared norms of each expert's gradient; batch indices run from 0 without a gap.

    Raises:
        UsageError: an answer is longer than `max_length`, or the model's family is not understood.
    """
    batches: list[list[EncodedChat]] = [[] for _ in range(1 + max(example.batch_idx for example in examples))]
    for example in examples:
        if example.kind != "benign":
            row = encode_answered(loaded.tokenizer, example.messages, max_length=max_length)
            batches[example.batch_idx].append(row)
    measured = []
    with measure_gradient_norms(loaded.model) as norms, torch.enable_grad():
        for rows in batches:
            batch = {name: tensor.to(loaded.device) for name, tensor in answered_rows(rows).items()}
            (loss_sum(loaded.model, batch) / num_answer_tokens(batch["labels"])).backward()
            measured.append(norms.take().numpy())
            notify(Progress(task="gradients", done=len(measured), total=len(batches)))
    return np.stack(measured)
