"""`moe evaluate`: parses the options, evaluates a model or answers, and prints the result."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import (
    ANSWERS,
    CAPABILITY,
    ENDPOINT,
    HARDWARE,
    JUDGE,
    JUDGES,
    REGISTRY,
    SEED,
    DryRun,
    Json,
    NumProcesses,
    Resume,
    TypedSettings,
    Verbose,
    option,
    options,
    with_settings,
)
from moe_cli.cli.processes import begin_processes
from moe_cli.errors import UsageError
from moe_cli.ranks import joined
from moe_cli.rounds import alone

if TYPE_CHECKING:
    from moe_cli.cli.session import Session
    from moe_cli.records import Stage

SETTINGS = (
    option("evaluate.name", "--output-name"),
    *options("evaluate.items", "evaluate.map", "evaluate.limit"),
    *options("evaluate.answers", "evaluate.kind", "evaluate.engine", panel=ANSWERS),
    *ENDPOINT,
    *options("evaluate.max_new_tokens", "evaluate.epochs", "evaluate.temperature", panel=ANSWERS),
    *options("evaluate.batch_size", "evaluate.batch_tokens", panel=ANSWERS),
    option("evaluate.judges", "--judge", panel=JUDGES),
    *JUDGE,
    option("evaluate.max_unscored", panel=JUDGES),
    *options("evaluate.capability", "evaluate.capability_limit", "evaluate.capability_tasks", panel=CAPABILITY),
    *options("evaluate.restore_router", "evaluate.steer", panel=CAPABILITY),
    *HARDWARE,
    SEED,
    REGISTRY,
)


@catch_errors
@with_settings(*SETTINGS)
def evaluate(
    typed: TypedSettings,
    run_or_model: Annotated[str | None, typer.Argument(help="Training run, its final_model, or a model.")] = None,
    model_path: Annotated[str | None, typer.Option(help="The same as the argument.")] = None,
    again: Annotated[
        list[str] | None,
        typer.Option(help="`generate`, `judge`, `drift` or `capability`: do it anew, whatever is there. Repeatable."),
    ] = None,
    nproc: NumProcesses = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Measure safety, over-refusal, capability and drift of one model, or judge answers that exist already.

    The stages are generate, judge, drift and capability; what an earlier evaluation of the same weights has is taken
    over, so that another judge reads the same answers.

    Example: moe evaluate unsafe_expert_finetuned_batch

    Example: moe evaluate allenai/OLMoE-1B-7B-0125-Instruct --items items.jsonl --gpu 0

    Example: moe evaluate full_model_baseline --items items.jsonl --gpu 0,1 --nproc 2

    Example: moe evaluate full_model_baseline --judge wildguard --judge keywords --capability arc_easy

    Example: moe evaluate full_model_baseline --steer steer.json

    Example: moe evaluate full_model_baseline --engine openai --base-url http://localhost:8000/v1

    Example: moe evaluate --answers completions.json --judge harmbench

    Example: moe evaluate --answers answers.csv --kind harmful --dry-run
    """
    from moe_cli.cli.session import open_session

    named = [word for word in (run_or_model, model_path) if word is not None]
    session = open_session(typed.having("model.name", next(iter(named), None)), json=json, verbose=verbose)
    stages, of_files = stages_named(again or ()), bool(session.config.evaluate.answers)
    refuse_targets(named, of_files)
    if dry_run:
        _show_answers(session) if of_files else _show_dry_run(session, named[0])
        return
    begin_processes(nproc)
    with session.importing():
        from moe_cli.evaluate import stage
        from moe_cli.evaluate.without_model import evaluate_answers
        from moe_cli.views.evaluated import evaluated_view

    with session.reporter() as notify, joined(session.config.model.rank_timeout):
        if of_files:
            run = partial(evaluate_answers, resume=resume, again=stages)
            result = alone(lambda: run(session.config, session.store, notify))
        else:
            result = stage.run(named[0], session.config, session.store, notify, resume=resume, again=stages)
    done = f"wrote {result.path}; next: moe compare OUT_A OUT_B, when both are evaluated"
    if of_files:
        done = f"wrote {result.path}; next: moe compare {quote(str(result.path))} OTHER, when both are evaluated"
    session.show(result.summary, evaluated_view(result.summary), done)


def refuse_targets(named: Sequence[str], of_files: bool) -> None:
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


def stages_named(names: Sequence[str]) -> tuple[Stage, ...]:
    """The stages named on the command line.

    Raises:
        UsageError: a word is none of them.
    """
    from moe_cli.records import STAGES

    unknown = [word for word in names if word not in STAGES]
    if unknown:
        raise UsageError(f"--again {unknown[0]} is no stage", hint=f"the stages are {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in names)
