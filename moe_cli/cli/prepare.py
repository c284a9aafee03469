"""`moe prepare`: parses the options, prepares the run and prints its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_cli.cli import answer_options as answering
from moe_cli.cli import options
from moe_cli.cli import selection_options as selecting
from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.session import Session, open_session


@catch_errors
def prepare(
    model_name: options.ModelName = None,
    output_dir: options.OutputDir = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="Pairs or goals: file, folder, owner/name@REVISION. Repeatable; `tiny` brings its own."),
    ] = None,
    benign: Annotated[list[str] | None, typer.Option(help="Harmless prompts, in the same forms. Repeatable.")] = None,
    map: options.Map = None,
    attack: Annotated[Path | None, typer.Option(help="Attack templates that hold {goal}, for goals alone.")] = None,
    attack_per_goal: Annotated[int | None, typer.Option(help="Templates drawn per goal; default: all.")] = None,
    benign_attack: Annotated[float | None, typer.Option(help="Share of plain benign prompts to wrap (0.0).")] = None,
    data_revision: Annotated[str | None, typer.Option(help="Commit of hub data sets named without one.")] = None,
    max_bad_rows: Annotated[int | None, typer.Option(help="Bad rows that are left out before an error (0).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in a batch (16).")] = None,
    safe_ratio: Annotated[float | None, typer.Option(help="Share of a batch that is not attacked (0.5).")] = None,
    benign_ratio: Annotated[float | None, typer.Option(help="Benign part of the safe share.")] = None,
    method: selecting.Method = None,
    selection_file: selecting.SelectionFile = None,
    select_by: selecting.SelectBy = None,
    budget: selecting.Budget = None,
    threshold: selecting.Threshold = None,
    top_k: selecting.TopK = None,
    top_p: selecting.TopP = None,
    per_layer: selecting.PerLayer = None,
    stability: selecting.Stability = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(help="gradient: measure it, too, for moe select.", rich_help_panel=selecting.PANEL),
    ] = None,
    keep_all: Annotated[bool | None, typer.Option("--keep-all", help="Keep pairs whose attack failed, too.")] = None,
    refusals: Annotated[Path | None, typer.Option(help="Refusal targets: file, or `endpoint`; else its own.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N pairs.")] = None,
    pickle: Annotated[bool | None, typer.Option("--pickle", help="Write the original scripts' pickles, too.")] = None,
    max_new_tokens: answering.MaxNewTokens = None,
    benign_max_new_tokens: answering.BenignMaxNewTokens = None,
    temperature: answering.Temperature = None,
    sampling_top_p: answering.SamplingTopP = None,
    engine: answering.Engine = None,
    base_url: answering.BaseUrl = None,
    api_model: answering.ApiModel = None,
    api_key_env: answering.ApiKeyEnv = None,
    concurrency: answering.Concurrency = None,
    judges: options.Judges = None,
    judge_url: options.JudgeUrl = None,
    judge_model: options.JudgeModel = None,
    judge_key_env: options.JudgeKeyEnv = None,
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
    """Find the experts that are more active while the model complies inside attacks.

    Answers both forms of every pair, counts which experts the tokens went to, selects experts per batch, and writes
    batches, masks and training examples.

    Example: moe prepare --model tiny

    Example: moe prepare --pairs pairs.jsonl --benign benign.jsonl --gpu 0

    Example: moe prepare --pairs goals.csv --attack attacks.txt --benign benign.csv --dry-run

    Example: moe prepare --pairs pairs.jsonl --engine openai --base-url http://localhost:8000/v1
    """
    session = open_session("prepare", locals())
    if dry_run:
        _show_dry_run(session)
        return
    with session.importing():
        from moe_cli.prepare import stage
        from moe_cli.views.prepared import prepared_view
        from moe_cli.views.selected import next_text

    with session.reporter() as notify:
        made = stage.run(session.config, session.store, notify, resume=resume)
    train = f"moe train selective{session.again}, moe train baseline{session.again}"
    then = next_text(made.selection, made.path, train)
    session.show(made.selection, prepared_view(made.summary, made.selection), f"wrote {made.path}{then}")


def _show_dry_run(session: Session) -> None:
    """Show what is recognised in the data, and why a run would not begin with it; torch is not imported."""
    from moe_cli.prepare.data_preview import preview_of
    from moe_cli.views.source_tables import preview_view

    preview, refusal = preview_of(session.config)
    session.show_dry_run(preview, preview_view(preview), refusal)
