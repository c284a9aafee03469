"""Rows of a text (a table with a header, or one text per line), and rows of parquet and Arrow files.

The separator is that of `,` `;` and tab under which the header has known columns. A cell is the text that was written;
no type is guessed (`007` stays `007`); an empty cell and `NaN` are missing. Python's own CSV reader is used: that of
`datasets` guesses types, and takes a row with one cell too many as a row with an index.

A text whose first line names no known column is read as one text per line. It is refused instead if its lines are cells
(then the header is missing or unknown) or are marked as a list, a heading or YAML.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, cast

from moe_cli.data.column_names import LABEL_WORDS, is_known, marks_a_row, normalise_name
from moe_cli.data.rows import TEXT, Element, Location, RawRow, RawTable, RowFault, lines_of, refuse_part
from moe_cli.data.text_layouts import SEPARATORS, SINGLE_WORD, layout_of, refuse_drawn_table, refuse_lines_above
from moe_cli.data.text_marks import refuse_marked_lines
from moe_cli.data.turns import turns_in_cell
from moe_cli.errors import MoeError, UsageError, first_line

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

Shape = Literal["rows", "table", "cells", "plain"]
LINES = "lines of text"
MISSING = {"", "nan", "NaN"}
LARGEST_CELL = 2**31 - 1  # characters; Python's own limit is 131,072
LARGEST_NAME, MOST_WORDS = 60, 8  # of a cell that could be the name of a column
SENTENCE_END = re.compile(r"[.!]\s*")
SPACE_BEFORE_QUOTE = re.compile(r"\s+\"")
SAYS_SEPARATOR = re.compile(r"\ufeff?sep=(.)\r?\n?", re.IGNORECASE)  # Excel's own first line
ADD_HEADER = "give the columns names in the first line, such as goal or prompt, or name one with --map prompt=COLUMN"


def text_table(text: str, name: str, hint: str, columns: Collection[str] = (), shape: Shape = "rows") -> RawTable:
    """The rows of a text; `columns` are further known names, such as those of `--map`.

    `shape` says what is expected: "rows" (of prompts), a "table" whatever its header, "cells" (a table that a person
    filled in, with every cell as it was written), or "plain" text (templates, refusals), which is a table only if it
    looks like a header with rows. For lines, the header of the table has the whole text under `text`.

    Raises:
        UsageError: a table without a known header, or a quote that does not end.
    """
    if stated := SAYS_SEPARATOR.match(text):
        text = text[stated.end() :]
    layout = None
    if shape != "plain" and not stated:
        refuse_drawn_table(text, name, spaced=shape != "rows")
        layout = layout_of(text, spaced=shape != "rows")
        text = text if layout is None else layout[0]
    first = next((line for _, line in lines_of(text)), "")
    separator = stated[1] if stated else _separator_of(first, columns)
    if shape != "plain" and (separator is None or "" in _cells(first, separator)[1:]):
        refuse_lines_above(text, name, columns)
    bars = [cell for cell in first.split("|") if cell.strip()] if separator is None else []
    if len(bars) > 1 and (
        _num_known(bars, columns) or (shape in ("table", "cells") and not set(SEPARATORS) & {*first})
    ):
        raise UsageError(f"{name}: its columns are separated by `|`", hint="separate them by commas, `;` or tabs")
    if separator is None and shape in ("table", "cells"):
        separator = max(SEPARATORS, key=lambda one: len(_cells(first, one)))
    if separator is not None:
        if shape != "cells":
            _refuse_repeated(text, name, separator, columns)
        rows = _rows_of_table(text, name, hint, separator, None if shape == "cells" else columns)
        written = layout[1] if layout else "CSV" if separator == "," else f"CSV with {_label(separator)}"
        return RawTable(rows=list(rows), container=written)
    _refuse_unknown_header(text, name, columns, plain=shape == "plain")
    if shape == "rows":
        refuse_marked_lines([line for _, line in lines_of(text)], name)
    return RawTable(rows=_lines(text, name), container=LINES, are_texts=True, header={TEXT: text})


def _separator_of(first: str, columns: Collection[str]) -> str | None:
    """The separator under which most cells of the header are known columns; None if there is none."""
    scores = {separator: _num_known(_cells(first, separator), columns) for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: scores[separator])
    return best if scores[best] else None


def _num_known(cells: Sequence[str], columns: Collection[str]) -> int:
    """Number of known columns in a header; 0 if a cell cannot be a name."""
    if mapped := sum(normalise_name(cell) in columns for cell in cells):
        return mapped
    if not all(map(_could_be_name, cells)):
        return 0
    known = {normalise_name(cell) for cell in cells if is_known(cell)}
    return 0 if len(known) == 1 < len(cells) and known <= LABEL_WORDS else len(known)


def _could_be_name(cell: str) -> bool:
    return len(cell) <= LARGEST_NAME and len(cell.split()) <= MOST_WORDS and not SENTENCE_END.search(cell[-2:])


def _refuse_repeated(text: str, name: str, separator: str, columns: Collection[str]) -> None:
    """Refuse a first line that is no header, or one that is repeated: no column has its own name as a cell."""
    names, *rows = _all_cells(text, separator) or [[]]
    known = [at for at, cell in enumerate(names) if is_known(cell) or normalise_name(cell) in columns]
    for number, cells in enumerate(rows, start=1):
        if len(names) > 1 and cells == names:
            raise UsageError(f"{name} [row {number}]: the header stands here again", hint="leave the line out")
        if any(at < len(cells) and cells[at].strip() == names[at].strip() for at in known):
            raise UsageError(f"{name}: {_without_header(names)}", hint=ADD_HEADER)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True), [])
    except csv.Error:
        return []


def _label(separator: str) -> str:
    return "tabs" if separator == "\t" else f"`{separator}`"


def _rows_of_table(
    text: str, name: str, hint: str, separator: str, columns: Collection[str] | None
) -> Iterator[Element]:
    """The rows below the header but those whose cells are all empty; without `columns` every cell is as written."""
    as_written = columns is None
    records = _records(text, name, hint, separator)
    header = next(records, [])
    _refuse_twice(header, name, "header")
    for number, record in enumerate(records, start=1):
        place = Location(name, number, "row")
        if len(record) > 1 and not any(cell.strip() for cell in record):
            continue
        cells = _filled_up(record, len(header)) if as_written else record
        if len(cells) != len(header):
            yield RowFault(place, f"it has {len(cells)} cells, the header has {len(header)}")
        else:
            named = [(key, cell) for at, (key, cell) in enumerate(zip(header, cells, strict=True)) if key or not at]
            yield (
                place,
                {key: cell if columns is None else _value(cell, marks_a_row(key, columns)) for key, cell in named},
            )


def _filled_up(cells: list[str], num_columns: int) -> list[str]:
    """The cells of a row whose empty cells at the end may be missing or too many."""
    filled = cells[:num_columns] + [cell for cell in cells[num_columns:] if cell]
    return filled + [""] * (num_columns - len(filled))


def _records(text: str, name: str, hint: str, separator: str) -> Iterator[list[str]]:
    reader = _reader(text, separator)
    try:
        yield from (cells for cells in reader if cells)
    except csv.Error as error:
        raise UsageError(f"{name}: not CSV at line {reader.line_num}: {error}", hint=hint) from error


def _reader(text: str, separator: str) -> _CsvReader:
    """Python's reader; spaces behind separators are left out where quotes or all names of the header follow them.

    A cell whose own text begins with a space and a quote is quoted itself, and keeps them.
    """
    csv.field_size_limit(LARGEST_CELL)
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator)) or [[]]
    except csv.Error:  # the strict reader says which line it is
        header, rows = [], []
    is_spaced = len(header) > 1 and all(cell.startswith(" ") for cell in header[1:])
    is_spaced = is_spaced or any(SPACE_BEFORE_QUOTE.match(cell) for cells in (header, *rows) for cell in cells)
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=is_spaced)


def _refuse_twice(header: Sequence[str], name: str, what: str) -> None:
    """Refuse two columns of the same name: a row would keep only the last."""
    written = {normalise_name(cell): cell.strip() for cell in header if cell.strip()}
    names = [normalise_name(cell) for cell in header if cell.strip()]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        is_showable = is_known(twice[0]) or SINGLE_WORD.fullmatch(written[twice[0]])
        column = f"the column `{twice[0]}`" if is_showable else "a column"
        raise UsageError(f"{name}: {column} stands twice in the {what}", hint="rename one of them")


def _value(cell: str, is_prompt: bool) -> object:
    return None if cell.strip() in MISSING else turns_in_cell(cell, is_prompt=is_prompt)


def _lines(text: str, name: str) -> list[Element]:
    """One text per line; in a CSV of one column, quoted texts are read as cells."""
    lines = lines_of(text)
    rows = _all_cells(text, ",") if any(line.startswith('"') for _, line in lines) else []
    if rows and all(len(cells) == 1 for cells in rows):
        texts = [cell.strip() for (cell,) in rows if cell.strip()]
        return [(Location(name, number, "row"), {TEXT: cell}) for number, cell in enumerate(texts, start=1)]
    return [(Location(name, number), {TEXT: line.strip()}) for number, line in lines]


def _refuse_unknown_header(text: str, name: str, columns: Collection[str], *, plain: bool) -> None:
    """Refuse a table whose first line names no known column; the error shows no cell that could be a prompt."""
    lines = [line for _, line in lines_of(text)]
    for separator in SEPARATORS:
        if not lines or separator not in lines[0]:
            continue
        rows = _all_cells(text, separator)
        if len({len(cells) for cells in rows}) != 1 or len(rows[0]) < 2 or _is_prose(lines, separator):
            continue
        if not plain or _has_header(rows) or (len(rows) > 1 and all('"' in line for line in lines)):
            raise UsageError(f"{name}: {_header_text(rows)}", hint=ADD_HEADER)
    if (
        not plain
        and len(lines) > 1
        and SINGLE_WORD.fullmatch(lines[0].strip())
        and all(" " in line.strip() for line in lines[1:])
    ):
        raise UsageError(
            f"{name}: its first line is one word, and could be a header or a text",
            hint=f"{ADD_HEADER}, or leave it out",
        )


def _all_cells(text: str, separator: str) -> list[list[str]]:
    try:
        return [cells for cells in _reader(text, separator) if cells]
    except csv.Error:
        return []


def _is_prose(lines: Sequence[str], separator: str) -> bool:
    """Whether the separator is only punctuation: a space always follows it."""
    return separator != "\t" and all(
        line[at + 1 : at + 2] in (" ", "") for line in lines for at, letter in enumerate(line) if letter == separator
    )


def _header_text(rows: Sequence[Sequence[str]]) -> str:
    """What is wrong with the first row; its cells are shown only if they look like a header."""
    if _has_header(rows):
        return f"no column is known: {', '.join(f'`{normalise_name(cell)}`' for cell in rows[0])}"
    return _without_header(rows[0])


def _without_header(cells: Sequence[str]) -> str:
    return f"it is a table of {len(cells)} columns without a header that names them"


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row looks like a header: single words above longer texts."""
    longer = any(" " in cell.strip() for cells in rows[1:] for cell in cells)
    return longer and all(SINGLE_WORD.fullmatch(cell.strip()) for cell in rows[0])


