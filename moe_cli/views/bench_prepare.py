"""`moe bench prepare` as a person sees it: on a terminal, and as Markdown for a page.

Comes in: `PrepareBenchmark`. Goes out: rich renderables, Markdown. Always holds: both show the same cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import PrepareBenchmark, PrepareRow, PrepareWay, Spread
from moe_cli.views.numbers import count_of
from moe_cli.views.safe import plain, safe_text

LABELS: dict[PrepareWay, str] = {
    "one_at_a_time": "one at a time",
    "file_order": "in file order",
    "by_length": "by length",
}
HEAD = ("prompts answered", "stage, s", "answering, s", "routing, s", "tokens/s", "same answers")
RATIO_HEAD = ("one at a time / ...", "stage", "answering")
LEGEND = (
    "Seconds are medians; ratios are medians [quartiles] of the ratios of the same repeat. "
    "Same answers: token for token those of one at a time, in every repeat."
)
MS = 1000  # in a second


def prepare_bench_view(benchmark: PrepareBenchmark) -> RenderableType:
    """What was measured, on what, and the tables."""
    return Group(
        *(safe_text(line) for line in headlines(benchmark)),
        _drawn(HEAD, [_cells(row) for row in benchmark.rows]),
        _drawn(RATIO_HEAD, _ratios(benchmark)),
        Text(recording_text(benchmark)),
        Text(LEGEND),
    )


def prepare_bench_markdown(benchmark: PrepareBenchmark) -> str:
    """The same as `prepare_bench_view`, for a page."""
    tables: list[tuple[Sequence[str], list[Sequence[str]]]] = [
        (HEAD, [_cells(row) for row in benchmark.rows]),
        (RATIO_HEAD, _ratios(benchmark)),
    ]
    written = [
        "\n".join("| " + " | ".join(map(plain, cells)) + " |" for cells in (head, ["---"] * len(head), *rows))
        for head, rows in tables
    ]
    lines = "\n".join(f"- {plain(line)}" for line in headlines(benchmark))
    return "\n\n".join([lines, *written, recording_text(benchmark), LEGEND])


def headlines(benchmark: PrepareBenchmark) -> list[str]:
    """Model, prompts and machine."""
    model, machine, how = benchmark.model, benchmark.machine, benchmark.answering
    packages = ", ".join(f"{name} {found or 'not installed'}" for name, found in machine.packages.items())
    device = machine.device_name or f"{machine.processor}, {machine.num_cores} cores"
    return [
        f"{benchmark.model_name}: {model.total_params:,} parameters in {model.dtype}, {len(model.layers)} layers of "
        f"{model.num_experts} experts",
        f"{benchmark.num_prompts} prompts => {benchmark.num_answer_tokens:,} answer tokens; "
        f"{benchmark.num_pairs_counted} pairs replayed; {len(benchmark.rows[0].seconds)} repeats",
        f"batches of at most {how.batch_size} prompts and {how.batch_tokens} tokens",
        f"{device}; threads: {machine.num_threads}; Python {machine.python}, {packages}",
    ]


def recording_text(benchmark: PrepareBenchmark) -> str:
    """What recording adds."""
    found = benchmark.recording
    return (
        f"recording the routing: forward of {found.rows} x {found.positions} tokens "
        f"{MS * found.forward.median:.1f} ms, recorded {MS * found.recorded.median:.1f} ms, "
        f"ratio {_ratio_text(found.ratio, 3)} (n {found.ratio.n})"
    )


def _cells(row: PrepareRow) -> Sequence[str]:
    return (
        _label(row),
        f"{row.time.median:.1f}",
        f"{row.answering.median:.1f}",
        f"{row.routing.median:.2f}",
        f"{row.tokens_per_second:,.0f}",
        count_of(*row.same_answers),
    )


def _ratios(benchmark: PrepareBenchmark) -> list[Sequence[str]]:
    return [
        (_label(row), _ratio_text(row.speedup, 1), _ratio_text(row.answering_speedup, 1)) for row in benchmark.rows[1:]
    ]


def _label(row: PrepareRow) -> str:
    return f"{LABELS[row.name]} ({row.batch_size})"


def _ratio_text(found: Spread, digits: int) -> str:
    return f"{found.median:.{digits}f} [{found.lower:.{digits}f}, {found.upper:.{digits}f}]"


def _drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=place == 0)
    for cells in rows:
        table.add_row(*map(safe_text, cells))
    return table
