"""`moe select`: parses the options, selects experts and prints the selection. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import (
    REGISTRY,
    SEED,
    SELECTION,
    SELECTION_RULE,
    DryRun,
    Json,
    Resume,
    TypedSettings,
    with_settings,
)
from moe_cli.config import ENVIRONMENT_PREFIX
from moe_cli.errors import UsageError

if TYPE_CHECKING:
    from moe_cli.cli.session import Session


@catch_errors
@with_settings(*SELECTION_RULE, SEED, REGISTRY)
def select(
    typed: TypedSettings,
    prepared: Annotated[Path | None, typer.Argument(help="Directory of a prepare run.")] = None,
    from_counts: Annotated[
        Path | None, typer.Option(help="Instead: a published CSV table with layer, expert, a1, a2, d1, d2.")
    ] = None,
    from_scores: Annotated[Path | None, typer.Option(help="Instead: published scores in ESFT's JSON form.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Directory to write to; of a table a .csv or .json file.")
    ] = None,
    random_draws: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --method random: so many draws, as OUT_1, OUT_2, ...", rich_help_panel=SELECTION
        ),
    ] = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
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
    from moe_cli.artifacts import layout
    from moe_cli.cli.session import open_session

    if prepared is None:
        session = open_session(typed, json=json)
        if dry_run:
            session.show_settings()
        else:
            _rank(session, from_counts, from_scores, output, top_p_typed="prepare.top_p" in typed.values)
        return
    session = open_session(with_settings_of(prepared, typed), json=json)
    target = layout.beside(prepared, f"_{session.config.prepare.method}") if output is None else output
    moved = session.config.prepare.model_copy(update={"output_dir": target})
    session = replace(session, config=session.config.model_copy(update={"prepare": moved}))
    if dry_run:
        session.show_settings_of_run()
        return
    from moe_cli.prepare import reselect
    from moe_cli.views.selected import draws_done, draws_view, next_text, selected_view

    if random_draws is not None:
        with session.reporter() as notify:
            draws = reselect.run_draws(prepared, session.config, session.store, notify, num_draws=random_draws)
        selections = tuple(draw.selection for draw in draws)
        paths = [draw.path for draw in draws]
        session.show(selections, draws_view(paths, selections), draws_done(paths))
        return
    with session.reporter() as notify:
        result = reselect.run(prepared, session.config, session.store, notify, resume=resume)
    then = next_text(result.selection, result.path, f"moe train selective --prepared {result.path}")
    session.show(result.selection, selected_view(result.selection), f"wrote {result.path}{then}")


def _rank(
    session: Session, from_counts: Path | None, from_scores: Path | None, output: Path | None, *, top_p_typed: bool
) -> None:
    """Rank the experts of a published table, print it, and write it where `output` says."""
    from moe_cli.prepare import published
    from moe_cli.views.selected import ranked_view

    settings = session.config.prepare
    if from_counts is not None:
        table = published.rank_counts(from_counts, settings)
    else:
        table = published.rank_scores(Path(str(from_scores)), settings, top_p_typed=top_p_typed)
    if output is not None:
        published.write_ranked(output, table)
    done = (
        f"wrote {output}; next: moe select PREPARED --method file --selection-file {output}"
        if output
        else "wrote nothing; next: the same with -o ranked.csv"
    )
    session.show(table, ranked_view(table), done)


def with_settings_of(prepared: Path, typed: TypedSettings) -> TypedSettings:
    """What was typed, with settings that were not taken from the run; a file stays only with the method `file`.

    The run may come from elsewhere, so which registry is written to is not taken from its settings.
    """
    from moe_cli.artifacts import finished_run, layout

    assignments = []
    config = typed.config
    if config is None:
        config = finished_run(prepared, "prepare").file(layout.CONFIG)
        if f"{ENVIRONMENT_PREFIX}REGISTRY" not in os.environ:
            assignments.append("registry=null")
    method = typed.values.get("prepare.method", "file")
    if method != "file" and "prepare.selection_file" not in typed.values:
        assignments.append("prepare.selection_file=null")
    return replace(typed, config=config, assignments=(*assignments, *typed.assignments))
