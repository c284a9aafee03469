"""What happens around the steps: records, checkpoints, validation.

The parameters in the optimizer are exactly those of the arm, checked before the first step. A request to stop is met at
the end of a step, with a checkpoint; all processes stop where one of them is asked to. Measuring the validation loss
learns nothing and draws no random number, so the steps are those of a run without it; when it is measured depends on
the step alone, so a stop does not change it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moe_cli.errors import NumericError
from moe_cli.model.sharding import has_shares
from moe_cli.model.token_rows import loss_sum, num_answer_tokens
from moe_cli.ranks import dealt, gathered, num_ranks
from moe_cli.records import ValidationLoss
from moe_cli.train.dataset import FixedBatches, part_of
from moe_cli.train.open_step import StopRequest, finite_sum
from moe_cli.train.trainer import FixedBatchTrainer


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, so that nothing is drawn; afterwards in the mode that it had."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def validation_loss(model: PreTrainedModel, batches: FixedBatches) -> float:
    """Cross entropy per answer token of all batches, in evaluation mode; the model's mode is restored.

    Of several processes each runs its share of the forwards.

    Raises:
        NumericError: it is not finite.
    """
    parts = [part_of(batch, cut) for batch, cuts in zip(batches.batches, batches.cuts, strict=True) for cut in cuts]
    own = dealt(parts)
    company = own[:1] or parts[:1]  # sharded weights are gathered by all processes, as often as by the first
    extra = company * (ceil(len(parts) / num_ranks()) - len(own)) if has_shares(model) else []
    with evaluating(model):
        sums = [
            float(loss_sum(model, {name: rows.to(model.device) for name, rows in part.items()})) for part in own + extra
        ]
    values = [value for share in gathered(sums[: len(own)]) for value in share]
    loss = finite_sum(values) / sum(num_answer_tokens(part["labels"]) for part in parts)
    if not math.isfinite(loss):
        raise NumericError(
            f"the loss on the held-out batches is {loss}",
            hint="train into another directory with a lower learning rate",
        )
    return loss


class StepLoop(TrainerCallback):
    """Trainer callback that records, validates and saves during one training run."""

    def __init__(
        self, trainer: FixedBatchTrainer, stop: StopRequest, checkpoint_every: int | None, held_out: FixedBatches
    ) -> None:
        """A checkpoint is saved every `checkpoint_every` steps, or after every epoch; `held_out` may be empty."""
        self.trainer, self.stop, self.checkpoint_every, self.held_out = trainer, stop, checkpoint_every, held_out
        self.stopped_by: str | None = None  # name of the signal at which all processes stop

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        optimizer: Optimizer,
        **_: object,
    ) -> None:
        """Check that the optimizer holds exactly the trained parameters."""
        self._optimizer = optimizer
        self.count_in_optimizer()

    def count_in_optimizer(self) -> int:
        """How many parameters the optimizer holds: exactly those that train.

        Raises:
            AssertionError: it holds others.
        """
        in_optimizer = {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}
        if in_optimizer != {id(parameter) for parameter in self.trainer.trained.values()}:
            raise AssertionError(
                f"the optimizer holds {len(in_optimizer)} parameters, the arm trains {len(self.trainer.trained)}"
            )
        return len(in_optimizer)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Let the trainer begin a phase."""
        self.trainer.begin_step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Record the step; validate and save when due, and save when a stop was requested.

        After the last step there is nothing to save, unless the final model is chosen among the checkpoints.
        """
        self.trainer.finish_step()
        last = state.global_step == state.max_steps
        due = state.global_step % (self.checkpoint_every or state.max_steps // state.num_train_epochs) == 0
        if self.held_out and (due or last):
            loss = validation_loss(self.trainer.model, self.held_out)
            self.trainer.validation.append(ValidationLoss(step=state.global_step, loss=loss))
        self.stopped_by = next((name for name in gathered(self.stop.signal_name) if name is not None), None)
        if self.stopped_by or self.trainer.needs_checkpoint or (self.held_out if last else due):
            control.should_save = True
        if self.stopped_by:
            control.should_training_stop = True
        return control
