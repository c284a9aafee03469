"""Rows of a CSV with a header.

Comes in: a text. Goes out: raw rows with their places, and those whose number of cells is off. Always holds: a cell is
the text that was written, no type is guessed (`007` stays `007`); an empty cell and `NaN` are missing.

The reader is Python's own: that of `datasets` guesses types, and takes a row with a cell too many as one with an index.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from moe_cli.data.faults import Fault
from moe_cli.data.json_rows import RawRow, turns_in_cell
from moe_cli.data.places import Place
from moe_cli.errors import UsageError

MISSING = {"", "nan", "NaN"}
LARGEST_CELL = 2**31 - 1  # characters; Python's own limit is 131,072


def csv_rows(text: str, name: str, hint: str) -> Iterator[tuple[Place, RawRow] | Fault]:
    """Every row after the header, or what is wrong with it.

    Raises:
        UsageError: a quote that does not end; the rows after it cannot be told apart.
    """
    records = _records(text, name, hint)
    header = next(records, [])
    for number, cells in enumerate(records, start=1):
        yield _row(header, cells, Place(name, number, "row"))


def _records(text: str, name: str, hint: str) -> Iterator[list[str]]:
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from (cells for cells in reader if cells)
    except csv.Error as error:
        raise UsageError(f"{name}: not CSV at line {reader.line_num}: {error}", hint=hint) from error


def _row(header: Sequence[str], cells: Sequence[str], place: Place) -> tuple[Place, RawRow] | Fault:
    if len(cells) != len(header):
        return Fault(place, f"it has {len(cells)} cells, the header has {len(header)}")
    return place, {key: _value(cell) for key, cell in zip(header, cells, strict=True) if key.strip()}


def _value(cell: str) -> object:
    return None if cell.strip() in MISSING else turns_in_cell(cell)
