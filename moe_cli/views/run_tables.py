"""Formats the registry, a manifest, the environment and an upload for the terminal, 80 columns wide.

Nothing is computed but ages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.artifacts.registry import short_id
from moe_cli.records import (
    AblationResult,
    ComparisonResult,
    ComputeDevice,
    Environment,
    EvaluationResult,
    Manifest,
    PrepareResult,
    Push,
    RunListing,
    RunResult,
    SweepResult,
    TrainingResult,
)
from moe_cli.views.compared_tables import difference_text, n_text, verdict_text
from moe_cli.views.table import ReportTable, as_rich, cell_rows_of, facts_view
from moe_cli.views.text import NOTHING, age_text, bytes_text, optional_text, rate_text, safe_text

NOT_SHOWN = "(set; not shown)"


def runs_table(listed: Sequence[RunListing], *, now: datetime, here: Path) -> Table:
    """Two lines per run: its result, and its path relative to `here`."""
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
            return f"{selected} of {num} experts" + (
                f", {optional_text(null, 1)} by chance" if null is not None else ""
            )
        case TrainingResult(num_selected=selected, num_experts=num, num_steps=steps, final_loss=loss):
            trained = f"{selected} of {num} experts" if selected is not None else "all parameters"
            return f"{trained}, " + (
                "no step on the answers" if loss is None else f"loss {optional_text(loss, 4)} after {steps} steps"
            )
        case EvaluationResult(measure=measure, rate=rate):
            return NOTHING if measure is None else f"{measure} {rate_text(rate)}"
        case ComparisonResult():
            return _compared_text(result)
        case AblationResult(num_experts=num, verdict=verdict, p_value=p_value, num_controls=controls):
            return f"{num} experts: {verdict}; p {p_value:.3g} of {controls} control sets"
        case SweepResult(num_points=num, num_failed=failed, method=method, budget=budget, is_tested=is_tested):
            none = "no budget was found sufficient" if is_tested else "no budget was tested"
            enough = none if budget is None else f"sufficient at {100 * budget:.4g} %"
            done = f"{num} points" + (f", {failed} failed" if failed else "")
            return done if method is None else f"{done}; {method}: {enough}"


def _compared_text(result: ComparisonResult) -> str:
    unfair = "not fair; " if result.num_unfair else ""
    found = result.difference
    if found is None:
        return f"{unfair}nothing measured in both" if result.a is not None else f"{unfair}{NOTHING}"
    measured = f"{found.metric} {difference_text(found)}, n {n_text(found)}: {verdict_text(found)}"
    return f"{unfair}{result.b} minus {result.a}: {measured}"


def manifest_view(manifest: Manifest) -> RenderableType:
    """Kind and settings of a run, its files and its parents."""
    facts = (
        ("kind", manifest.kind),
        ("model", manifest.model_name),
        ("base weights", manifest.base_fingerprint),
        ("device", manifest.device),
        ("seed", manifest.seed),
        ("started", manifest.started),
        ("finished", manifest.finished),
        ("packages", ", ".join(f"{package} {version}" for package, version in manifest.packages.items())),
        *((f"parent: {role}", digest) for role, digest in manifest.parents.items()),
    )
    files = cell_rows_of((file, digest[:16]) for file, digest in manifest.files.items())
    return Group(
        facts_view(manifest.id, ((name, NOTHING if value is None else str(value)) for name, value in facts)),
        as_rich(ReportTable("Files", ("name", "sha256"), files, empty="none", words=True)),
    )


def environment_view(found: Environment) -> Table:
    """One line per fact about the environment."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(found):
        table.add_row(safe_text(name), safe_text(value))
    return table


def _facts(environment: Environment) -> Iterator[tuple[str, str]]:
    yield "moe", environment.moe
    yield "python", f"{environment.python} on {environment.system}"
    yield (
        "processor",
        f"{environment.processor}, {environment.num_cores} cores, {environment.num_threads} threads of torch",
    )
    yield "memory", f"{bytes_text(environment.memory_bytes)}, {bytes_text(environment.available_bytes)} available"
    for device in environment.devices:
        yield f"device {device.name}", _device_text(device)
    yield (
        "packages",
        ", ".join(f"{name} {version}" for name, version in environment.packages.items() if version is not None),
    )
    yield (
        "not installed",
        ", ".join(name for name, version in environment.packages.items() if version is None) or NOTHING,
    )
    yield "registry", f"{environment.registry}, {environment.num_runs} runs"
    for name, value in environment.variables.items():
        yield name, NOT_SHOWN if value is None else value


def _device_text(device: ComputeDevice) -> str:
    memory = None if device.memory_bytes is None else bytes_text(device.memory_bytes)
    kernels = ", ".join(f"{dtype} {kernel}" for dtype, kernel in device.expert_kernels.items())
    return "; ".join(part for part in (device.model, memory, f"experts' products: {kernels}") if part is not None)


def pushed_view(push: Push) -> RenderableType:
    """The files with their sizes; the model card itself if nothing was uploaded yet."""
    files = [(file.name, bytes_text(file.num_bytes), file.sha256[:12]) for file in push.files]
    card = ("README.md", bytes_text(len(push.card.encode())), "written now")
    table = as_rich(ReportTable("Files", ("file", "size", "sha256"), cell_rows_of([*files, card]), words=True))
    total = safe_text(f"{len(push.files) + 1} files, {bytes_text(push.num_bytes)} and the page")
    if push.url is not None:
        return Group(table, total)
    return Group(table, total, Text(), *map(safe_text, push.card.splitlines()))
