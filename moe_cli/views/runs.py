"""The registry and one manifest as a person sees them.

Records come in, rich renderables of 80 columns go out; nothing is computed but ages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.artifacts.registry import short_id
from moe_cli.records import (
    ComparisonResult,
    EvaluationResult,
    Manifest,
    PrepareResult,
    RunListing,
    RunResult,
    TrainingResult,
)
from moe_cli.views.compared_pairs import n_text, verdict_text
from moe_cli.views.numbers import NOTHING, age_text, rate_text
from moe_cli.views.safe import safe_text


def runs_table(listed: Sequence[RunListing], *, now: datetime, here: Path) -> Table:
    """Two lines per run: what came of it, and where it lies as seen from `here`."""
    models = {entry.run.model_name for entry in listed if entry.run.model_name is not None}
    title = f"Runs with {next(iter(models))}" if len(models) == 1 else "Runs"
    table = Table(title=safe_text(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("age", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("result, and directory", overflow="fold")
    for entry in listed:
        run = entry.run
        table.add_row(
            safe_text(short_id(run)),
            age_text((now - datetime.fromisoformat(run.finished)).total_seconds()),
            safe_text(run.kind),
            _outcome(entry, here, name_model=len(models) > 1),
        )
    return table


def _outcome(entry: RunListing, here: Path, *, name_model: bool) -> Text:
    path = Path(entry.run.path)
    lines = [
        safe_text(_result_text(entry), style="" if entry.result else "yellow"),
        safe_text(path.relative_to(here) if path.is_relative_to(here) and path != here else path, style="dim"),
    ]
    if name_model and entry.run.model_name is not None:
        lines.append(safe_text(entry.run.model_name, style="dim"))
    return Text("\n").join(lines)


def _result_text(entry: RunListing) -> str:
    if entry.problem is not None:
        return f"cannot be read: {entry.problem}"
    return entry.state if entry.result is None else result_text(entry.result)


def result_text(result: RunResult) -> str:
    """`12 of 64 experts, 3.4 by chance`, `loss 0.0447 after 96 steps`, `attack success 6.0 % (48/800) [4.3, 8.3]`."""
    match result:
        case PrepareResult(num_selected=selected, num_experts=num, null_union_mean=null):
            return f"{selected} of {num} experts" + (f", {null:.1f} by chance" if null is not None else "")
        case TrainingResult(num_selected=selected, num_experts=num, num_steps=steps, final_loss=loss):
            trained = f"{selected} of {num} experts" if selected is not None else "all parameters"
            return f"{trained}, loss {loss:.4f} after {steps} steps"
        case EvaluationResult(measure=measure, rate=rate):
            return NOTHING if measure is None else f"{measure} {rate_text(rate)}"
        case ComparisonResult():
            return _compared_text(result)


def _compared_text(result: ComparisonResult) -> str:
    unfair = "not fair; " if result.num_unfair else ""
    found = result.difference
    if found is None:
        return f"{unfair}nothing measured in both" if result.a is not None else f"{unfair}{NOTHING}"
    points = f"{100 * found.difference:+.1f} [{100 * found.lower:+.1f}, {100 * found.upper:+.1f}]"
    measured = f"{found.metric} {points}, n {n_text(found)}: {verdict_text(found)}"
    return f"{unfair}{result.b} minus {result.a}: {measured}"


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
