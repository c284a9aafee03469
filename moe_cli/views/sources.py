"""The sources of a prepare run as a person sees them: what was recognised, and what became of every row.

Comes in: `SourceCount` and `DataPreview` records. Goes out: rich renderables. Formats, never computes; shows no words
of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import DataPreview, OfferedCounts, SourceCount
from moe_cli.views.safe import safe_text


def preview_view(preview: DataPreview) -> RenderableType:
    """What a dry run recognised: sources, skipped and bad rows, the batches that result, and what would be refused."""
    parts: list[RenderableType] = [sources_table(preview.sources)] if preview.sources else []
    parts += _row_lines(preview.sources)
    if preview.counts is not None:
        parts.append(_counts_table(preview.counts))
    if preview.refused is not None:
        parts.append(safe_text(f"moe prepare would refuse this: {preview.refused}", style="red"))
    return Group(*parts)


def sources_table(sources: Sequence[SourceCount]) -> Table:
    """One row per source."""
    table = Table(title="Sources", title_justify="left")
    for name in ("source", "format", "rows", "used", "skipped", "bad"):
        table.add_column(name, justify="left" if name in ("source", "format") else "right", overflow="fold")
    for source in sources:
        numbers = (source.rows, source.used, sum(source.skipped.values()), len(source.bad_rows))
        table.add_row(
            safe_text(f"--{source.role} {source.name}"),
            safe_text(source.format),
            *(f"{number:,}" for number in numbers),
        )
    return table


def _row_lines(sources: Sequence[SourceCount]) -> Iterator[Text]:
    for source in sources:
        for reason, number in source.skipped.items():
            yield safe_text(f"skipped {number:,}: {source.name}: {reason}")
    for source in sources:
        for row in source.bad_rows:
            yield safe_text(f"bad row: {row.place}: {row.reason}", style="yellow")


def _counts_table(counts: OfferedCounts) -> Table:
    table = Table(title="What they offer", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("pairs", f"{counts.num_pairs:,}, from {counts.num_goals:,} goals")
    table.add_row("benign prompts", f"{counts.num_benign:,}, {counts.num_benign_attacked:,} inside an attack")
    batch = f"{counts.num_plain} plain + {counts.num_benign_in_batch} benign + {counts.num_attacked} attacked"
    table.add_row("batches", f"at most {counts.most_batches:,} of {counts.batch_size} = {batch}")
    return table
