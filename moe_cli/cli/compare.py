"""`moe compare`: words typed -> one call -> one table. Imports no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from moe_cli.cli import options
from moe_cli.cli.boundary import bounded
from moe_cli.cli.session import open_session
from moe_cli.compare import stage
from moe_cli.views.compared import compared_view


@bounded
def compare(
    runs: Annotated[list[str], typer.Argument(help="Training runs, evaluations or model names; two or more.")],
    output_dir: options.OutputDir = None,
    evaluation: Annotated[str | None, typer.Option(help="Name of the evaluations; default: the newest.")] = None,
    margin: Annotated[float | None, typer.Option(help="A difference inside it does not matter (0.02).")] = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    registry: options.Registry = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Is the comparison fair, and is the difference real? Each pair of runs is compared on the same items.

    Example: moe compare full_model_baseline unsafe_expert_finetuned_batch

    Example: moe compare tiny full_model_baseline unsafe_expert_finetuned_batch --json
    """
    session = open_session("compare", locals())
    if dry_run:
        session.show_settings()
        return
    with session.reporter() as notify:
        made = stage.run(runs, session.config, session.store, notify)
    session.show(made.comparison, compared_view(made.comparison), f"wrote {made.path}; next: moe runs list")
