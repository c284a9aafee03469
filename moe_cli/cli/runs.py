"""`moe runs list | show | verify | add | forget`: reads and edits the registry. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import REGISTRY, Json, TypedSettings, with_settings
from moe_cli.errors import ArtifactError
from moe_cli.views.console import stderr_console, stdout_console
from moe_cli.views.text import safe_text

if TYPE_CHECKING:
    from moe_cli.cli.session import Session
    from moe_cli.records import RunVerification

app = typer.Typer(no_args_is_help=True, help="List, show, verify, add and forget the runs in the registry.")

RunId = Annotated[str, typer.Argument(help="Id of a run, its beginning or its end; a directory works, too.")]
RegisteredId = Annotated[str, typer.Argument(help="Id of a run, its beginning or its end.")]


@app.command("list")
@catch_errors
@with_settings(REGISTRY, config_file=False)
def list_runs(typed: TypedSettings, json: Json = False) -> None:
    """List all registered runs, oldest first.

    Example: moe runs list
    """
    from moe_cli.artifacts import listing_of
    from moe_cli.cli.session import open_session
    from moe_cli.views.run_tables import runs_table

    session = open_session(typed, json=json)
    listed = tuple(listing_of(record) for record in session.store.records())
    table = runs_table(listed, now=datetime.now(UTC), here=Path.cwd())
    then = "moe runs show ID" if listed else "moe prepare, or moe demo"
    session.show(listed, table, f"runs in {session.store.registry}: {len(listed)}; next: {then}")


@app.command("show")
@catch_errors
@with_settings(REGISTRY, config_file=False)
def show(typed: TypedSettings, run: RunId, json: Json = False) -> None:
    """Show the manifest of one run: files, parents, settings, packages; and whether it changed since.

    Example: moe runs show selective-2026
    """
    from moe_cli.artifacts import finished_run
    from moe_cli.artifacts.registry import change_of
    from moe_cli.cli.session import open_session
    from moe_cli.views.run_tables import manifest_view

    session = open_session(typed, json=json)
    path = _path(session, run)
    finished = finished_run(path)
    manifest = finished.manifest
    if change := change_of(finished, session.store):
        stderr_console().print(safe_text(f"warning: {change}", style="yellow"), soft_wrap=True)
    session.show(manifest, manifest_view(manifest), f"{path}; next: moe runs verify {run}")


@app.command("verify")
@catch_errors
@with_settings(REGISTRY, config_file=False)
def verify(typed: TypedSettings, run: RunId, json: Json = False) -> None:
    """Check one run: its files, its manifest, its parents' manifests, and that nothing was added.

    Example: moe runs verify prepared
    """
    from moe_cli.artifacts.registry import changed_parents, require_unchanged_run
    from moe_cli.cli.session import open_session
    from moe_cli.records import RunVerification

    session = open_session(typed, json=json)
    verification = require_unchanged_run(_path(session, run), session.store)
    with session.reporter():
        damaged = verification.damaged()
    result = RunVerification(
        path=str(verification.path),
        num_files=len(verification.manifest.files),
        damaged=damaged,
        added=verification.added(),
        changed_parents=changed_parents(verification, session.store),
    )
    faults = tuple(_faults(result))
    if session.json or not faults:
        whole = result.num_files - len(damaged)
        session.show(result, safe_text(result.path), f"{whole} of {result.num_files} files are as the run wrote them")
    if faults:
        raise ArtifactError(
            f"{verification.path}: " + "; ".join(faults),
            hint="restore what changed, move what was added out of the run, or make the run again; --json lists all",
        )


def _faults(verification: RunVerification) -> Iterator[str]:
    """Sentences about what is wrong with a run, each with the first names that it concerns."""
    total = verification.num_files
    for names, problem in (
        (verification.damaged, f"of {total} files are missing or changed"),
        (verification.added, "files were added that the run did not write"),
        (verification.changed_parents, "of its parents changed since"),
    ):
        if names:
            yield f"{len(names)} {problem}: " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


@app.command("add")
@catch_errors
@with_settings(REGISTRY, config_file=False)
def add(
    typed: TypedSettings,
    directory: Annotated[Path, typer.Argument(help="Directory of a complete run.")],
    json: Json = False,
) -> None:
    """Register a complete run that came from another place, or whose record is lost.

    Example: moe runs add prepared
    """
    from moe_cli.artifacts import finished_run
    from moe_cli.cli.session import open_session

    session = open_session(typed, json=json)
    record = session.store.register(finished_run(directory))
    session.show(record, None, f"registered {record.id}; next: moe runs list")


@app.command("forget")
@catch_errors
@with_settings(REGISTRY, config_file=False)
def forget(typed: TypedSettings, run: RegisteredId) -> None:
    """Remove a run from the registry; its directory stays.

    Example: moe runs forget selective-2026
    """
    from moe_cli.cli.session import open_session

    session = open_session(typed)
    record = session.store.record(run)
    session.store.forget(record)
    stdout_console().print(safe_text(f"forgot {record.id}; {record.path} is untouched"), soft_wrap=True)


def _path(session: Session, run: str) -> Path:
    return Path(run) if Path(run).is_dir() else Path(session.store.record(run).path)
