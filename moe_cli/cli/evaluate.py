"""`moe evaluate`: parses the options, evaluates a model or answers, and prints the result."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Annotated

import typer

from moe_cli.cli import answer_options, evaluate_options, options
from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.session import Session, open_session
from moe_cli.errors import UsageError
from moe_cli.records import STAGES, Stage


@catch_errors
def evaluate(
    run_or_model: Annotated[str | None, typer.Argument(help="Training run, its final_model, or a model.")] = None,
    model_path: Annotated[str | None, typer.Option(help="The same as the argument.")] = None,
    output_name: Annotated[str | None, typer.Option(help="Name of the evaluation (default).")] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(help="Items: file, folder, hub data set; `harmful=FILE` says their kind. Repeatable."),
    ] = None,
    answers: evaluate_options.AnswerFiles = None,
    kind: evaluate_options.KindOfAnswers = None,
    map: options.Map = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N items of every suite.")] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(help="`generate`, `judge`, `drift` or `capability`: do it anew, whatever is there. Repeatable."),
    ] = None,
    engine: answer_options.Engine = None,
    base_url: answer_options.BaseUrl = None,
    api_model: answer_options.ApiModel = None,
    api_key_env: answer_options.ApiKeyEnv = None,
    concurrency: answer_options.Concurrency = None,
    max_new_tokens: evaluate_options.MaxNewTokens = None,
    epochs: evaluate_options.Epochs = None,
    temperature: evaluate_options.Temperature = None,
    batch_size: evaluate_options.BatchSize = None,
    batch_tokens: evaluate_options.BatchTokens = None,
    judges: options.Judges = None,
    judge_url: options.JudgeUrl = None,
    judge_model: options.JudgeModel = None,
    judge_key_env: options.JudgeKeyEnv = None,
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
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Measure safety, over-refusal, capability and drift of one model, or judge answers that exist already.

    The stages are generate, judge, drift and capability; what an earlier evaluation of the same weights has is taken
    over, so that another judge reads the same answers.

    Example: moe evaluate unsafe_expert_finetuned_batch

    Example: moe evaluate allenai/OLMoE-1B-7B-0125-Instruct --items items.jsonl --gpu 0

    Example: moe evaluate full_model_baseline --judge wildguard --judge keywords --capability arc_easy

    Example: moe evaluate full_model_baseline --engine openai --base-url http://localhost:8000/v1

    Example: moe evaluate --answers completions.json --judge harmbench

    Example: moe evaluate --answers answers.csv --kind harmful --dry-run
    """
    words = dict(locals())
    named = [word for word in (run_or_model, model_path) if word is not None]
    session = open_session(
        "evaluate", {**words, "model_name": named[0] if named else None}, output_name="evaluate.name"
    )
    stages, of_files = _stages(again or ()), bool(session.config.evaluate.answers)
    _refuse_targets(named, of_files)
    if dry_run:
        _show_answers(session) if of_files else _show_dry_run(session, named[0])
        return
    with session.importing():
        from moe_cli.evaluate import answers_stage, stage
        from moe_cli.views.evaluated import evaluated_view

    with session.reporter() as notify:
        if of_files:
            made = answers_stage.run(session.config, session.store, notify, resume=resume, again=stages)
        else:
            made = stage.run(named[0], session.config, session.store, notify, resume=resume, again=stages)
    done = f"wrote {made.path}; next: moe compare OUT_A OUT_B, when both are evaluated"
    if of_files:
        done = f"wrote {made.path}; next: moe compare {quote(str(made.path))} OTHER, when both are evaluated"
    session.show(made.summary, evaluated_view(made.summary), done)


def _refuse_targets(named: Sequence[str], of_files: bool) -> None:
    """Refuse anything but one model, or answers without a model.

    Raises:
        UsageError: two targets, none, or one beside answers.
    """
    if of_files and named:
        raise UsageError(
            f"--answers judges answers that exist already: nothing shows that {named[0]} gave them",
            hint="leave the model away, or leave --answers away and let the model answer",
        )
    if len(named) != 1 and not of_files:
        raise UsageError(
            "name exactly one run or model to evaluate",
            hint="moe evaluate RUN_OR_MODEL, or moe evaluate --answers FILE",
        )


def _show_answers(session: Session) -> None:
    """Show what is recognised in the files of answers, and why an evaluation would not begin with them."""
    from moe_cli.evaluate.preview import preview_answers
    from moe_cli.views.source_tables import answers_preview_view

    preview, refusal = preview_answers(session.config)
    session.show_dry_run(preview, answers_preview_view(preview), refusal)


def _show_dry_run(session: Session, target: str) -> None:
    """Show what is recognised in the items, and why an evaluation would not begin with them."""
    from moe_cli.evaluate.preview import preview_evaluation
    from moe_cli.views.source_tables import items_preview_view

    preview, refusal = preview_evaluation(target, session.config, session.store)
    session.show_dry_run(preview, items_preview_view(preview), refusal)


def _stages(words: Sequence[str]) -> tuple[Stage, ...]:
    """The stages named on the command line.

    Raises:
        UsageError: a word is none of them.
    """
    unknown = [word for word in words if word not in STAGES]
    if unknown:
        raise UsageError(f"--again {unknown[0]} is no stage", hint=f"the stages are {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in words)
