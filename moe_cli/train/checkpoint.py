"""Checkpoints that are whole or absent, and that restore every bit.

    checkpoint-12/  parameters.safetensors  optimizer.safetensors  random.safetensors
                    steps.jsonl  state.json  trainer_state.json  digests.json

A checkpoint holds the state at the end of a step. Where the weights that train are sharded, the first two are folders
of safetensors files (`tensor_files.py`). It has no pickle and is published by rename, with a sha256 of every file.
Inside a phase of the routers, or a joint one, phase.safetensors holds its targets. Parameters are matched by name,
strictly. An optimizer state that did not exist (an expert never updated so far) does not exist after loading either. A
checkpoint of another base model, arm or prepare run is refused. The newest checkpoint is kept and, where batches are
held out, the best one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerState

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import atomic_directory, check_checksums, naming_file, write_checksums
from moe_cli.codec import decode_file, decode_lines, encode
from moe_cli.errors import ArtifactError
from moe_cli.model.tensors import refuse_not_finite
from moe_cli.ranks import gathered, is_first, led
from moe_cli.records import CheckpointState, StepRecord, ValidationLoss
from moe_cli.records.record import JsonObject
from moe_cli.records.training import PhaseRecord
from moe_cli.train.tensor_files import load_tensors, save_random_states, save_tensors

PARAMETERS = "parameters.safetensors"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
PHASE = "phase.safetensors"  # of an alternating run, inside a phase in which routers train
STATE = "state.json"
TRAINER_STATE = "trainer_state.json"  # the name that the Trainer reads on resume
FRACTIONS = ("epoch", "total_flos")  # of the Trainer's state, which begin as the whole number 0
ENTRIES = ("step", "exp_avg", "exp_avg_sq")  # that AdamW keeps of a weight
CHECKPOINTS = "checkpoint-*"
NAME = re.compile(r"^checkpoint-(\d+)$")

Parameters = Mapping[str, nn.Parameter]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What a training knows beside parameters, optimizer and schedule."""

    validation: tuple[ValidationLoss, ...]
    batches_per_step: int
    phases: tuple[PhaseRecord, ...]
    of_phase: Mapping[str, Tensor]  # what the phase under way was begun with; empty where it needs nothing


def save_checkpoint(
    run: Path,
    owner: str,
    parameters: Parameters,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    trainer_state: TrainerState,
    progress: TrainingProgress,
    random: Sequence[Mapping[str, Tensor]],
) -> Path:
    """Write `checkpoint-{step}` into the run directory; `owner` identifies the run whose state it is.

    `random` are the `random_states` of every process. All processes call it; the first writes, and of sharded weights
    each writes its share. Older checkpoints are removed, except the one with the lowest validation loss.

    Raises:
        NumericError: an update made NaN or infinity; nothing is written, and older ones stay.
    """
    path = path_after(run, trainer_state.global_step)
    moments = _optimizer_tensors(parameters, optimizer)
    refuse_not_finite(
        (*parameters.items(), *moments.items()),
        f"what the updates up to step {trainer_state.global_step} made, which was not saved,",
        hint="train into another directory with a lower learning rate; checkpoints of earlier steps are kept",
    )
    with led(atomic_directory(path)) as staging:
        save_tensors(parameters, staging / PARAMETERS)
        save_tensors(moments, staging / OPTIMIZER)
        gathered(None)  # all have written their shares
        if not is_first():
            return path
        save_random_states(random, staging / RANDOM)
        if progress.of_phase:
            save_file({name: tensor.contiguous() for name, tensor in progress.of_phase.items()}, staging / PHASE)
        state = CheckpointState(
            owner=owner,
            step=trainer_state.global_step,
            schedule_position=scheduler.last_epoch,
            learning_rates=tuple(float(group["lr"]) for group in optimizer.param_groups),
            validation=progress.validation,
            batches_per_step=progress.batches_per_step,
            phases=progress.phases,
        )
        (staging / STATE).write_bytes(encode(state))
        shutil.copyfile(run / layout.STEPS, staging / layout.STEPS)
        trainer_state.save_to_json(str(staging / TRAINER_STATE))
        write_checksums(staging)
    drop_checkpoints(run, but=[path, *(path_after(run, best.step) for best in lowest_loss(progress.validation))])
    return path


