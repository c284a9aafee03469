"""Tables with one row for each expert, as people publish them.

Comes in: a CSV file with a header. Goes out: rows with their place. Always holds: columns are found by name in any
order and case; every error names file and line; an expert stands once.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.errors import UsageError
from moe_cli.records import Expert

DELIMITERS = ",\t;"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line about one expert."""

    place: str  # "counts.csv:7"
    expert: Expert
    cells: Mapping[str, str]  # by column name in lower case

    def number(self, column: str, hint: str) -> float:
        """The finite number in a column.

        Raises:
            UsageError: it is none.
        """
        try:
            value = float(self.cells[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{self.place}: {column} is {self.cells[column]!r}, not a number", hint=hint)
        return value


def expert_rows(file: Path, columns: Collection[str], hint: str) -> tuple[TableRow, ...]:
    """Every row of a table that has `layer`, `expert` and the named columns.

    Raises:
        UsageError: no such file, not UTF-8, a column is missing or stands twice, a row has another number of cells, no
            layer and expert, or an expert that an earlier row has; no row at all.
    """
    lines = _lines(file, hint)
    names = _header(lines, file, {"layer", "expert", *columns}, hint)
    rows = tuple(_row(cells, names, f"{file}:{number}", hint) for number, cells in lines)
    if not rows:
        raise UsageError(f"{file} holds a header and no row", hint=hint)
    _refuse_twice(rows, hint)
    return rows


def _lines(file: Path, hint: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of every line that is not blank, with its number in the file."""
    if not file.is_file():
        raise UsageError(f"there is no file {file}", hint=hint)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text: {error}", hint=hint) from error
    first = next(iter(text.splitlines()), "")
    reader = csv.reader(io.StringIO(text), delimiter=max(DELIMITERS, key=first.count), skipinitialspace=True)
    return ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))


def _header(lines: Iterator[tuple[int, list[str]]], file: Path, needed: Collection[str], hint: str) -> list[str]:
    number, cells = next(lines, (1, []))
    names = [cell.strip().lower() for cell in cells]
    if missing := sorted(set(needed) - set(names)):
        raise UsageError(
            f"{file}:{number}: the header lacks {', '.join(missing)}; it has {', '.join(names) or 'nothing'}", hint=hint
        )
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise UsageError(f"{file}:{number}: the header names {', '.join(twice)} more than once", hint=hint)
    return names


def _row(cells: Sequence[str], names: Sequence[str], place: str, hint: str) -> TableRow:
    if len(cells) != len(names):
        raise UsageError(f"{place}: {len(cells)} cells, but the header has {len(names)}", hint=hint)
    named = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    for column in ("layer", "expert"):
        if not (named[column].isascii() and named[column].isdecimal()):
            raise UsageError(f"{place}: {column} is {named[column]!r}, not a whole number from 0", hint=hint)
    return TableRow(place, Expert(layer=int(named["layer"]), index=int(named["expert"])), named)


def _refuse_twice(rows: Sequence[TableRow], hint: str) -> None:
    first: dict[Expert, str] = {}
    for row in rows:
        if row.expert in first:
            raise UsageError(
                f"{row.place}: expert {row.expert.index} of layer {row.expert.layer} stands in {first[row.expert]} too",
                hint=hint,
            )
        first[row.expert] = row.place
