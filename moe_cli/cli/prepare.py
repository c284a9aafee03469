"""`moe prepare`: words typed -> one call -> one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_cli.cli import options
from moe_cli.cli.boundary import bounded
from moe_cli.cli.session import open_session


@bounded
def prepare(
    model_name: options.ModelName = None,
    output_dir: options.OutputDir = None,
    pairs: Annotated[Path | None, typer.Option(help="Prompt pairs, JSONL or JSON; `tiny` brings its own.")] = None,
    benign: Annotated[Path | None, typer.Option(help="Harmless prompts, JSONL or JSON.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in a batch (16).")] = None,
    safe_ratio: Annotated[float | None, typer.Option(help="Share of a batch that is not attacked (0.5).")] = None,
    benign_ratio: Annotated[float | None, typer.Option(help="Benign part of the safe share.")] = None,
    method: Annotated[str | None, typer.Option(help="risk_diff, random, all or file.")] = None,
    selection_file: Annotated[
        Path | None, typer.Option(help="JSON list of layer, expert pairs for method file.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Largest trainable share: 0.05, 5% or none.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Smallest pooled risk difference (0.05).")] = None,
    top_k: Annotated[int | None, typer.Option(help="Most experts that one batch selects (50).")] = None,
    keep_all: Annotated[bool | None, typer.Option("--keep-all", help="Keep pairs whose attack failed, too.")] = None,
    refusals: Annotated[Path | None, typer.Option(help="Refusal targets, one a line; default: own refusals.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N pairs.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens (128).")] = None,
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
    """Find the experts that are more active when the model does harm.

    Answers both forms of every pair, counts which experts the tokens went to, selects experts per batch, and writes
    batches, masks and training examples.

    Example: moe prepare --model tiny

    Example: moe prepare --pairs pairs.jsonl --benign benign.jsonl --gpu 0
    """
    session = open_session("prepare", locals())
    if dry_run:
        session.show_settings()
        return
    from moe_cli.prepare import stage
    from moe_cli.views.prepared import prepared_view

    with session.reporter() as notify:
        made = stage.run(session.config, session.store, notify, resume=resume)
    then = f"; next: moe train selective{session.again}, moe train baseline{session.again}"
    session.show(
        made.selection,
        prepared_view(made.summary, made.selection),
        f"wrote {made.path}{then if made.selection.union else ''}",
    )