def path_after(run: Path, step: int) -> Path:
    """Path of the checkpoint after a step."""
    return run / f"checkpoint-{step}"


def lowest_loss(validation: Sequence[ValidationLoss]) -> list[ValidationLoss]:
    """The entry with the lowest loss, the earliest of equal ones, as a list; empty where nothing was measured."""
    return sorted(validation, key=lambda measured: (measured.loss, measured.step))[:1]


def drop_checkpoints(run: Path, *, but: Collection[Path] = ()) -> None:
    """Remove every checkpoint but those in `but`, half-written ones too: a complete run needs only its final model.

    A crash in between leaves what a resumed run can use: each is renamed as a whole before its files are deleted, and
    the newest goes first, since it may need an older one that is the best.
    """
    for _, path in sorted(_checkpoints(run), reverse=True):
        if path not in but:
            path.rename(path.with_name(f".{path.name}.partial"))
    for path in run.glob(f".{CHECKPOINTS}.partial"):
        shutil.rmtree(path)


def newest_checkpoint(run: Path, owner: str, num_batches: int) -> Path | None:
    """The checkpoint of the highest step; None where there is none. `num_batches` make a step of this run.

    Raises:
        ArtifactError: a file of it, or of the best one so far, is missing or changed; or the state is another run's.
    """
    if not (checkpoints := _checkpoints(run)):
        return None
    step, path = max(checkpoints)
    hint = f"remove {path}; --resume then goes on from the checkpoint before it, or begins again where there is none"
    check_checksums(path, hint=hint)
    state = read_state(path)
    if state.step != step:
        raise ArtifactError(f"{path} holds the state after step {state.step}: it was renamed", hint=hint)
    if state.batches_per_step != num_batches:
        raise ArtifactError(
            f"{path} was saved by a run of {state.batches_per_step} batches per step, and this one would take "
            f"{num_batches} (processes x train.gradient_accumulation_steps)",
            hint="resume with a number of processes and of batches in each whose product is the same",
        )
    if state.owner != owner:
        raise ArtifactError(
            f"{path} holds the state of another base model, arm or prepare run",
            hint="resume with the settings the run was begun with, or choose another directory",
        )
    for best in lowest_loss(state.validation):
        _check_best(run, best.step)
    if [record.step for record in decode_lines(StepRecord, path / layout.STEPS)] != list(range(1, step + 1)):
        raise ArtifactError(f"{path / layout.STEPS} does not hold the steps 1 to {step}, each once", hint=hint)
    _check_trainer_state(path / TRAINER_STATE, step, hint)
    return path


def _check_trainer_state(file: Path, step: int, hint: str) -> None:
    """Refuse a state file with fields or types that the Trainer does not write, as the Trainer reads it unchecked.

    Raises:
        ArtifactError: it is not the Trainer's after `step` steps.
    """
    with naming_file(file, hint=hint):
        fields, own = decode_file(JsonObject, file), vars(TrainerState())
        saved = vars(TrainerState(**fields))  # type: ignore[arg-type]
        wrong = [name for name, value in saved.items() if not _is_like(name, value, own[name])]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} of another type")
    if saved["global_step"] != step or not 0 <= saved["epoch"] <= step:
        raise ArtifactError(f"{file} is not of step {step}, but of step {saved['global_step']}", hint=hint)


def _is_like(name: str, value: object, own: object) -> bool:
    """Whether a field of the Trainer's state has the type of its default; fields whose default is None are not used."""
    return own is None or type(value) is type(own) or (name in FRACTIONS and isinstance(value, float))


def read_state(path: Path) -> CheckpointState:
    """Read the state file of a checkpoint."""
    return decode_file(CheckpointState, path / STATE)


