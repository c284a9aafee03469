"""Training of one arm: probe step, all batches, and proofs.

Nothing is updated before the probe step has shown that exactly the requested parameters get a gradient. A request to
stop ends with a checkpoint and exit 75.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import Journal
from moe_cli.config import MoeConfig
from moe_cli.errors import StoppedError
from moe_cli.experts import FrozenProof, probe_gradients
from moe_cli.model.checkpointing import enable_checkpointing
from moe_cli.model.load import LoadedModel
from moe_cli.model.memory import peak_bytes, start_peak
from moe_cli.model.tensors import digest_of_tensors, refuse_not_finite
from moe_cli.model.token_rows import loss_sum
from moe_cli.ranks import gathered, is_first, num_ranks
from moe_cli.records import (
    Expert,
    Notice,
    StepRecord,
    TrainingProof,
    ValidationLoss,
)
from moe_cli.records.manifest import Notify
from moe_cli.records.training import Phase, PhaseRecord
from moe_cli.train.alternating_plan import AlternatingTask
from moe_cli.train.alternating_trainer import AlternatingTrainer
from moe_cli.train.arguments import Hyperparameters, keep_in_run, training_arguments
from moe_cli.train.arm_setup import ArmSetup
from moe_cli.train.checkpoint import load_best
from moe_cli.train.dataset import FixedBatches, part_of
from moe_cli.train.joint_trainer import JointTrainer
from moe_cli.train.loop import StepLoop
from moe_cli.train.open_step import stop_requests
from moe_cli.train.router_phase import RouterPhase
from moe_cli.train.selective_trainer import ExpertMaskingTrainer
from moe_cli.train.trainer import FixedBatchTrainer


@dataclass(frozen=True, slots=True)
class FitTask:
    """The data and settings of one training run in a directory."""

    path: Path
    owner: str  # whose checkpoints these are
    batches: FixedBatches
    held_out: FixedBatches  # empty, or what the final model is chosen by
    batch_experts: Sequence[Collection[Expert]] | None  # None: baseline, or `--masking none`
    shared: Hyperparameters
    checkpoint: Path | None  # where to resume from
    alternating: AlternatingTask | None = None  # None: the routers stay locked


@dataclass(frozen=True, slots=True)
class FitResult:
    """Proof, steps and measurements of a finished training."""

    proof: TrainingProof
    steps: tuple[StepRecord, ...]
    validation: tuple[ValidationLoss, ...]
    final_step: int  # whose weights the model holds
    peak_memory_bytes: int
    peak_memory_of: str
    experts_dtype: str
    phases: tuple[PhaseRecord, ...]


def fit_arm(config: MoeConfig, loaded: LoadedModel, setup: ArmSetup, task: FitTask, notify: Notify) -> FitResult:
    """Train the arm on the batches.

    Raises:
        ValueError: the probe step reached other parameters than the requested ones.
        NumericError: a loss, a gradient or what an update made is not finite, in whichever process.
        StoppedError: a signal asked to stop; a checkpoint was saved.
        ArtifactError: the checkpoint that the final model is to come from is damaged.
    """
    journal = _journal(task)

    def on_step(step: StepRecord) -> None:
        if is_first():
            journal.append([step])
        notify(step)

    saving_memory = enable_checkpointing(loaded.model) if config.train.gradient_checkpointing else nullcontext()
    frozen = FrozenProof(setup.frozen_digest)
    trainer = _trainer(config, loaded, setup, task, on_step)
    keep_in_run(trainer, task.path)
    start_peak(loaded.device)
    with stop_requests() as stop, saving_memory:
        trainer.prove(partial(_probe, loaded, setup, task), frozen)
        if trainer.num_with_gradient < len(setup.trained):
            notify(Notice(text=_unreached(trainer.num_with_gradient, len(setup.trained)), warning=True))
        loop = StepLoop(trainer, stop, config.train.checkpoint_every, task.held_out)
        trainer.add_callback(loop)
        trainer.train(resume_from_checkpoint=str(task.checkpoint) if task.checkpoint else None)
    if loop.stopped_by and trainer.state.global_step < trainer.state.max_steps:
        raise StoppedError(
            f"stopped by {loop.stopped_by} after step {trainer.state.global_step} of {trainer.state.max_steps}; "
            f"a checkpoint was saved in {task.path}",
            hint="run the same command with --resume to go on",
        )
    peak, peak_of = _largest_peak(loaded.device)
    validation = tuple(trainer.validation)
    final_step = load_best(task.path, validation, trainer.trained) if validation else trainer.state.max_steps
    setup.write()
    source = f"what the updates up to step {final_step} made"  # the last update has no loss after it
    refuse_not_finite(trainer.trained.items(), source, hint="train into another directory with a lower learning rate")
    digest_after = frozen.check()
    if num_ranks() > 1 and len(set(gathered(digest_of_tensors(trainer.trained.items())))) > 1:
        raise AssertionError("the processes trained different weights; nothing is written")
    return FitResult(
        proof=TrainingProof(
            requested=len(trainer.trained),
            in_optimizer=loop.count_in_optimizer(),
            with_gradient=trainer.num_with_gradient,
            frozen_digest_before=frozen.before,
            frozen_digest_after=digest_after,
            num_moved=setup.num_moved() if setup.num_moved else None,
            num_parameters=len(setup.trained) if setup.num_moved else None,
        ),
        steps=tuple(journal.records()) if is_first() else (),
        validation=validation,
        final_step=final_step,
        peak_memory_bytes=peak,
        peak_memory_of=peak_of,
        experts_dtype=_dtype_of_experts(setup),
        phases=tuple(trainer.phases),
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
    shared_arguments = (loaded.model, arguments, task.batches, setup.trained, task.owner, on_step)
    if setup.slices is None:
        return FixedBatchTrainer(*shared_arguments)
    if setup.routers is None or task.alternating is None:
        trainer = ExpertMaskingTrainer(*shared_arguments)
        trainer.mask_with(setup.slices, task.batch_experts)
        return trainer
    alternating = task.alternating
    arguments.num_train_epochs = len(alternating.schedule.epochs)
    phase = RouterPhase(loaded.model, setup.routers, task.batches, alternating.paired, alternating.settings)
    warmup_steps: dict[Phase, int] = {
        "experts": int(task.shared["warmup_steps"] or 0),
        "router": alternating.warmup_steps,
    }
    trainer_of = JointTrainer if alternating.settings.joint else AlternatingTrainer
    both = trainer_of(*shared_arguments)
    both.mask_with(setup.slices, task.batch_experts)
    both.alternate(alternating.schedule, setup.routers, phase, alternating.settings, warmup_steps, alternating.reselect)
    return both


def _probe(loaded: LoadedModel, setup: ArmSetup, task: FitTask) -> int:
    """Check that the loss of the answers reaches exactly the parameters it trains; returns how many."""
    requested = setup.slices.parameters if setup.slices is not None else setup.trained
    if not requested:  # no expert trains, and of the routers the trainer asks itself
        return 0
    loss = partial(_probe_loss, loaded, setup, task)
    return probe_gradients(loaded.model, loss, list(requested.values()), all_of_them=setup.slices is not None)


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
    """Journal that starts with the steps of the checkpoint; later steps are done again."""
    path = task.path / layout.STEPS
    if is_first():
        write_atomic(path, (task.checkpoint / layout.STEPS).read_bytes() if task.checkpoint else b"")
    return Journal(path, StepRecord)


def _largest_peak(device: torch.device) -> tuple[int, str]:
    """Peak memory in bytes of the process that needed most, and what it measures."""
    peak, what = max(gathered(peak_bytes(device)))
    return peak, what if num_ranks() == 1 else f"{what}, the largest of {num_ranks()}"


def _dtype_of_experts(setup: ArmSetup) -> str:
    dtype = setup.experts_dtype()
    if dtype is None:
        raise AssertionError("no forward reached the experts")
    return str(dtype).removeprefix("torch.")
