"""The Trainer's arguments, the same for both arms, and the trackers that follow a training.

Whatever could make the arms differ, or write pickles, or print, is set here only.

TensorBoard writes below the run directory, into `tensorboard/`, so that its files are the run's own: they are in the
manifest, and an interrupted run has them. The other trackers write where their own settings say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

from transformers import Trainer, TrainingArguments
from transformers.integrations import (
    TensorBoardCallback,
    get_available_reporting_integrations,
    get_reporting_integration_callbacks,
)

from moe_cli.artifacts import layout
from moe_cli.config import MoeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.ranks import is_first, num_ranks
from moe_cli.records.training import BATCHES_PER_STEP

WARMUP_CAP = 0.1  # of the run
# What accelerate reads of the environment and what changes the weights that come out; what a number is computed by.
OF_ACCELERATE = re.compile(
    "ACCELERATE_(MIXED_PRECISION|DYNAMO_.+|USE_.+|GRADIENT_ACCUMULATION_STEPS|TORCH_DEVICE|DOWNCAST_BF16|FP8_.+)"
)
NOTHING = ("", "no", "none", "false", "0", "off")
OF_ARITHMETIC = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "MKL_CBWR", "CUBLAS_WORKSPACE_CONFIG")

Hyperparameters = dict[str, str | int | float | bool | None]
DISTRIBUTIONS = {"azure_ml": "azureml-core", "comet_ml": "comet-ml", "flyte": "flytekit"}  # where they are named so
TENSORBOARD_ELSEWHERE = "TENSORBOARD_LOGGING_DIR"  # transformers' own


def refuse_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse environment variables by which accelerate would train differently from what settings and records say.

    Raises:
        EnvironmentFaultError: there is one; all are named.
    """
    variables = sorted(
        f"{name}={value}"
        for name, value in environment.items()
        if OF_ACCELERATE.fullmatch(name) and value.lower() not in NOTHING
    )
    if variables:
        raise EnvironmentFaultError(
            f"the environment changes how accelerate trains: {', '.join(variables)}",
            hint="unset it for both arms; moe sets precision and accumulation itself (model.dtype, train.*)",
        )


def arithmetic(environment: Mapping[str, str] = os.environ) -> str | None:
    """Environment variables that change how numbers are computed, to record and compare; None: there are none."""
    return ", ".join(f"{name}={environment[name]}" for name in OF_ARITHMETIC if name in environment) or None


def batches_per_step(config: MoeConfig) -> int:
    """Fixed batches in one step, those of all processes together: whoever takes them, the step is the same."""
    return config.train.gradient_accumulation_steps * num_ranks()


def num_steps(config: MoeConfig, num_batches: int) -> int:
    """Number of optimizer steps of the whole run."""
    return ceil(num_batches / batches_per_step(config)) * config.train.num_epochs


def hyperparameters(config: MoeConfig, num_batches: int, num_held_out: int, num_cut: int) -> Hyperparameters:
    """The hyperparameters that both arms must share, to record and compare."""
    settings = config.train
    return {
        "optimizer": "AdamW (fused)",
        "learning_rate": settings.learning_rate,
        "schedule": "linear",
        "warmup_steps": min(settings.warmup_steps, int(WARMUP_CAP * num_steps(config, num_batches))),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "num_epochs": settings.num_epochs,
        "num_batches": num_batches,
        "validation_batches": settings.validation_batches,
        "validation_rows": num_held_out,
        BATCHES_PER_STEP: batches_per_step(config),
        "max_length": settings.max_length,
        "prompts_cut": num_cut,
        "max_padding": settings.max_padding,
        "max_forward_tokens": settings.max_forward_tokens,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": config.seed,
        "arithmetic": arithmetic(),
    }


def training_arguments(
    config: MoeConfig, shared: Hyperparameters, output: Path, *, use_cpu: bool, bfloat16: bool
) -> TrainingArguments:
    """Arguments of the Trainer; `bfloat16` autocasts what is not an expert (baseline with float32 masters)."""
    settings = config.train
    trackers = settings.report_to if is_first() else ()
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=settings.num_epochs,
        per_device_train_batch_size=1,  # one element of the dataset is one whole fixed batch
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        warmup_steps=int(shared["warmup_steps"] or 0),
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        seed=config.seed,
        data_seed=config.seed,
        bf16=bfloat16,
        use_cpu=use_cpu,
        save_strategy="no",
        logging_strategy="steps" if trackers else "no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(trackers) or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        dataloader_num_workers=settings.workers,
    )
    if not use_cpu and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several visible cards would mean nn.DataParallel, which splits fixed batches
    return arguments


def refuse_missing_trackers(trackers: Sequence[str]) -> None:
    """Refuse trackers that are unknown or not installed.

    Raises:
        UsageError: transformers knows none of this name.
        EnvironmentFaultError: it is not installed.
    """
    for tracker in trackers:
        try:
            (callback,) = get_reporting_integration_callbacks([tracker])
        except ValueError as error:
            raise UsageError(f"train.report_to: {error}", hint="tensorboard writes into the run directory") from error
        if tracker in get_available_reporting_integrations():
            continue
        package = DISTRIBUTIONS.get(tracker, tracker)
        raise EnvironmentFaultError(
            f"train.report_to asks for {tracker}, which is not installed ({callback.__name__} needs it)",
            hint=f"pip install {package}, or leave {tracker} out of train.report_to",
        )


def keep_in_run(trainer: Trainer, run: Path) -> None:
    """Let TensorBoard write into the run directory, unless the environment names another place."""
    if os.environ.get(TENSORBOARD_ELSEWHERE):
        return
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(run / layout.TENSORBOARD)
