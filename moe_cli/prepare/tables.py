"""Tables with one row for each expert, as people publish them: CSV, JSON or parquet with `layer` and `expert`.

Columns are found by name in any order and case; every error names file and row; an expert stands once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.data import Location, Table, read_table, refuse_bad_rows, source_of
from moe_cli.data.json_objects import shown_keys
from moe_cli.data.rows import ReadRow
from moe_cli.data.values import is_index
from moe_cli.errors import UsageError
from moe_cli.records import Expert


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """One line about one expert."""

    place: str  # "counts.csv [row 7]"
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


def expert_rows(file: Path, columns: Collection[str], hint: str) -> tuple[ExpertRow, ...]:
    """Every row of a table that has `layer`, `expert` and the named columns.

    Raises:
        UsageError: no such file, unreadable, a column is missing or stands twice, a row has another number of cells, no
            layer and expert, or an expert that an earlier row has; no row at all.
    """
    table = read_table(source_of(str(file), accepted=hint), shape="table")
    refuse_bad_rows(table.faults, 0, hint=hint)
    if not table.rows:
        raise UsageError(f"{file} holds no row", hint=hint)
    _refuse_missing(table, {"layer", "expert", *columns}, hint)
    rows = tuple(_row(row, place, hint) for place, row in table.rows)
    _refuse_twice(rows, hint)
    return rows


def _refuse_missing(table: Table, needed: Collection[str], hint: str) -> None:
    keys = set() if table.are_texts else table.keys()
    if missing := sorted(set(needed) - keys):
        raise UsageError(
            f"{table.source.name} lacks the columns {', '.join(missing)}; it has {shown_keys(sorted(keys)) or 'none'}",
            hint=hint,
        )


def _row(row: ReadRow, place: Location, hint: str) -> ExpertRow:
    cells = {name: _cell(value) for name, value in row.items()}
    for column in ("layer", "expert"):
        if not is_index(cells[column]):
            raise UsageError(f"{place}: {column} is {cells[column]!r}, not a whole number from 0", hint=hint)
    return ExpertRow(str(place), Expert(layer=int(cells["layer"]), index=int(cells["expert"])), cells)


def _cell(value: object) -> str:
    """The value as the text that a CSV would hold."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value).strip()


def _refuse_twice(rows: Sequence[ExpertRow], hint: str) -> None:
    first: dict[Expert, str] = {}
    for row in rows:
        if row.expert in first:
            raise UsageError(
                f"{row.place}: expert {row.expert.index} of layer {row.expert.layer} stands in {first[row.expert]} too",
                hint=hint,
            )
        first[row.expert] = row.place
