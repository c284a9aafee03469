"""`moe ablate`: parses the options, ablates the selected experts and prints what that says of them."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import (
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
from moe_cli.ranks import joined

SETTINGS = (
    option("ablate.output_dir", "--output-dir", "-o"),
    *options("ablate.intervention", "ablate.tokens", "ablate.without_router_effects", "ablate.side"),
    *options("ablate.controls", "ablate.margin", "ablate.each", "ablate.same_goals"),
    *options("evaluate.items", "evaluate.map", "evaluate.limit", "evaluate.max_new_tokens"),
    *options("evaluate.batch_size", "evaluate.batch_tokens"),
    option("evaluate.judges", "--judge", panel=JUDGES),
    *JUDGE,
    option("evaluate.max_unscored", panel=JUDGES),
    *HARDWARE,
    SEED,
    REGISTRY,
)


@catch_errors
@with_settings(*SETTINGS)
def ablate(
    typed: TypedSettings,
    prepared: Annotated[Path, typer.Argument(help="Directory of a prepare run.")],
    on: Annotated[
        str | None, typer.Option(help="Training run to ablate; default: the model the prepare run was made on.")
    ] = None,
    nproc: NumProcesses = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Do the selected experts carry the harm? Takes them away, and control sets of equally used experts.

    Says whether the model still does harm without them, whether refusals take its place or broken answers, and whether
    that is more than without equally used experts. Settings that are not typed are those of the prepare run.

    Example: moe ablate prepared --items items.jsonl --judge harmbench --gpu 0

    Example: moe ablate prepared --on unsafe_expert_finetuned_batch --items items.jsonl

    Example: moe ablate prepared --side safe --each --limit 100

    Example: moe ablate prepared --items items.jsonl --gpu 0,1 --nproc 2

    Example: moe ablate prepared --intervention zero --tokens answer --controls 99 -o ablation_zero
    """
    from moe_cli.cli.select import with_settings_of
    from moe_cli.cli.session import open_session

    session = open_session(with_settings_of(prepared, typed), json=json, verbose=verbose)
    if not dry_run:
        begin_processes(nproc)
    with session.importing():
        from moe_cli.ablate import stage
        from moe_cli.ablate.ablation_plan import preview_ablation
        from moe_cli.artifacts import layout
        from moe_cli.views.ablated import ablated_markdown, ablated_view
        from moe_cli.views.report.ablation_page import ablation_page
        from moe_cli.views.source_tables import items_preview_view

    if dry_run:
        preview, refusal = preview_ablation(prepared, on, session.config, session.store)
        session.show_dry_run(preview, items_preview_view(preview), refusal)
        return
    pages = stage.AblationPages(markdown=ablated_markdown, report=ablation_page)
    with session.reporter() as notify, joined(session.config.model.rank_timeout):
        result = stage.run(prepared, on, session.config, session.store, notify, pages=pages, resume=resume)
    then = f"moe sweep {quote(str(prepared))}"
    done = f"wrote {result.path}; open {result.path / layout.REPORT}; next: {then}"
    session.show(result.ablation, ablated_view(result.ablation), done)
