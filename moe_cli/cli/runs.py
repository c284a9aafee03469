"""`moe runs list | show | verify | add | forget`: the registry. Imports no torch."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from moe_cli.artifacts import finished_run, listing_of
from moe_cli.cli import options
from moe_cli.cli.boundary import bounded
from moe_cli.cli.session import Session, open_session
from moe_cli.errors import ArtifactError
from moe_cli.records import RunVerification
from moe_cli.views.console import stdout_console
from moe_cli.views.runs import manifest_view, runs_table
from moe_cli.views.safe import safe_text

app = typer.Typer(no_args_is_help=True, help="List, show, verify, add and forget the runs in the registry.")

RunId = Annotated[str, typer.Argument(help="Id of a run, its beginning or its end; a directory works, too.")]
RegisteredId = Annotated[str, typer.Argument(help="Id of a run, its beginning or its end.")]


@app.command("list")
@bounded
def list_runs(registry: options.Registry = None, json: options.Json = False) -> None:
    """List all registered runs, oldest first.

    Example: moe runs list
    """
    session = open_session("runs", locals())
    listed = tuple(listing_of(record) for record in session.store.records())
    table = runs_table(listed, now=datetime.now(UTC), here=Path.cwd())
    then = "moe runs show ID" if listed else "moe prepare, or moe demo"
    session.show(listed, table, f"runs in {session.store.registry}: {len(listed)}; next: {then}")


@app.command("show")
@bounded
def show(run: RunId, registry: options.Registry = None, json: options.Json = False) -> None:
    """Show the manifest of one run: files, parents, settings, packages.

    Example: moe runs show selective-2026
    """
    session = open_session("runs", locals())
    path = _path(session, run)
    manifest = finished_run(path).manifest
    session.show(manifest, manifest_view(manifest), f"{path}; next: moe runs verify {run}")


@app.command("verify")
@bounded
def verify(run: RunId, registry: options.Registry = None, json: options.Json = False) -> None:
    """Check the sha256 of every file of one run.

    Example: moe runs verify prepared
    """
    session = open_session("runs", locals())
    found = finished_run(_path(session, run))
    with session.reporter():
        damaged = found.damaged()
    result = RunVerification(path=str(found.path), num_files=len(found.manifest.files), damaged=damaged)
    bad, total = len(result.damaged), result.num_files
    if session.json or not bad:
        session.show(result, safe_text(result.path), f"{total - bad} of {total} files are as the run wrote them")
    if bad:
        named = ", ".join(result.damaged[:5]) + (", ..." if bad > 5 else "")
        raise ArtifactError(
            f"{bad} of {total} files of {found.path} are missing or changed: {named}",
            hint="restore the files, or make the run again; --json lists all of them",
        )


@app.command("add")
@bounded
def add(
    directory: Annotated[Path, typer.Argument(help="Directory of a complete run.")],
    registry: options.Registry = None,
    json: options.Json = False,
) -> None:
    """Register a complete run that came from another place, or whose record is lost.

    Example: moe runs add prepared
    """
    session = open_session("runs", locals())
    record = session.store.register(finished_run(directory))
    session.show(record, None, f"registered {record.id}; next: moe runs list")


@app.command("forget")
@bounded
def forget(run: RegisteredId, registry: options.Registry = None) -> None:
    """Remove a run from the registry; its directory stays.

    Example: moe runs forget selective-2026
    """
    session = open_session("runs", locals())
    record = session.store.record(run)
    session.store.forget(record)
    stdout_console().print(safe_text(f"forgot {record.id}; {record.path} is untouched"), soft_wrap=True)


def _path(session: Session, run: str) -> Path:
    return Path(run) if Path(run).is_dir() else Path(session.store.record(run).path)
