"""The sources of prompts and items as a person sees them: what was recognised, and what became of every row.

No words of a prompt are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import DataPreview, ItemsPreview, OfferedCounts, SourceCount, SuiteCount, UnreadableSource
from moe_cli.views.safe import safe_text


def preview_view(preview: DataPreview) -> RenderableType:
    """What a dry run recognised: sources, skipped and bad rows, the batches that result."""
    parts: list[RenderableType] = [sources_table(preview.sources)] if preview.sources else []
    parts += _row_lines(preview.sources)
    parts += unreadable_lines(preview.unreadable)
    if preview.counts is not None:
        parts.append(_counts_table(preview.counts))
    return Group(*parts)


def items_preview_view(preview: ItemsPreview) -> RenderableType:
    """What a dry run recognised of the items: sources, and the suites that result."""
    parts: list[RenderableType] = []
    if preview.sources:
        table = _table("Sources")
        for source in preview.sources:
            num_skipped = sum(source.skipped.values())
            used = source.rows - num_skipped - source.bad_rows
            _add_row(table, f"--items {source.name}", source.format, (source.rows, used, num_skipped, source.bad_rows))
        parts.append(table)
    for source in preview.sources:
        parts += _lines_of(source.name, source.skipped, source.unread)
    parts += unreadable_lines(preview.unreadable)
    if preview.suites:
        parts.append(_suites_table(preview.suites))
    return Group(*parts)


def sources_table(sources: Sequence[SourceCount]) -> Table:
    """One row per source."""
    table = _table("Sources")
    for source in sources:
        numbers = (source.rows, source.used, sum(source.skipped.values()), len(source.bad_rows))
        _add_row(table, f"--{source.role} {source.name}", source.format, numbers)
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("source", "format", "rows", "used", "skipped", "bad"):
        table.add_column(name, justify="left" if name in ("source", "format") else "right", overflow="fold")
    return table


def _add_row(table: Table, name: str, form: str, numbers: Sequence[int]) -> None:
    table.add_row(safe_text(name), safe_text(form), *(f"{number:,}" for number in numbers))


def _row_lines(sources: Sequence[SourceCount]) -> Iterator[Text]:
    for source in sources:
        yield from _lines_of(source.name, source.skipped, source.unread)
    for source in sources:
        for row in source.bad_rows:
            yield safe_text(f"bad row: {row.place}: {row.reason}", style="yellow")


def _lines_of(name: str, skipped: Mapping[str, int], unread: Sequence[str]) -> Iterator[Text]:
    for reason, number in skipped.items():
        yield safe_text(f"skipped {number:,}: {name}: {reason}")
    if unread:
        columns = "the column" if len(unread) == 1 else "the columns"
        yield safe_text(f"not read: {name}: {columns} {', '.join(unread)}")


def unreadable_lines(sources: Sequence[UnreadableSource]) -> Iterator[Text]:
    """Two lines for every source that cannot be used."""
    for source in sources:
        yield safe_text(f"cannot be used: --{source.role} {source.name}: {source.reason}", style="red")
        yield safe_text(f"  hint: {source.hint}")


def _suites_table(suites: Sequence[SuiteCount]) -> Table:
    table = Table(title="Items", title_justify="left")
    for name in ("suite", "kind", "items", "goals"):
        table.add_column(name, justify="left" if name in ("suite", "kind") else "right", overflow="fold")
    for suite in suites:
        table.add_row(safe_text(suite.suite), suite.kind, f"{suite.num_items:,}", f"{suite.num_clusters:,}")
    return table


def _counts_table(counts: OfferedCounts) -> Table:
    table = Table(title="What they offer", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("pairs", f"{counts.num_pairs:,}, from {counts.num_goals:,} goals")
    table.add_row("benign prompts", f"{counts.num_benign:,}, {counts.num_benign_attacked:,} inside an attack")
    batch = f"{counts.num_plain} plain + {counts.num_benign_in_batch} benign + {counts.num_attacked} attacked"
    table.add_row("batches", f"at most {counts.most_batches:,} of {counts.batch_size} = {batch}")
    replays = f"at most {counts.num_replays:,}, {counts.num_extra_replays:,} of them for the parts of the difference"
    table.add_row("replays", replays)
    return table
