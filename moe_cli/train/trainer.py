"""The transformers Trainer with the fixes that both arms need.

Both arms run this very loop with the same loss. A loss or gradient that is not finite stops the run before the
optimizer step.

Several processes (`moe_cli.ranks`) train one model together: each has its share of the fixed batches, and before the
optimizer step all have the measurements and the gradients of the whole step. The Trainer of each believes that it is
alone, so it neither deals out batches nor adds up gradients by itself.

Each override names what it works around:
- get_train_dataloader: `_get_train_sampler` re-chops batches, so that every step would mix masks (pitfall 16).
- compute_loss: the library's loss can hold the router loss, multiplied by the ranks (transformers #48690).
- training_step: short and long rows of one batch would be padded to the longest; the batch index travels in the batch
  because the Trainer prefetches whole accumulation groups.
- get_batch_samples: the answer tokens of a step are those of all processes.
- clip_grad_norm_ of the accelerator: its norm depends on how gradients lie on processes; see `gradients.py`.
- training_step, _get_grad_norm: NaN is logged as 0.0 and training goes on (`logging_nan_inf_filter`, pitfall 4).
- _save_checkpoint, _load_*: checkpoints lose fused experts on the way back (transformers #48805), and a kill leaves
  half a checkpoint that is then picked (pitfalls 2 and 3); see `checkpoint.py`.
- _sync_replicated_trainable_parameters, _defer_fsdp_gradient_reduction: what the Trainer does to a sharded model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from moe_cli.errors import NumericError
from moe_cli.experts import FrozenProof
from moe_cli.model.sharding import has_shares, sum_gradients_of_shares
from moe_cli.model.token_rows import answer_logits, answer_loss_sum, num_answer_tokens, row_loss_sums
from moe_cli.ranks import gathered, num_ranks, this_rank, wait_for_first
from moe_cli.records import StepRecord, ValidationLoss
from moe_cli.records.training import Phase, PhaseRecord
from moe_cli.train import checkpoint, tensor_files
from moe_cli.train.dataset import NO_BATCH, TURNS, EpochOrder, FixedBatches, epoch_order, part_of
from moe_cli.train.gradients import clip_gradients, sum_gradients
from moe_cli.train.open_step import OpenStep, finite_sum, row_losses_of, stay_when_asked_to_stop

Inputs = dict[str, Tensor]


class FixedBatchTrainer(Trainer):
    """Trains the parameters `trained` on fixed batches; the baseline uses it as it is."""

    def __init__(
        self,
        model: PreTrainedModel,
        arguments: TrainingArguments,
        batches: FixedBatches,
        trained: Mapping[str, nn.Parameter],
        owner: str,
        on_step: Callable[[StepRecord], None],
    ) -> None:
        """`trained` are the parameters of the arm by name, `owner` identifies whose checkpoints these are."""
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=batches,
            data_collator=_single_batch,
            compute_loss_func=_never_called,
        )
        if arguments.n_gpu > 1:
            raise AssertionError("nn.DataParallel would split fixed batches; several cards need a device_map")
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.accelerator.clip_grad_norm_ = clip_gradients  # type: ignore[method-assign]
        self.trained = dict(trained)
        self.owner = owner
        self.on_step = on_step
        self.open_step = OpenStep()
        self.validation: list[ValidationLoss] = []  # so far; goes into every checkpoint
        self.of_shares = has_shares(model)
        if self.of_shares:
            sum_gradients_of_shares(model)
        self.phases: list[PhaseRecord] = []  # so far, where what trains changes
        self.num_with_gradient = 0  # parameters that the probe steps reached
        self.loss_weight = 1.0  # 0 in a forward without effect
        self.row_losses: list[tuple[Inputs, Tensor]] = []  # rows with their losses [B], of the batch under way

    @property
    def phase(self) -> Phase | None:
        """What trains now, where that changes."""
        return None

    @property
    def batches_per_step(self) -> int:
        """Fixed batches in one step, of all processes together."""
        return int(self.args.gradient_accumulation_steps) * num_ranks()

    def order_of(self, epoch: int) -> list[int]:
        """The order of the batches in an epoch, 0 for the first."""
        return epoch_order(len(self.train_dataset), self.args.seed, epoch)

    def prove(self, probe: Callable[[], int], proof: FrozenProof) -> None:
        """Check with `probe` that a step reaches what it trains; `proof` is of what must not move."""
        self.num_with_gradient = probe()

    def begin_step(self) -> None:
        """Hook before every step."""

    def get_train_dataloader(self) -> DataLoader[Inputs]:
        """Whole fixed batches, in the order of the epoch."""
        order = EpochOrder(len(self.train_dataset), self.order_of)
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=order,
            collate_fn=_single_batch,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=stay_when_asked_to_stop,
        )
        prepared: DataLoader[Inputs] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Cross entropy summed over the answer tokens of some rows, divided by those of the whole step."""
        if num_items_in_batch is None:
            raise AssertionError("the Trainer did not count the answer tokens")
        logits_BSV, labels_BS = answer_logits(model, inputs)
        if TURNS in inputs and self.loss_weight:
            self.row_losses.append((inputs, row_loss_sums(logits_BSV, labels_BS)))
        return answer_loss_sum(logits_BSV, labels_BS) * (self.loss_weight / num_items_in_batch)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Inputs], num_batches: int, device: torch.device
    ) -> tuple[list[Inputs], Tensor]:
        """The batches of a step and its answer tokens, those of the other processes included."""
        samples, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        return samples, torch.tensor(sum(gathered(int(num_items))), device=device)

    def begin_batch(self, batch: int) -> None:
        """Hook before the first forward of every fixed batch."""

    def open_batch(self, inputs: Inputs) -> list[Inputs]:
        """Record the batch in the open step; returns its rows, cut into micro-batches, none for NO_BATCH."""
        if not self.open_step.batches:  # setting up, loading and saving checkpoints are no part of a step's time
            self.open_step.started = time.monotonic()
        if (batch := int(inputs["batch_index"])) == NO_BATCH:
            return []
        self.begin_batch(batch)
        parts = self.parts_of(batch, inputs)
        self.open_step.batches.append(batch)
        self.open_step.num_answer_tokens += sum(num_answer_tokens(part["labels"]) for part in parts)
        self.open_step.num_tokens += sum(int(part["attention_mask"].sum()) for part in parts)
        self.open_step.num_padded_tokens += sum(part["labels"].numel() for part in parts)
        return parts

    def parts_of(self, batch: int, inputs: Inputs) -> list[Inputs]:
        """The rows of a batch that train, cut into forwards."""
        return [part_of(inputs, cut) for cut in self.train_dataset.cuts[batch]]

    def experts_of(self, batches: Sequence[int]) -> int | None:
        """How many experts a step on these batches updates; None: all parameters train."""
        return None

    def training_step(self, model: nn.Module, inputs: Inputs, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Forward and backward of one batch; after the last one of a step, the processes add up what they have.

        Raises:
            NumericError: the loss of the step is not finite, on whichever process.
        """
        parts = self.open_batch(inputs)
        num_forwards = max(gathered(len(parts))) if self.of_shares else len(parts)
        if parts:
            losses = self.train_parts(model, parts, num_items_in_batch)
            loss = float(torch.stack([loss.detach() for loss in losses]).sum())
            self.open_step.losses.append(loss)
            self.open_step.rows.append(row_losses_of(self.row_losses))
            self.row_losses = []
        for _ in range(num_forwards - len(parts)):
            self.keep_company(model, num_items_in_batch)
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        self.open_step = self.open_step.joined(gathered(self.open_step))
        for quantity, values in (("loss", self.open_step.losses), ("consistency", self.open_step.consistency)):
            if not math.isfinite(total := finite_sum(values)):
                raise self._not_finite(quantity, total)
        self.open_step.gradient_bytes = sum_gradients(self.trained.values())
        return torch.tensor(self.open_step.loss, device=self.args.device)  # what trackers are told

    def train_parts(
        self, model: nn.Module, parts: Sequence[Inputs], num_items_in_batch: Tensor | int | None
    ) -> list[Tensor]:
        """Forward and backward of the parts of one batch; their losses."""
        return [super(FixedBatchTrainer, self).training_step(model, part, num_items_in_batch) for part in parts]

    def keep_company(self, model: nn.Module, num_items_in_batch: Tensor | int | None) -> None:
        """A forward and backward without effect, as sharded weights are gathered by all processes together."""
        self.begin_company()
        batch, cut = self.train_dataset[0], self.train_dataset.cuts[0][0]
        self.loss_weight = 0.0
        super().training_step(model, part_of(batch, replace(cut, rows=cut.rows[:1])), num_items_in_batch)
        self.loss_weight = 1.0

    def begin_company(self) -> None:
        """Hook before a forward without effect."""

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> float:
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        if not math.isfinite(norm):
            raise self._not_finite("gradient norm", norm)
        self.open_step.grad_norm, self.open_step.learning_rate = norm, float(self._get_learning_rate())
        return norm

    def finish_step(self) -> None:
        """Called by the step callback when the optimizer has stepped."""
        if self.args.device.type == "cuda":
            torch.cuda.synchronize(self.args.device)
        elif self.args.device.type == "mps":
            torch.mps.synchronize()
        step, self.open_step = self.open_step, OpenStep()
        number = self.state.global_step
        updated = self.experts_of(step.batches)
        self.on_step(step.record_of(number, self._epoch_after(number), num_experts_updated=updated, phase=self.phase))

    def _epoch_after(self, step: int) -> float:
        """Epochs that were trained up to the end of a step; the Trainer counts the batches of this process alone."""
        per_step, total = self.batches_per_step, len(self.train_dataset)
        whole, begun = divmod(step - 1, ceil(total / per_step))
        return whole + min((begun + 1) * per_step, total) / total

    def _not_finite(self, quantity: str, value: float) -> NumericError:
        return NumericError(
            f"the {quantity} of step {self.state.global_step + 1} is {value} (batches {self.open_step.batches}); "
            "no parameter was updated with it",
            hint="train into another directory with a lower learning rate, or look at these batches of the prepare run",
        )

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        run = Path(self.args.output_dir)
        state = (self.trained, self.optimizer, self.lr_scheduler, self.state)
        random = gathered(tensor_files.random_states())
        progress = checkpoint.TrainingProgress(tuple(self.validation), self.batches_per_step, *self.phase_state())
        checkpoint.save_checkpoint(run, self.owner, *state, progress, random)
        wait_for_first()  # whoever ended before it is published would end the first, too

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the state after this step is saved, however far apart checkpoints are."""
        return False

    def phase_state(self) -> tuple[tuple[PhaseRecord, ...], Mapping[str, Tensor]]:
        """The phases so far, and what the one under way needs beside the parameters."""
        return tuple(self.phases), {}

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """Do nothing: hooks that add up gradients hang where a parameter has one on some processes only."""

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Reduce in every backward: to defer it would keep the whole gradient of the model on every process."""
        yield

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint.load_parameters(Path(resume_from_checkpoint), self.trained)
        self.validation = list(checkpoint.read_state(Path(resume_from_checkpoint)).validation)

    def _load_optimizer_and_scheduler(self, checkpoint_path: str | None) -> None:
        if checkpoint_path is not None:
            checkpoint.load_optimizer(Path(checkpoint_path), self.trained, self.optimizer, self.lr_scheduler)

    def _load_rng_state(self, checkpoint_path: str | None) -> None:
        if checkpoint_path is not None:
            tensor_files.load_random_state(Path(checkpoint_path) / checkpoint.RANDOM, this_rank().index)


def _single_batch(batches: list[Inputs]) -> Inputs:
    (batch,) = batches
    return batch


def _never_called(outputs: object, labels: object, num_items_in_batch: object = None) -> Tensor:
    """Tells the Trainer to count answer tokens and not to rescale; the loss itself is in `compute_loss`."""
    raise AssertionError("compute_loss is overridden")
