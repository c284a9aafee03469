"""What happens around the steps: records, checkpoints, stopping.

Comes in: the Trainer's events. Goes out: a `StepRecord` per step, checkpoints when they are due. Always holds: the
parameters in the optimizer are exactly those of the arm, checked before the first step; a request to stop is met at the
end of a step, with a checkpoint.
"""

from __future__ import annotations

from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moe_cli.train.signals import StopRequest
from moe_cli.train.trainer import FixedBatchTrainer


class StepLoop(TrainerCallback):
    """Watches one training run."""

    def __init__(self, trainer: FixedBatchTrainer, stop: StopRequest, checkpoint_every: int | None) -> None:
        self.trainer, self.stop, self.checkpoint_every = trainer, stop, checkpoint_every
        self.num_in_optimizer = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        optimizer: Optimizer,
        **_: object,
    ) -> None:
        """Check what the optimizer holds."""
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if held != {id(parameter) for parameter in self.trainer.trained.values()}:
            raise AssertionError(
                f"the optimizer holds {len(held)} parameters, the arm trains {len(self.trainer.trained)}"
            )
        self.num_in_optimizer = len(held)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Record the step; save where it is due or somebody asked to stop."""
        self.trainer.finish_step()
        due = self.checkpoint_every is not None and state.global_step % self.checkpoint_every == 0
        if due and state.global_step < state.max_steps:
            control.should_save = True
        if self.stop:
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Without a number of steps, save after every epoch; the last one is followed by the final model."""
        if self.checkpoint_every is None and not self.stop and state.global_step < state.max_steps:
            control.should_save = True
        return control
