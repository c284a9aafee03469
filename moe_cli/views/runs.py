"""The registry and one manifest as a person sees them.

Comes in: `RunListing`, `Manifest`. Goes out: rich renderables. Formats, never computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from moe_cli.records import Manifest, RunListing
from moe_cli.views.numbers import NOTHING
from moe_cli.views.safe import safe_text


def runs_table(listed: Sequence[RunListing]) -> Table:
    """One row per run."""
    table = Table(title="Runs", title_justify="left")
    table.add_column("id", no_wrap=True)  # begins with the kind
    for name in ("state", "model", "path"):
        table.add_column(name, overflow="fold")
    for entry in listed:
        run = entry.run
        table.add_row(*(safe_text(cell or NOTHING) for cell in (run.id, entry.state, run.model_name, run.path)))
    return table


def manifest_view(manifest: Manifest) -> RenderableType:
    """What a run is, its files and its parents."""
    facts = Table(title=safe_text(manifest.id), title_justify="left", show_header=False)
    facts.add_column()
    facts.add_column(overflow="fold")
    for name, value in (
        ("kind", manifest.kind),
        ("model", manifest.model_name),
        ("base weights", manifest.base_fingerprint),
        ("device", manifest.device),
        ("seed", manifest.seed),
        ("started", manifest.started),
        ("finished", manifest.finished),
        ("packages", ", ".join(f"{package} {version}" for package, version in manifest.packages.items())),
        *((f"parent: {role}", digest) for role, digest in manifest.parents.items()),
    ):
        facts.add_row(safe_text(name), safe_text(NOTHING if value is None else value))
    files = Table(title="Files", title_justify="left")
    files.add_column("name", overflow="fold")
    files.add_column("sha256")
    for file, digest in manifest.files.items():
        files.add_row(safe_text(file), safe_text(digest[:16]))
    return Group(facts, files)
