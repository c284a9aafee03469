"""Formats the sources of prompts, items and answers, and what became of every row.

No text of a prompt is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import (
    AnswerFile,
    AnswersPreview,
    DataPreview,
    EvaluationSummary,
    ItemsPreview,
    OfferedCounts,
    SourceCount,
    SuiteCount,
    UnreadableSource,
)
from moe_cli.views.text import NOTHING, safe_text

SHOWN_DIGEST = 12


def preview_view(preview: DataPreview) -> RenderableType:
    """What a dry run recognised: sources, skipped and bad rows, and the resulting batches."""
    parts: list[RenderableType] = [sources_table(preview.sources)] if preview.sources else []
    parts += _row_lines(preview.sources)
    parts += unreadable_lines(preview.unreadable)
    if preview.counts is not None:
        parts.append(_counts_table(preview.counts))
    return Group(*parts)


def items_preview_view(preview: ItemsPreview) -> RenderableType:
    """What a dry run recognised of the items: sources, and the resulting suites."""
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


def origin_text(summary: EvaluationSummary) -> str:
    """`answers of completions.json (model-x by its own word)`; empty where a loaded model answered."""
    if summary.server is not None:
        return f"{summary.title}, as a server calls {summary.server.model}"
    return ", ".join(
        f"answers of {file.name}" + (f" ({file.model} by its own word)" if file.model else "")
        for file in summary.answer_files
    )


def file_views(files: Sequence[AnswerFile], unanswered: int | None) -> Iterator[RenderableType]:
    """The answer files with what became of their rows; empty if there are none."""
    if not files:
        return
    table = Table(
        title="Answers from files; the settings and weights that gave them are not known", title_justify="left"
    )
    for name in ("file", "sha256", "format", "model, as it says"):
        table.add_column(name, overflow="fold")
    for name in ("rows", "answers"):
        table.add_column(name, justify="right")
    for file in files:
        cells = (file.name, file.sha256[:SHOWN_DIGEST], file.format, file.model or NOTHING)
        table.add_row(*map(safe_text, cells), f"{file.rows:,}", f"{file.answers:,}")
    yield table
    for file in files:
        yield from _lines(file)
    if unanswered:
        yield Text(f"items without an answer: {unanswered:,} of --items")


def server_lines(summary: EvaluationSummary) -> Iterator[Text]:
    """Which server answered, and what is not known about it."""
    if summary.server is not None:
        yield safe_text(
            f"answers: by {summary.server.model} at {summary.server.url}; that it serves the weights of "
            f"{summary.run or summary.title} is not checked"
        )


def _lines(file: AnswerFile) -> Iterator[Text]:
    for reason, number in file.skipped.items():
        yield safe_text(f"skipped {number:,} of {file.rows:,}: {file.name}: {reason}")
    if file.unread:
        yield safe_text(f"not read: {file.name}: the columns {', '.join(file.unread)}")
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in file.kinds.items())
    if kinds:
        yield safe_text(f"kinds of {file.name}: {kinds}")
    unknown = file.answers - file.cut_off - file.finished
    if unknown:
        yield safe_text(f"ended by itself: not said of {unknown:,} of {file.answers:,} answers of {file.name}")


def answers_preview_view(preview: AnswersPreview) -> RenderableType:
    """What a dry run recognised in files of answers, and which of them cannot be used."""
    parts = [*file_views(preview.files, preview.unanswered), *unreadable_lines(preview.unreadable)]
    if preview.suites:
        suites = ", ".join(f"{suite} {number:,}" for suite, number in preview.suites.items())
        parts.append(safe_text(f"answers to judge: {suites}"))
    return Group(*parts)
