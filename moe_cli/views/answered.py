"""Where answers come from that no model gave here, as a person sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import AnswerFile, AnswersPreview, EvaluationSummary
from moe_cli.views.numbers import NOTHING
from moe_cli.views.safe import safe_text
from moe_cli.views.sources import unreadable_lines

SHOWN_DIGEST = 12


def origin_text(summary: EvaluationSummary) -> str:
    """`answers of completions.json (model-x by its own word)`; empty where a loaded model answered."""
    if summary.server is not None:
        return f"{summary.title}, as a server calls {summary.server.model}"
    return ", ".join(
        f"answers of {file.name}" + (f" ({file.model} by its own word)" if file.model else "")
        for file in summary.answer_files
    )


def file_views(files: Sequence[AnswerFile], unanswered: int | None) -> Iterator[RenderableType]:
    """The files with what became of their rows; nothing where there is none."""
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
    """Which server answered, and what is not known of it."""
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
