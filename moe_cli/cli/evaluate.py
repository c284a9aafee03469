"""`moe evaluate`: words typed -> one call -> one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from moe_cli.cli import evaluate_options, options
from moe_cli.cli.boundary import bounded
from moe_cli.cli.session import open_session
from moe_cli.errors import UsageError
from moe_cli.records import STAGES, Stage


@bounded
def evaluate(
    run_or_model: Annotated[str | None, typer.Argument(help="Training run, its final_model, or a model.")] = None,
    model_path: Annotated[str | None, typer.Option(help="The same as the argument.")] = None,
    output_name: Annotated[str | None, typer.Option(help="Name of the evaluation (default).")] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(help="Items: file, folder or hub data set; repeatable; `tiny` brings its own."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N items of every suite.")] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(help="`generate`, `judge`, `drift` or `capability`: do it anew, whatever is there. Repeatable."),
    ] = None,
    max_new_tokens: evaluate_options.MaxNewTokens = None,
    epochs: evaluate_options.Epochs = None,
    temperature: evaluate_options.Temperature = None,
    batch_size: evaluate_options.BatchSize = None,
    batch_tokens: evaluate_options.BatchTokens = None,
    judges: evaluate_options.Judges = None,
    judge_url: evaluate_options.JudgeUrl = None,
    judge_model: evaluate_options.JudgeModel = None,
    judge_key_env: evaluate_options.JudgeKeyEnv = None,
    max_unscored: evaluate_options.MaxUnscored = None,
    capability: evaluate_options.Capability = None,
    capability_limit: evaluate_options.CapabilityLimit = None,
    capability_tasks: evaluate_options.CapabilityTasks = None,
    restore_router: evaluate_options.RestoreRouter = None,
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

    The stages are generate, judge, drift and capability; what an earlier evaluation of the same weights has is taken
    over, so that another judge reads the same answers.

    Example: moe evaluate unsafe_expert_finetuned_batch

    Example: moe evaluate allenai/OLMoE-1B-7B-0125-Instruct --items items.jsonl --gpu 0

    Example: moe evaluate full_model_baseline --judge wildguard --judge keywords --capability arc_easy
    """
    words = dict(locals())
    target = run_or_model if run_or_model is not None else model_path
    if target is None or (run_or_model is not None and model_path is not None):
        raise UsageError("name exactly one run or model to evaluate", hint="moe evaluate RUN_OR_MODEL")
    session = open_session("evaluate", {**words, "model_name": target}, output_name="evaluate.name")
    stages = _stages(again or ())
    if dry_run:
        session.show_settings()
        return
    with session.importing():
        from moe_cli.evaluate import stage
        from moe_cli.views.evaluated import evaluated_view

    with session.reporter() as notify:
        made = stage.run(target, session.config, session.store, notify, resume=resume, again=stages)
    done = f"wrote {made.path}; next: moe compare OUT_A OUT_B, when both are evaluated"
    session.show(made.summary, evaluated_view(made.summary), done)


def _stages(words: Sequence[str]) -> tuple[Stage, ...]:
    """The stages that the words name.

    Raises:
        UsageError: a word is none of them.
    """
    unknown = [word for word in words if word not in STAGES]
    if unknown:
        raise UsageError(f"--again {unknown[0]} is no stage", hint=f"the stages are {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in words)