PARQUET_MARK, ARROW_MARK, ARROW_STREAM_MARK = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def is_columnar(content: bytes) -> bool:
    """Whether a file has the magic bytes of parquet or Arrow."""
    return content.startswith((PARQUET_MARK, ARROW_MARK, ARROW_STREAM_MARK))


def columnar_rows(content: bytes, name: str) -> list[RawRow]:
    """The rows of a parquet or Arrow file.

    Raises:
        UsageError: it is damaged.
    """
    from pyarrow import ipc, parquet

    kind = "parquet" if content.startswith(PARQUET_MARK) else "Arrow"
    try:
        if kind == "parquet":
            _refuse_twice(parquet.read_schema(io.BytesIO(content)).names, name, "table")
            table = parquet.read_table(io.BytesIO(content))
        elif content.startswith(ARROW_MARK):
            table = ipc.open_file(content).read_all()
        else:
            table = ipc.open_stream(content).read_all()
        _refuse_twice(table.column_names, name, "table")
        return cast("list[RawRow]", table.to_pylist())
    except (MoeError, MemoryError):
        raise
    except Exception as error:  # whatever damaged pages raise in the library
        reason = first_line(error)
        raise UsageError(f"{name} cannot be read as {kind}: {reason}", hint="write it again") from error


def columnar_table(name: str, raw: Iterable[RawRow], container: str, part: str | None = None) -> RawTable:
    """The rows of a container that has columns and no parts."""
    refuse_part(name, part)
    rows: list[Element] = [(Location(name, number, "row"), row) for number, row in enumerate(raw, start=1)]
    return RawTable(rows=rows, container=container)
