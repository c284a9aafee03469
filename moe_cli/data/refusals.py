"""Refusals that a person brings as training targets, from any file that rows are read from."""

from __future__ import annotations

from pathlib import Path

from moe_cli.data.column_names import REFUSAL_COLUMNS, first_of
from moe_cli.data.faults import BadRowError
from moe_cli.data.json_objects import are_targets, shown_keys
from moe_cli.data.line_marks import refuse_marked_lines
from moe_cli.data.raw import TEXT
from moe_cli.data.sources import source_of
from moe_cli.data.tables import read_table
from moe_cli.data.text_rows import LINES
from moe_cli.data.values import text_of
from moe_cli.errors import UsageError

REFUSAL_FORMATS = (
    '--refusals takes a text with one refusal a line, rows such as {"refusal": "..."}, a JSON list of texts, or the '
    "word `endpoint`"
)


def read_refusals(path: Path) -> tuple[str, ...]:
    """The refusals of a file: one a line, or rows with a column such as `refusal`, `response` or `text`.

    Raises:
        UsageError: no such file, unreadable, a row without a refusal, none in it, or what an attack wants to hear.
    """
    table = read_table(source_of(str(path), accepted=REFUSAL_FORMATS), shape="plain")
    if table.container == LINES:
        refuse_marked_lines([str(row.get(TEXT)) for _, row in table.rows], str(path))
    if table.faults:
        raise UsageError(str(table.faults[0]), hint=REFUSAL_FORMATS)
    texts = []
    for place, row in table.rows:
        try:
            texts.append(text_of(row, first_of(REFUSAL_COLUMNS, row) or "refusal").strip())
        except BadRowError as error:
            columns = shown_keys(table.shown_columns())
            raise UsageError(
                f"{place}: {error.reason}; the columns are {columns or 'none'}", hint=REFUSAL_FORMATS
            ) from error
    if not texts:
        raise UsageError(f"{path} holds no refusal", hint=REFUSAL_FORMATS)
    if are_targets(texts):
        raise UsageError(
            f'{path} holds targets (what an attack wants to hear: "Sure, here is"), not refusals', hint=REFUSAL_FORMATS
        )
    return tuple(texts)
