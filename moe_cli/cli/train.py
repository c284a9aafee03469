"""`moe train selective | baseline | alternating`: parses the options, trains, and prints the result."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import (
    HARDWARE,
    MACHINE,
    MODEL,
    REGISTRY,
    SEED,
    DryRun,
    Json,
    NumProcesses,
    Resume,
    TypedSettings,
    option,
    options,
    with_settings,
)
from moe_cli.cli.processes import begin_processes
from moe_cli.ranks import joined

if TYPE_CHECKING:
    from moe_cli.records import Arm

app = typer.Typer(no_args_is_help=True, help="Train one of the arms on the same batches.")

OF_ONE_ARM = options("train.masking", "train.max_share")
OF_ROUNDS = (
    *options("alternating.num_rounds", "alternating.expert_epochs_per_round", "alternating.router_epochs_per_round"),
    option("train.learning_rate", "--expert-lr", "--learning-rate"),
    option("alternating.router_learning_rate", "--router-lr"),
    *options("alternating.router_consistency_weight"),
    *options("alternating.kl_type", "alternating.consistency_at", "alternating.consistency_target"),
    *options("alternating.consistency_over", "alternating.consistency_layers", "alternating.keep"),
    *options("alternating.temperature", "alternating.reselect"),
    *options("alternating.skip_router_training", "alternating.skip_expert_training"),
)
OF_BOTH_ARMS = options("train.num_epochs", "train.learning_rate")
OF_ALL_ARMS = (
    *options("train.prepared", "train.max_length"),
    *options("train.gradient_accumulation_steps", "train.checkpoint_every"),
    option("train.placement", panel=MACHINE),
    *HARDWARE,
    SEED,
    REGISTRY,
)


@app.command("selective")
@catch_errors
@with_settings(MODEL, option("train.selective_dir", "--output-dir", "-o"), *OF_ONE_ARM, *OF_BOTH_ARMS, *OF_ALL_ARMS)
def selective(
    typed: TypedSettings,
    nproc: NumProcesses = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train only the selected expert MLPs; each batch updates its own experts.

    Example: moe train selective --model tiny

    Example: moe train selective --prepared prepared --gpu 0 --num-epochs 3

    Example: moe train selective --prepared prepared --gpu 0,1 --nproc 2
    """
    _train("selective", typed, nproc, resume=resume, dry_run=dry_run, json=json)


@app.command("baseline")
@catch_errors
@with_settings(MODEL, option("train.baseline_dir", "--output-dir", "-o"), *OF_BOTH_ARMS, *OF_ALL_ARMS)
def baseline(
    typed: TypedSettings,
    nproc: NumProcesses = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train all parameters on exactly the same batches with the same settings: the control.

    Example: moe train baseline --model tiny

    Example: moe train baseline --prepared prepared --gpu 1
    """
    _train("baseline", typed, nproc, resume=resume, dry_run=dry_run, json=json)


@app.command("alternating")
@catch_errors
@with_settings(MODEL, option("alternating.output_dir", "--output-dir", "-o"), *OF_ROUNDS, *OF_ONE_ARM, *OF_ALL_ARMS)
def alternating(
    typed: TypedSettings,
    nproc: NumProcesses = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train the selected experts and the routers in turn: a third arm, which also changes routing.

    Experts train on the answers with the routers locked; then routers, with the experts locked, learn to route attacked
    goals like the plain ones. With --router-consistency-weight both train in the same steps, by one loss, to reproduce
    joint training.

    Example: moe train alternating --model tiny

    Example: moe train alternating --prepared prepared --num-rounds 3 --router-lr 1e-3

    Example: moe train alternating --prepared prepared --skip-router-training

    Example: moe train alternating --prepared prepared --router-consistency-weight 1 --consistency-target both
    """
    _train("alternating", typed, nproc, resume=resume, dry_run=dry_run, json=json)


def _train(arm: Arm, typed: TypedSettings, nproc: int | None, *, resume: bool, dry_run: bool, json: bool) -> None:
    from moe_cli.artifacts.registry import require_unchanged_run
    from moe_cli.cli.session import open_session
    from moe_cli.tiny import MODEL_NAME

    session = open_session(typed, json=json)
    if arm == "alternating":
        session.config.refuse_for_alternating()
    if dry_run:
        session.show_settings_of_run()
        if session.config.train.prepared is not None:
            require_unchanged_run(session.config.train.prepared, session.store, "prepare")
        return
    begin_processes(nproc)
    with session.importing():
        from moe_cli.prepare.round_selection import round_selector
        from moe_cli.train import stage
        from moe_cli.views.model_card import model_card
        from moe_cli.views.trained import trained_view

    with session.reporter() as notify, joined(session.config.model.rank_timeout):
        selector = round_selector(session.config.alternating.reselect)
        result = stage.run(
            arm, session.config, session.store, notify, resume=resume, card=model_card, reselect=selector
        )
    items = "" if result.summary.base.name == MODEL_NAME or session.config.evaluate.items else " --items ITEMS.jsonl"
    config = f" --config {quote(str(typed.config))}" if typed.config is not None else ""
    then = f"moe evaluate {quote(str(result.path))}{items}{config}"
    session.show(result.summary, trained_view(result.summary), f"wrote {result.path}; next: {then}")
