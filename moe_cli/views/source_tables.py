"""Formats the sources of prompts, items and answers, and what became of every row.

No text of a prompt is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
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
from moe_cli.views.table import ReportTable, as_rich, cell_rows_of, columns_of, facts_view
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
        rows = [
            (f"--items {source.name}", source.format, (source.rows, source.used, source.num_skipped, source.bad_rows))
            for source in preview.sources
        ]
        parts.append(_table(rows))
    for source in preview.sources:
        parts += _lines_of(source.name, source.skipped, source.unread)
    parts += unreadable_lines(preview.unreadable)
    if preview.suites:
        parts.append(_suites_table(preview.suites))
    return Group(*parts)


def sources_table(sources: Sequence[SourceCount]) -> RenderableType:
    """One row per source."""
    return _table(
        (f"--{one.role} {one.name}", one.format, (one.rows, one.used, one.num_skipped, len(one.bad_rows)))
        for one in sources
    )


def _table(rows: Iterable[tuple[str, str, Sequence[int]]]) -> RenderableType:
    head = ("source", "format", "rows", "used", "skipped", "bad")
    cells = cell_rows_of((name, form, *(f"{number:,}" for number in numbers)) for name, form, numbers in rows)
    return as_rich(ReportTable("Sources", head, cells, narrow=columns_of(head, num_left=2)))


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


def _suites_table(suites: Sequence[SuiteCount]) -> RenderableType:
    head = ("suite", "kind", "items", "goals")
    rows = cell_rows_of(
        (suite.suite, suite.kind, f"{suite.num_items:,}", f"{suite.num_clusters:,}") for suite in suites
    )
    return as_rich(ReportTable("Items", head, rows, narrow=columns_of(head, num_left=2)))


def _counts_table(counts: OfferedCounts) -> RenderableType:
    batch = f"{counts.num_plain} plain + {counts.num_benign_in_batch} benign + {counts.num_attacked} attacked"
    replays = f"at most {counts.num_replays:,}, {counts.num_extra_replays:,} of them for the parts of the difference"
    return facts_view(
        "What they offer",
        (
            ("pairs", f"{counts.num_pairs:,}, from {counts.num_goals:,} goals"),
            ("benign prompts", f"{counts.num_benign:,}, {counts.num_benign_attacked:,} inside an attack"),
            ("batches", f"at most {counts.most_batches:,} of {counts.batch_size} = {batch}"),
            ("replays", replays),
        ),
    )


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
    head = ("file", "sha256", "format", "model, as it says", "rows", "answers")
    rows = cell_rows_of(
        (
            file.name,
            file.sha256[:SHOWN_DIGEST],
            file.format,
            file.model or NOTHING,
            f"{file.rows:,}",
            f"{file.answers:,}",
        )
        for file in files
    )
    title = "Answers from files; the settings and weights that gave them are not known"
    yield as_rich(ReportTable(title, head, rows, narrow=columns_of(head, num_left=4)))
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
    if unknown := file.num_unknown_ends:
        yield safe_text(f"ended by itself: not said of {unknown:,} of {file.answers:,} answers of {file.name}")


def answers_preview_view(preview: AnswersPreview) -> RenderableType:
    """What a dry run recognised in files of answers, and which of them cannot be used."""
    parts = [*file_views(preview.files, preview.unanswered), *unreadable_lines(preview.unreadable)]
    if preview.suites:
        suites = ", ".join(f"{suite} {number:,}" for suite, number in preview.suites.items())
        parts.append(safe_text(f"answers to judge: {suites}"))
    return Group(*parts)
