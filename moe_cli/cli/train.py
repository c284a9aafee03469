"""`moe train selective | baseline`: parses the options, trains, and prints the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.cli import options
from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.session import open_session
from moe_cli.records import Arm
from moe_cli.tiny import MODEL_NAME

app = typer.Typer(no_args_is_help=True, help="Train one of the two arms on the same batches.")

Prepared = Annotated[Path | None, typer.Option(help="Prepare run; default: the newest one of the same model.")]
NumEpochs = Annotated[int | None, typer.Option(help="Passes over the batches (3).")]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate (5e-5).")]
MaxLength = Annotated[int | None, typer.Option(help="Longest row in tokens (1024).")]
Accumulation = Annotated[int | None, typer.Option(help="Fixed batches in one step (1).")]
CheckpointEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints; default: every epoch.")]


@app.command("selective")
@catch_errors
def selective(
    model_name: options.ModelName = None,
    output_dir: options.OutputDir = None,
    prepared: Prepared = None,
    masking: Annotated[str | None, typer.Option(help="update: each batch updates its own experts; none.")] = None,
    max_share: Annotated[float | None, typer.Option(help="Refuse a larger trainable share.")] = None,
    num_epochs: NumEpochs = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = None,
    gradient_accumulation_steps: Accumulation = None,
    checkpoint_every: CheckpointEvery = None,
    gpu: options.Gpu = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    registry: options.Registry = None,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train only the selected expert MLPs; each batch updates its own experts.

    Example: moe train selective --model tiny

    Example: moe train selective --prepared prepared --gpu 0 --num-epochs 3
    """
    _train("selective", locals())


@app.command("baseline")
@catch_errors
def baseline(
    model_name: options.ModelName = None,
    output_dir: options.OutputDir = None,
    prepared: Prepared = None,
    num_epochs: NumEpochs = None,
    learning_rate: LearningRate = None,
    max_length: MaxLength = None,
    gradient_accumulation_steps: Accumulation = None,
    checkpoint_every: CheckpointEvery = None,
    gpu: options.Gpu = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    registry: options.Registry = None,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train all parameters on exactly the same batches with the same settings: the control.

    Example: moe train baseline --model tiny

    Example: moe train baseline --prepared prepared --gpu 1
    """
    _train("baseline", locals())


def _train(arm: Arm, words: Mapping[str, object]) -> None:
    session = open_session("train", words, output_dir=f"train.{arm}_dir")
    if words["dry_run"]:
        session.show_settings_of_run()
        if session.config.train.prepared is not None:
            require_unchanged_run(session.config.train.prepared, session.store, "prepare")
        return
    with session.importing():
        from moe_cli.train import stage
        from moe_cli.views.model_card import model_card
        from moe_cli.views.trained import trained_view

    with session.reporter() as notify:
        made = stage.run(arm, session.config, session.store, notify, resume=bool(words["resume"]), card=model_card)
    items = "" if made.summary.base.name == MODEL_NAME or session.config.evaluate.items else " --items ITEMS.jsonl"
    config = f" --config {quote(str(words['config']))}" if words["config"] is not None else ""
    then = f"moe evaluate {quote(str(made.path))}{items}{config}"
    session.show(made.summary, trained_view(made.summary), f"wrote {made.path}; next: {then}")
