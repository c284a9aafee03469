"""Formats a benchmark for the terminal, and as Markdown for a page.

Both show the same cells. A row without figures shows why.
"""

from __future__ import annotations

from rich.console import Group, RenderableType

from moe_cli.characters import escape_unsafe
from moe_cli.records import Benchmark, BenchmarkRow, SharePoint, Spread, StepBytes
from moe_cli.views.table import ReportTable, as_markdown, as_rich, cell_rows_of
from moe_cli.views.text import NOTHING, bytes_text, markdown_text, safe_text

LABELS = {
    "forward_library": "forward (library)",
    "forward_moe": "forward (moe)",
    "floor_library": "floor (library)",
    "floor_moe": "floor (moe)",
    "selective": "selective",
    "full_grouped_mm": "full grouped_mm",
    "full_eager": "full eager",
    "zeroed_gradients": "zeroed gradients",
    "lora": "LoRA",
}
TIME_HEAD = ("row", "ms/step", "quartiles", "least-most", "tokens/s", "x full", "x floor")
BYTES_HEAD = ("row", "trained", "grad.+moments+masters", "for backward", "peak")
RATIO_HEAD = ("ratio", "median [quartiles]")
SHARE_HEAD = ("selected", "of parameters", "ms/step", "quartiles", "x full [quartiles]")

MS = 1000  # in a second


def bench_view(benchmark: Benchmark) -> RenderableType:
    """What was measured, on which machine, and the tables."""
    return Group(
        *(safe_text(line) for line in headlines(benchmark)),
        *map(as_rich, _tables(benchmark)),
        *(safe_text(note) for note in _notes(benchmark)),
    )


def bench_markdown(benchmark: Benchmark) -> str:
    """The same as `bench_view`, as Markdown."""
    lines = "\n".join(f"- {markdown_text(line)}" for line in headlines(benchmark))
    tables = (as_markdown(table, 3) for table in _tables(benchmark))
    return "\n\n".join([lines, *tables, *map(markdown_text, _notes(benchmark))])


def _notes(benchmark: Benchmark) -> list[str]:
    """Why rows have no figures, and what the columns are."""
    why = [f"{row_label(row.name)}: {row.status}: {row.note}" for row in benchmark.rows if row.note]
    return [*why, _legend(benchmark)]


def row_label(name: str) -> str:
    """A row's name for people."""
    return LABELS.get(name) or escape_unsafe(name.replace("_", " "))


def headlines(benchmark: Benchmark) -> list[str]:
    """Lines about model, batch and machine."""
    model, plan, machine = benchmark.model, benchmark.plan, benchmark.machine
    share = 100 * model.expert_params / model.total_params
    packages = ", ".join(f"{name} {found or 'not installed'}" for name, found in machine.packages.items())
    device = machine.device_name or f"{machine.processor}, {machine.num_cores} cores"
    turns = "side by side" if benchmark.num_rounds == 1 else f"{benchmark.num_rounds} rounds, one row at a time"
    checkpointing = "on" if plan.checkpointing else "off"
    return [
        f"{plan.model or f'{model.architecture}, random weights'}: {model.total_params:,} parameters in {model.dtype}, "
        f"{share:.1f} % of them in {len(model.layers)} layers of {model.num_experts} experts, "
        f"top-{model.top_k or NOTHING}",
        f"{plan.rows} x {plan.length} tokens => {benchmark.tokens_per_step:,} per step; {plan.selected} of "
        f"{model.num_experts} experts selected per layer; gradient checkpointing {checkpointing}",
        f"{device}; threads: {machine.num_threads}; Python {machine.python}, {packages}",
        f"{plan.repeats} repeats, {turns}; experts computed in {benchmark.experts_dtype or NOTHING}",
    ]


def _tables(benchmark: Benchmark) -> list[ReportTable]:
    rows = {row.name: row for row in benchmark.rows}
    ratios = [
        (f"{row_label(found.row)} / {row_label(found.reference)}", _spread_text(found.ratio))
        for found in benchmark.ratios
    ]
    shares = [_share_cells(point, rows, benchmark) for point in benchmark.shares]
    tables = (
        ("One optimizer step", TIME_HEAD, map(_time_cells, benchmark.rows)),
        ("What a step keeps", BYTES_HEAD, map(_bytes_cells, benchmark.rows)),
        ("Compared", RATIO_HEAD, ratios),
        ("Selected share", SHARE_HEAD, shares),
    )
    found = [ReportTable(title, head, cell_rows_of(cells), borders=False) for title, head, cells in tables]
    return [table for table in found if table.rows]


def _time_cells(row: BenchmarkRow) -> tuple[str, ...]:
    if row.time is None:
        return row_label(row.name), row.status, *[NOTHING] * 5
    return (
        row_label(row.name),
        _short(MS * row.time.median),
        _between(row.time.lower, row.time.upper),
        _between(row.time.least, row.time.most),
        f"{row.tokens_per_second:,.0f}",
        _median(row.to_full),
        _median(row.to_floor),
    )


def _bytes_cells(row: BenchmarkRow) -> tuple[str, ...]:
    found, peak = row.bytes, bytes_text(row.peak_memory_bytes)
    if found is None:
        return row_label(row.name), *[NOTHING] * 3, peak
    return (
        row_label(row.name),
        f"{found.trained_params:,}",
        bytes_text(_state(found)),
        bytes_text(found.saved_for_backward),
        peak,
    )


def _share_cells(point: SharePoint, rows: dict[str, BenchmarkRow], benchmark: Benchmark) -> tuple[str, ...]:
    what = f"{point.selected} of {benchmark.model.num_experts}"
    time = rows[point.row].time
    return (
        what if point.selected else f"{what} (forward)",
        f"{100 * point.share_of_parameters:.2f} %",
        NOTHING if time is None else _short(MS * time.median),
        NOTHING if time is None else _between(time.lower, time.upper),
        _spread_text(point.to_full),
    )


def _state(found: StepBytes) -> int:
    return found.gradients + found.moments + found.masters


def _legend(benchmark: Benchmark) -> str:
    floor = f" (here {row_label(benchmark.faster_floor)})" if benchmark.faster_floor else ""
    peaks = {row.peak_memory_of for row in benchmark.rows if row.peak_memory_of}
    peak = f" peak: {', '.join(sorted(peaks))}." if peaks else ""
    return (
        f"x full, x floor: median of the ratios to full grouped_mm and to the faster floor{floor} in the same repeat. "
        f"for backward: tensors saved in the forward, without parameters.{escape_unsafe(peak)}"
    )


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return NOTHING
    return f"{_short(spread.median)} [{_short(spread.lower)}, {_short(spread.upper)}]"


def _between(start: float, end: float) -> str:
    return f"{_short(MS * start)}-{_short(MS * end)}"


def _median(spread: Spread | None) -> str:
    return NOTHING if spread is None else _short(spread.median)


def _short(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")
