"""`moe prepare`: parses the options, prepares the run and prints its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import (
    ANSWERS,
    ENDPOINT,
    HARDWARE,
    JUDGE,
    JUDGES,
    MODEL,
    REGISTRY,
    SEED,
    SELECTION,
    SELECTION_RULE,
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

if TYPE_CHECKING:
    from moe_cli.cli.session import Session

SETTINGS = (
    MODEL,
    option("prepare.output_dir", "--output-dir", "-o"),
    *options("prepare.pairs", "prepare.benign", "prepare.map", "prepare.attack", "prepare.attack_per_goal"),
    *options("prepare.benign_attack", "prepare.data_revision", "prepare.max_bad_rows", "prepare.batch_size"),
    *options("prepare.safe_ratio", "prepare.benign_ratio", "prepare.keep_all", "prepare.refusals", "prepare.limit"),
    option("prepare.pickle"),
    *SELECTION_RULE,
    option("prepare.scores", panel=SELECTION),
    *options("prepare.max_new_tokens", "prepare.benign_max_new_tokens", "prepare.temperature", panel=ANSWERS),
    *options("prepare.sampling_top_p", "prepare.engine", panel=ANSWERS),
    *ENDPOINT,
    option("prepare.judges", "--judge", panel=JUDGES),
    *JUDGE,
    *HARDWARE,
    SEED,
    REGISTRY,
)


@catch_errors
@with_settings(*SETTINGS)
def prepare(
    typed: TypedSettings,
    nproc: NumProcesses = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Find the experts that are more active while the model complies inside attacks.

    Answers both forms of every pair, counts which experts the tokens went to, selects experts per batch, and writes
    batches, masks and training examples.

    Example: moe prepare --model tiny

    Example: moe prepare --pairs pairs.jsonl --benign benign.jsonl --gpu 0

    Example: moe prepare --pairs pairs.jsonl --gpu 0,1 --nproc 2

    Example: moe prepare --pairs goals.csv --attack attacks.txt --benign benign.csv --dry-run

    Example: moe prepare --pairs pairs.jsonl --engine openai --base-url http://localhost:8000/v1
    """
    from moe_cli.cli.session import open_session

    session = open_session(typed, json=json, verbose=verbose)
    if dry_run:
        _show_dry_run(session)
        return
    begin_processes(nproc)
    with session.importing():
        from moe_cli.prepare import stage
        from moe_cli.views.prepared import prepared_view
        from moe_cli.views.selected import next_text

    with session.reporter() as notify, joined(session.config.model.rank_timeout):
        result = stage.run(session.config, session.store, notify, resume=resume)
    train = f"moe train selective{session.again}, moe train baseline{session.again}"
    then = next_text(result.selection, result.path, train)
    session.show(result.selection, prepared_view(result.summary, result.selection), f"wrote {result.path}{then}")


def _show_dry_run(session: Session) -> None:
    """Show what is recognised in the data, and why a run would not begin with it; torch is not imported."""
    from moe_cli.prepare.prepare_summary import preview_of
    from moe_cli.views.source_tables import preview_view

    preview, refusal = preview_of(session.config)
    session.show_dry_run(preview, preview_view(preview), refusal)
