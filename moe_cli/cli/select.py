"""`moe select`: parses the options, selects experts and prints the selection. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer

from moe_cli.artifacts import finished_run, layout
from moe_cli.cli import options
from moe_cli.cli import selection_options as selecting
from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.session import Session, open_session
from moe_cli.config import ENVIRONMENT_PREFIX
from moe_cli.errors import UsageError
from moe_cli.views.selected import draws_done, draws_view, next_text, ranked_view, selected_view


@catch_errors
def select(
    prepared: Annotated[Path | None, typer.Argument(help="Directory of a prepare run.")] = None,
    from_counts: Annotated[
        Path | None, typer.Option(help="Instead: a published CSV table with layer, expert, a1, a2, d1, d2.")
    ] = None,
    from_scores: Annotated[Path | None, typer.Option(help="Instead: published scores in ESFT's JSON form.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Directory to write to; of a table a .csv or .json file.")
    ] = None,
    method: selecting.Method = None,
    selection_file: selecting.SelectionFile = None,
    select_by: selecting.SelectBy = None,
    budget: selecting.Budget = None,
    threshold: selecting.Threshold = None,
    top_k: selecting.TopK = None,
    top_p: selecting.TopP = None,
    per_layer: selecting.PerLayer = None,
    stability: selecting.Stability = None,
    random_draws: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --method random: so many draws, as OUT_1, OUT_2, ...", rich_help_panel="Selection"
        ),
    ] = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    registry: options.Registry = None,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Select again from the counts of a prepare run, or from a published table, without running the model.

    Settings that are not typed stay those of the run. A new prepare run is written, by default beside the old one, as
    PREPARED_METHOD.

    Example: moe select prepared --method esft-token --top-p 0.1

    Example: moe select prepared --select-by 'q<0.05 and risk_diff>0.1' -o strict

    Example: moe select prepared --method random --random-draws 19 -o control

    Example: moe select --from-counts counts.csv --top-k 50 -o ranked.csv

    Example: moe select --from-scores scores.json --top-p 0.2
    """
    words = dict(locals())
    if sum(source is not None for source in (prepared, from_counts, from_scores)) != 1:
        raise UsageError(
            "select from one of: a prepare run, --from-counts FILE, --from-scores FILE",
            hint="moe runs list shows the prepare runs there are",
        )
    if random_draws is not None and (prepared is None or resume):
        raise UsageError(
            "--random-draws takes a prepare run, and makes all of its draws anew",
            hint="moe select PREPARED --method random --random-draws N -o NEW, without --resume",
        )
    if prepared is None:
        _rank(open_session("prepare", words), from_counts, from_scores, words)
        return
    session = open_session("prepare", _with_settings_of(prepared, words))
    target = layout.beside(prepared, f"_{session.config.prepare.method}") if output is None else output
    moved = session.config.prepare.model_copy(update={"output_dir": target})
    session = replace(session, config=session.config.model_copy(update={"prepare": moved}))
    if dry_run:
        session.show_settings_of_run()
        return
    from moe_cli.prepare import reselect

    if random_draws is not None:
        with session.reporter() as notify:
            draws = reselect.run_draws(prepared, session.config, session.store, notify, num_draws=random_draws)
        selections = tuple(draw.selection for draw in draws)
        paths = [draw.path for draw in draws]
        session.show(selections, draws_view(paths, selections), draws_done(paths))
        return
    with session.reporter() as notify:
        made = reselect.run(prepared, session.config, session.store, notify, resume=resume)
    then = next_text(made.selection, made.path, f"moe train selective --prepared {made.path}")
    session.show(made.selection, selected_view(made.selection), f"wrote {made.path}{then}")


def _rank(session: Session, from_counts: Path | None, from_scores: Path | None, words: Mapping[str, object]) -> None:
    if words["dry_run"]:
        session.show_settings()
        return
    from moe_cli.prepare import published

    settings = session.config.prepare
    if from_counts is not None:
        table = published.rank_counts(from_counts, settings)
    else:
        table = published.rank_scores(Path(str(from_scores)), settings, top_p_typed=words["top_p"] is not None)
    output = words["output"]
    if isinstance(output, Path):
        published.write_ranked(output, table)
    done = (
        f"wrote {output}; next: moe select PREPARED --method file --selection-file {output}"
        if output
        else "wrote nothing; next: the same with -o ranked.csv"
    )
    session.show(table, ranked_view(table), done)


def _with_settings_of(prepared: Path, words: Mapping[str, object]) -> dict[str, object]:
    """The config with settings that were not typed taken from the run; a file stays only with the method `file`.

    The run may come from elsewhere, so which registry is written to is not taken from its settings.
    """
    typed, assignments = dict(words), []
    if typed["config"] is None:
        typed["config"] = finished_run(prepared, "prepare").file(layout.CONFIG)
        if f"{ENVIRONMENT_PREFIX}REGISTRY" not in os.environ:
            assignments.append("registry=null")
    if typed["method"] not in (None, "file") and typed["selection_file"] is None:
        assignments.append("prepare.selection_file=null")
    typed["assignments"] = [*assignments, *(cast("list[str] | None", typed["assignments"]) or [])]
    return typed
