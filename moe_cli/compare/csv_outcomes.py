"""A CSV of paired outcomes: one row per item, one column per run.

Comes in: a text with a header such as `item,base,full,selective`. Goes out: an `ImportedColumn` per run, and the names
of the columns that are none. Always holds: the order of columns, the case of the header, a byte order mark and the kind
of line ends change nothing; what cannot be read is refused with its line.

Without names, a column is a run if more than half of what it holds are outcomes; a run's other cells are then errors.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.compare.imported_items import MISSING, ImportedColumn, ImportedItem, is_outcome, outcome_of
from moe_cli.errors import UsageError

ITEM_NAMES = ("item", "item_id", "id", "doc_id", "question_id", "example_id", "index", "idx", "qid")
CLUSTER = "cluster"
HINT = (
    "write one row per item and one column per run: item,base,full,selective; outcomes are 0 or 1, true or false;"
    " an empty cell is unanswered"
)


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]  # line in the file, cells

    def place(self, name: str) -> int | None:
        """Which column has this name, whatever its case."""
        return next((place for place, title in enumerate(self.header) if title.casefold() == name.casefold()), None)

    def cells(self, place: int) -> list[tuple[int, str]]:
        """Line and text of every cell of a column."""
        return [(line, cells[place].strip()) for line, cells in self.rows]


def csv_columns(text: str, path: Path, words: Sequence[str]) -> tuple[list[ImportedColumn], tuple[str, ...]]:
    """Every column of outcomes, or those that `words` name; and the names of the columns that were left out.

    Raises:
        UsageError: no header, no item column, an item twice, or a cell that is no outcome; names the line.
    """
    table = _table(text, path)
    item_place = _item_place(table)
    cluster_place = table.place(CLUSTER)
    others = [place for place in range(len(table.header)) if place not in (item_place, cluster_place)]
    wanted = {table.place(word) for word in words}
    runs = [place for place in others if (place in wanted if words else _holds_outcomes(table, place))]
    ids = _ids(table, item_place)
    clusters = ids if cluster_place is None else _clusters(table, cluster_place, ids)
    found = [_column(table, place, ids, clusters) for place in runs]
    return found, tuple(table.header[place] for place in others if place not in runs and table.header[place])


def _table(text: str, path: Path) -> _Table:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV: {error}", hint=HINT) from error
    if len(rows) < 2:
        raise UsageError(f"{path} holds no rows below a header", hint=HINT)
    header = [title.strip() for title in rows[0][1]]
    for name, times in Counter(title.casefold() for title in header if title).items():
        if times > 1:
            raise UsageError(f"{path}:{rows[0][0]}: {times} columns are called {name}", hint=HINT)
    for at, cells in rows[1:]:
        if len(cells) != len(header):
            raise UsageError(f"{path}:{at}: it has {len(cells)} cells, the header has {len(header)}", hint=HINT)
    return _Table(path, header, rows[1:])


def _item_place(table: _Table) -> int:
    found = next((place for name in ITEM_NAMES if (place := table.place(name)) is not None), None)
    if found is None and table.header[0] == "":  # the index that pandas writes
        return 0
    if found is None:
        raise UsageError(
            f"{table.path}: no column says which item a row is about; there are {', '.join(table.header)}",
            hint=f"call it one of {', '.join(ITEM_NAMES)}; {HINT}",
        )
    return found


def _ids(table: _Table, place: int) -> list[str]:
    seen: dict[str, int] = {}
    for line, id in table.cells(place):
        if not id:
            raise UsageError(f"{table.path}:{line}: the item has no name", hint=HINT)
        if id in seen:
            raise UsageError(
                f"{table.path}:{line}: the item {id} stands in line {seen[id]} already",
                hint="give every item an id of its own, and a column `cluster` to items that belong together",
            )
        seen[id] = line
    return list(seen)


def _clusters(table: _Table, place: int, ids: Sequence[str]) -> list[str]:
    """The cluster of every item; an item without one is its own."""
    return [cell or id for (_, cell), id in zip(table.cells(place), ids, strict=True)]


def _holds_outcomes(table: _Table, place: int) -> bool:
    said = [cell for _, cell in table.cells(place) if cell.casefold() not in MISSING]
    return bool(table.header[place]) and 2 * sum(map(is_outcome, said)) > len(said)


def _column(table: _Table, place: int, ids: Sequence[str], clusters: Sequence[str]) -> ImportedColumn:
    name, task = table.header[place], table.path.stem
    for line, cell in table.cells(place):
        if not is_outcome(cell):
            raise UsageError(f"{table.path}:{line}: {name} is {cell!r}, which is no outcome", hint=HINT)
    items = tuple(
        ImportedItem(id=id, task=task, cluster=cluster, content=None, yes=outcome_of(cell))
        for id, cluster, (_, cell) in zip(ids, clusters, table.cells(place), strict=True)
    )
    return ImportedColumn(name, str(table.path), task, items)