def load_best(run: Path, validation: Sequence[ValidationLoss], parameters: Parameters) -> int:
    """Load the parameters of the checkpoint with the lowest loss; returns its step.

    Raises:
        ArtifactError: a file of it is missing or changed.
    """
    (best,) = lowest_loss(validation)
    _check_best(run, best.step)
    load_parameters(path_after(run, best.step), parameters)
    return best.step


def _checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Step and path of each checkpoint."""
    return [(int(match[1]), path) for path in run.iterdir() if (match := NAME.match(path.name))]


def _check_best(run: Path, step: int) -> None:
    check_checksums(path_after(run, step), hint=f"remove every checkpoint in {run}; --resume then begins again")


def load_parameters(path: Path, parameters: Parameters) -> None:
    """Load the saved values into the parameters.

    Raises:
        ArtifactError: the names, shapes or dtypes are not exactly those of `parameters`.
        NumericError: a value is NaN or infinity.
    """
    with naming_file(path / PARAMETERS):
        saved = _finite(path, load_tensors(path / PARAMETERS, parameters))
    wrong = sorted(saved.keys() ^ parameters.keys())
    wrong += [name for name in saved.keys() & parameters.keys() if not _has_form_of(saved[name], parameters[name])]
    if wrong:
        raise ArtifactError(
            f"{path} holds other parameters than this run trains: {', '.join(wrong[:3])} ({len(wrong)} in all)",
            hint="resume with the selection and the model the run was begun with",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def _has_form_of(saved: Tensor, parameter: Tensor) -> bool:
    return saved.shape == parameter.shape and saved.dtype == parameter.dtype


def load_optimizer(path: Path, parameters: Parameters, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Restore moments and step counts (absent ones stay absent), and the position in the learning rate schedule."""
    optimizer.state.clear()
    with naming_file(path / OPTIMIZER):
        entries = load_tensors(path / OPTIMIZER, parameters, of_parameter=_parameter_of)
        for key, tensor in _finite(path, entries).items():
            name, _, entry = key.rpartition("/")
            parameter = parameters[name]
            fits = _has_form_of(tensor, parameter)
            if entry == "step":
                fits = tensor.shape == () and tensor.is_floating_point()
            if entry not in ENTRIES or not fits:
                raise ValueError(f"{key} is {tensor.dtype} {tuple(tensor.shape)}, of a weight {tuple(parameter.shape)}")
            # The optimizer keeps its step count where it made it: on the CPU unless it is fused on a card.
            device = parameter.device if entry != "step" or optimizer.param_groups[0].get("fused") else "cpu"
            optimizer.state[parameter][entry] = tensor.to(device)
        if any(len(state) != len(ENTRIES) for state in optimizer.state.values()):
            raise ValueError(f"a weight has not all of {', '.join(ENTRIES)}")
    state = read_state(path)
    with naming_file(path / STATE):
        for group, rate in zip(optimizer.param_groups, state.learning_rates, strict=True):
            group["lr"] = rate
    position = {"last_epoch": state.schedule_position, "_step_count": state.schedule_position + 1}
    scheduler.load_state_dict({**scheduler.state_dict(), **position, "_last_lr": list(state.learning_rates)})


def load_phase(path: Path) -> dict[str, Tensor]:
    """What the phase under way was begun with; empty where it needs nothing."""
    if not (path / PHASE).exists():
        return {}
    with naming_file(path / PHASE):
        return _finite(path, load_file(path / PHASE))


def _finite(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    hint = f"remove {path}; --resume then goes on from the checkpoint before it, or begins again where there is none"
    refuse_not_finite(tensors.items(), str(path), hint=hint)
    return tensors


def _parameter_of(key: str) -> str:
    """Name of the parameter that an entry of the optimizer is of."""
    return key.rpartition("/")[0]


def _optimizer_tensors(parameters: Parameters, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{entry}": tensor.detach().contiguous()
        for name, parameter in parameters.items()
        for entry, tensor in optimizer.state.get(parameter, {}).items()
    }
