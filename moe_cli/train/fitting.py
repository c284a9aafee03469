"""One arm, fitted: probe, step through the batches, prove.

Comes in: an `ArmSetup`, the fixed batches and the settings. Goes out: the proof, the steps and the peak memory. Always
holds: nothing is updated before the probe step has shown that exactly the requested parameters get a gradient; a
request to stop ends with a checkpoint and exit 75.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import Journal
from moe_cli.config import MoeConfig
from moe_cli.errors import StoppedError
from moe_cli.experts import probe_gradients
from moe_cli.model.checkpointing import enable_checkpointing
from moe_cli.model.finite import refuse_not_finite
from moe_cli.model.load import LoadedModel
from moe_cli.model.loss import loss_sum
from moe_cli.model.memory import peak_bytes, start_peak
from moe_cli.records import Expert, Notice, StepRecord, TrainingProof, ValidationLoss
from moe_cli.train.arguments import Hyperparameters, training_arguments
from moe_cli.train.arms import ArmSetup
from moe_cli.train.checkpoint import load_best
from moe_cli.train.data import FixedBatches, part_of
from moe_cli.train.loop import StepLoop
from moe_cli.train.signals import stop_requests
from moe_cli.train.trackers import keep_in_run
from moe_cli.train.trainer import ExpertMaskingTrainer, FixedBatchTrainer


@dataclass(frozen=True, slots=True)
class FitTask:
    """One training run in a directory."""

    path: Path
    owner: str  # whose checkpoints these are
    batches: FixedBatches
    held_out: FixedBatches  # empty, or what the final model is chosen by
    batch_experts: Sequence[Collection[Expert]] | None  # None: baseline, or `--masking none`
    shared: Hyperparameters
    checkpoint: Path | None  # where to resume from


@dataclass(frozen=True, slots=True)
class FitResult:
    """What happened."""

    proof: TrainingProof
    steps: tuple[StepRecord, ...]
    validation: tuple[ValidationLoss, ...]
    final_step: int  # whose weights the model holds
    peak_memory_bytes: int
    peak_memory_of: str
    experts_dtype: str


def fit_arm(
    config: MoeConfig, loaded: LoadedModel, setup: ArmSetup, task: FitTask, notify: Callable[[object], None]
) -> FitResult:
    """Train the arm on the batches.

    Raises:
        ValueError: the probe step reached other parameters than the requested ones.
        NumericError: a loss, a gradient or what an update made is not finite.
        StoppedError: a signal asked to stop; a checkpoint was saved.
        ArtifactError: the checkpoint that the final model is to come from is damaged.
    """
    journal = _journal(task)

    def on_step(step: StepRecord) -> None:
        journal.append([step])
        notify(step)

    saving_memory = enable_checkpointing(loaded.model) if config.train.gradient_checkpointing else nullcontext()
    digest_before = setup.frozen_digest() if setup.frozen_digest else None
    trainer = _trainer(config, loaded, setup, task, on_step)
    keep_in_run(trainer, task.path)
    start_peak(loaded.device)
    with stop_requests() as stop, saving_memory:
        with_gradient = probe_gradients(
            loaded.model,
            lambda: _probe_loss(loaded, setup, task),
            list(setup.trained.values()),
            all_of_them=setup.slices is not None,
        )
        if with_gradient < len(setup.trained):
            notify(Notice(text=_unreached(with_gradient, len(setup.trained)), warning=True))
        loop = StepLoop(trainer, stop, config.train.checkpoint_every, task.held_out)
        trainer.add_callback(loop)
        trainer.train(resume_from_checkpoint=str(task.checkpoint) if task.checkpoint else None)
    if stop and trainer.state.global_step < trainer.state.max_steps:
        raise StoppedError(
            f"stopped by {stop.signal_name} after step {trainer.state.global_step} of {trainer.state.max_steps}; "
            f"a checkpoint was saved in {task.path}",
            hint="run the same command with --resume to go on",
        )
    peak, peak_of = peak_bytes(loaded.device)
    validation = tuple(trainer.validation)
    final_step = load_best(task.path, validation, setup.trained) if validation else trainer.state.max_steps
    made = f"what the updates up to step {final_step} made"  # the last update has no loss after it
    refuse_not_finite(setup.trained.items(), made, hint="train into another directory with a lower learning rate")
    digest_after = setup.frozen_digest() if setup.frozen_digest else None
    if digest_after != digest_before:
        raise AssertionError("a weight outside the selection moved; nothing is written")
    return FitResult(
        proof=TrainingProof(
            requested=len(setup.trained),
            in_optimizer=loop.num_in_optimizer,
            with_gradient=with_gradient,
            frozen_digest_before=digest_before,
            frozen_digest_after=digest_after,
            num_moved=setup.num_moved() if setup.num_moved else None,
            num_parameters=len(setup.trained) if setup.num_moved else None,
        ),
        steps=tuple(journal.records()),
        validation=validation,
        final_step=final_step,
        peak_memory_bytes=peak,
        peak_memory_of=peak_of,
        experts_dtype=_dtype_of_experts(setup),
    )


def _trainer(
    config: MoeConfig, loaded: LoadedModel, setup: ArmSetup, task: FitTask, on_step: Callable[[StepRecord], None]
) -> FixedBatchTrainer:
    arguments = training_arguments(
        config,
        task.shared,
        task.path,
        use_cpu=loaded.device.type == "cpu",
        bfloat16=setup.slices is None and loaded.identity.dtype == "bfloat16",
    )
    words = (loaded.model, arguments, task.batches, setup.trained, task.owner, on_step)
    if setup.slices is None:
        return FixedBatchTrainer(*words)
    trainer = ExpertMaskingTrainer(*words)
    trainer.mask_with(setup.slices, task.batch_experts)
    return trainer


def _probe_loss(loaded: LoadedModel, setup: ArmSetup, task: FitTask) -> Tensor:
    """The loss of the longest rows of the first batch with every parameter of the arm active."""
    if setup.slices is not None:
        setup.slices.activate(None)
    loaded.model.train()
    first = part_of(task.batches[0], task.batches.cuts[0][0])
    batch = {name: tensor.to(loaded.device) for name, tensor in first.items()}
    mixed = torch.bfloat16 if setup.slices is None and loaded.identity.dtype == "bfloat16" else None
    with torch.autocast(loaded.device.type, dtype=mixed, enabled=mixed is not None):
        return loss_sum(loaded.model, batch)


def _unreached(reached: int, requested: int) -> str:
    return (
        f"the loss reaches {reached} of the {requested} parameter tensors of the baseline: the others (encoders of "
        "images, indexers, balance biases) have no gradient from text and will not move"
    )


def _journal(task: FitTask) -> Journal[StepRecord]:
    """The steps so far are those in the checkpoint; steps after it are done again."""
    path = task.path / layout.STEPS
    write_atomic(path, (task.checkpoint / layout.STEPS).read_bytes() if task.checkpoint else b"")
    return Journal(path, StepRecord)


def _dtype_of_experts(setup: ArmSetup) -> str:
    dtype = setup.experts_dtype()
    if dtype is None:
        raise AssertionError("no forward reached the experts")
    return str(dtype).removeprefix("torch.")
