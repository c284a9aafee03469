"""Layouts of a text table that are no plain CSV: R's own, columns between spaces, and tables that are drawn.

R's `write.table` quotes names and texts, writes `\\"` for a quote in a text, and names the rows in a column that has no
name, so that the header is one cell short. A layout is read only where every row fits it; a drawn table is refused,
and so are lines above a header.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence

from moe_cli.data.column_names import LABEL_WORDS, is_known, normalise_name
from moe_cli.data.rows import lines_of
from moe_cli.errors import UsageError

SEPARATORS = ",;\t"
SINGLE_WORD = re.compile(r"[^\W\d][\w.-]*")
R_HEADER = re.compile(r'"[^"]*"((?P<between>[ ,;\t])"[^"]*"((?P=between)"[^"]*")*)?')
SEPARATORS_OF_R = " \t,;"
OTHER_SEPARATORS = re.compile(r"[,;\t|\"]")
DRAWN = re.compile(r"[\s|+:=\-\u2500-\u257f]+")
JOINTS = re.compile(r"[-=\u2500-\u257f]{2}|-\|")
COLUMNS = re.compile(r"[|+\u2502-\u257f]|\S\s+\S")
LINES_ABOVE = 4  # a header, at most
FIRST_LINES = 3  # among which a drawn table has a line of dashes
ALIGNED = re.compile(r"\s{2,}\w+(\s+\w+)+\s*|\w+(\s{2,}\w+)+\s*")  # names of columns above aligned cells
R_TABLE, SPACED = "CSV as R writes it", "a table with spaces"


def layout_of(text: str, *, spaced: bool) -> tuple[str, str] | None:
    """The table of a text as CSV and what it is called; None where it is in none of these layouts.

    `spaced` also reads columns between spaces without quotes, where no cell can be a text of several words.
    """
    first = next((line for _, line in lines_of(text)), "")
    rows, name = _rows_of_r(text) if R_HEADER.fullmatch(first) else None, R_TABLE
    if rows is None and spaced and not OTHER_SEPARATORS.search(first):
        rows, name = _named_rows([line.split() for _, line in lines_of(text)]), SPACED
    if rows is None:
        return None
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue(), name


def refuse_drawn_table(text: str, name: str, *, spaced: bool) -> None:
    """Refuse a table whose columns stand between lines, as data bases and Markdown print it.

    Raises:
        UsageError: one of the first lines is drawn; or without `spaced`, the first has aligned names of columns.
    """
    for _, line in lines_of(text)[:FIRST_LINES]:
        if DRAWN.fullmatch(line) and JOINTS.search(line) and COLUMNS.search(line):
            raise UsageError(
                f"{name} is a table drawn with lines, as it is printed for people to read",
                hint="write it as CSV: its columns separated by commas, `;` or tabs",
            )
    first = next((line for _, line in lines_of(text)), "")
    if not spaced and "\t" not in first and ALIGNED.fullmatch(first) and any(map(is_known, first.split())):
        raise UsageError(f"{name}: its columns are separated by spaces", hint="separate them by commas, `;` or tabs")


def refuse_lines_above(text: str, name: str, columns: Collection[str]) -> None:
    """Refuse a title or names of groups above the header, which is a line of single words with a known column.

    Raises:
        UsageError: one of the next lines is such a header.
    """
    for number, line in lines_of(text)[1 : LINES_ABOVE + 1]:
        for separator in SEPARATORS:
            cells = [cell.strip('"') for cell in line.strip().split(separator)]
            known = {normalise_name(cell) for cell in cells if is_known(cell) or normalise_name(cell) in columns}
            if len(cells) > 1 and known - LABEL_WORDS and all(map(SINGLE_WORD.fullmatch, cells)):
                raise UsageError(
                    f"{name}:{number}: the header stands here, below other lines", hint="leave out the lines above it"
                )


def _rows_of_r(text: str) -> list[list[str]] | None:
    """The rows of a table that R wrote; None where it is a CSV of another program, or no table."""
    for separator in SEPARATORS_OF_R:
        reader = csv.reader(io.StringIO(text.replace('\\"', '""'), newline=""), delimiter=separator, strict=True)
        try:
            rows = [cells for cells in reader if cells]
        except csv.Error:
            continue
        named = _named_rows(rows)
        if named is None or (named == rows and separator != " " and '\\"' not in text):
            continue
        if named == rows or all(f'\n"{cells[0]}"{separator}' in text for cells in rows[1:]):
            return named
    return None


def _named_rows(rows: Sequence[list[str]]) -> list[list[str]] | None:
    """The rows under a header of as many cells, of which the first is empty where each row has its own name."""
    names, *others = rows or [[]]
    widths = {len(cells) for cells in others}
    if len(widths) != 1 or max(widths) < 2 or not 0 <= (missing := max(widths) - len(names)) <= 1:
        return None
    if missing and (len({cells[0] for cells in others}) < len(others) or not any(cells[-1] for cells in others)):
        return None
    return [[""] * missing + names, *others]
