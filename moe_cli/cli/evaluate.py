"""`moe evaluate`: words typed -> one call -> one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_cli.cli import options
from moe_cli.cli.boundary import bounded
from moe_cli.cli.session import open_session
from moe_cli.errors import UsageError


@bounded
def evaluate(
    run_or_model: Annotated[str | None, typer.Argument(help="Training run, its final_model, or a model.")] = None,
    model_path: Annotated[str | None, typer.Option(help="The same as the argument.")] = None,
    output_name: Annotated[str | None, typer.Option(help="Name of the evaluation (default).")] = None,
    items: Annotated[list[Path] | None, typer.Option(help="JSONL of items; repeatable; `tiny` brings its own.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N items of every suite.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens (512).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Prompts answered at once (32).")] = None,
    max_unscored: Annotated[float | None, typer.Option(help="Largest share without a verdict (0.02).")] = None,
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
    """Measure safety, over-refusal, capability and drift of one model.

    Example: moe evaluate unsafe_expert_finetuned_batch

    Example: moe evaluate allenai/OLMoE-1B-7B-0125-Instruct --items items.jsonl --gpu 0
    """
    target = run_or_model if run_or_model is not None else model_path
    if target is None or (run_or_model is not None and model_path is not None):
        raise UsageError("name exactly one run or model to evaluate", hint="moe evaluate RUN_OR_MODEL")
    session = open_session("evaluate", {**locals(), "model_name": target}, output_name="evaluate.name")
    if dry_run:
        session.show_settings()
        return
    from moe_cli.evaluate import stage
    from moe_cli.views.evaluated import evaluated_view

    with session.reporter() as notify:
        made = stage.run(target, session.config, session.store, notify, resume=resume)
    done = f"wrote {made.path}; next: moe compare OUT_A OUT_B, when both are evaluated"
    session.show(made.summary, evaluated_view(made.summary), done)
