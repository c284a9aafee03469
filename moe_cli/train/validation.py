"""The loss on held-out batches, by which the final model is chosen among the checkpoints.

Comes in: the model in training and the fixed batches that do not train. Goes out: one number. Always holds: nothing is
learnt from it and no random number is drawn, so the steps are those of a run without it.
"""

from __future__ import annotations

import math

import torch
from transformers import PreTrainedModel

from moe_cli.errors import NumericError
from moe_cli.model.loss import loss_sum, num_answer_tokens
from moe_cli.train.data import FixedBatches, part_of


@torch.no_grad()
def validation_loss(model: PreTrainedModel, batches: FixedBatches) -> float:
    """Cross entropy per answer token of all batches, in evaluation mode; the model's own mode comes back.

    Raises:
        NumericError: it is not finite.
    """
    training = model.training
    model.eval()
    parts = [part_of(batch, cut) for batch, cuts in zip(batches.batches, batches.cuts, strict=True) for cut in cuts]
    sums = [float(loss_sum(model, {name: rows.to(model.device) for name, rows in part.items()})) for part in parts]
    model.train(training)
    loss = math.fsum(sums) / sum(num_answer_tokens(part["labels"]) for part in parts)
    if not math.isfinite(loss):
        raise NumericError(
            f"the loss on the held-out batches is {loss}",
            hint="train into another directory with a lower learning rate",
        )
    return loss
