"""Files in which people label answers: CSV that survives a spreadsheet program.

A cell that a spreadsheet would take for a formula begins with an apostrophe; newlines within a cell are kept; the file
is UTF-8 with a byte order mark, by which spreadsheets recognise the encoding. It is read as every other table, whatever
separator, encoding or compression it has come back with. Errors name rows, never their text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from moe_cli.data.rows import MISSING, NO, YES, Location, cell_of, number_of_cell, refuse_bad_rows
from moe_cli.data.tables import file_source, table_of_bytes
from moe_cli.errors import UsageError

Asked = Literal["harmful", "refused"]  # which column a row asks for

COLUMNS = ("item", "run", "prompt", "answer", "asked", "harmful", "refused", "probability", "draw")
NEEDED = ("item", "run", "asked", "harmful", "refused", "probability", "draw")
ASKED: tuple[Asked, ...] = ("harmful", "refused")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell must not begin with (OWASP, CSV injection)
YES_LABELS, NO_LABELS, BLANK = YES | {"x"}, NO, MISSING | {"skip"}
HINT = "write yes or no into the column that `asked` names; an empty cell is an answer that is not labelled"
MAKE_ONE = "moe label RUN_A RUN_B -o labels.csv makes a file to label"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One answer to label."""

    item: str  # "attacked/goal-90/story"
    run: str  # "r5d0c..."; opaque: the digest of item and answer
    prompt: str
    answer: str
    asked: Asked
    label: bool | None  # None: not labelled
    probability: float  # 0.25; that the item was drawn
    draw: str  # "d93b1..."; equal in all rows that were drawn together


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSheet:
    """A file of answers to label."""

    name: str  # as it was named
    sha256: str
    rows: tuple[LabelRow, ...]


def sheet_bytes(rows: Sequence[LabelRow]) -> bytes:
    """The rows as the bytes of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        label = {None: "", True: "yes", False: "no"}[row.label]
        labels = [label if row.asked == asked else "" for asked in ASKED]
        cells = (row.item, row.run, row.prompt, row.answer, row.asked, *labels, repr(row.probability), row.draw)
        writer.writerow(map(_escaped, cells))
    return text.getvalue().encode("utf-8-sig", errors="replace")


def read_sheet(place: str) -> LabelSheet:
    """Read a table of answers, labelled or yet to be labelled.

    Raises:
        UsageError: it is no such table, or some cells cannot be read; the message names all their rows.
    """
    source = file_source(Path(place), MAKE_ONE)
    table = table_of_bytes(Path(source.place).read_bytes(), source, shape="cells")
    refuse_bad_rows(table.faults, 0, hint=HINT)
    there = table.keys()
    if table.rows and (missing := [name for name in NEEDED if name not in there]):
        raise UsageError(f"{place} is no file of labels: it has no column {', '.join(missing)}", hint=MAKE_ONE)
    filled = [(location, row) for location, row in table.rows if any(row.filled())]
    numbered = [(_number_of(location), {name: cell_of(row.get(name)) for name in COLUMNS}) for location, row in filled]
    faults = [f"row {number}: {fault}" for number, cells in numbered for fault in _faults(cells)]
    if faults or not numbered:
        raise UsageError(f"{place}: {_first(faults) or 'it has no row'}", hint=HINT)
    return LabelSheet(name=place, sha256=table.sha256, rows=tuple(_row(cells) for _, cells in numbered))


def _number_of(location: Location) -> int:
    """The number of a row as a spreadsheet shows it, whose first row is the header."""
    return location.number + (location.unit == "row")


def label_of(text: str) -> bool | None:
    """True for yes, False for no, None for an empty cell.

    Raises:
        ValueError: it is none of these.
    """
    spelled = text.strip().strip("'").strip().lower()
    if spelled in YES_LABELS:
        return True
    if spelled in NO_LABELS:
        return False
    if spelled in BLANK:
        return None
    raise ValueError("neither yes nor no")


def _escaped(cell: str) -> str:
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA) else cell


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA) else cell


def _faults(cells: dict[str, str]) -> list[str]:
    """The cells of a row that cannot be read, as messages."""
    faults = []
    for name in ASKED:
        try:
            label_of(cells.get(name, ""))
        except ValueError:
            faults.append(f"`{name}` is neither yes nor no")
    asked = cells.get("asked", "").strip().lower()
    if asked not in ASKED:
        faults.append("`asked` is neither harmful nor refused")
    elif not faults and label_of(cells[asked]) is None and any(label_of(cells[name]) is not None for name in ASKED):
        faults.append(f"`{asked}` is asked and empty, and the label stands in the other column")
    if not 0 < (number_of_cell(cells["probability"]) or 0.0) <= 1:
        faults.append("`probability` is not between 0 and 1")
    return faults


def _row(cells: dict[str, str]) -> LabelRow:
    asked = cast(Asked, cells["asked"].strip().lower())
    return LabelRow(
        item=_unescaped(cells["item"]),
        run=cells["run"].strip(),
        prompt=_unescaped(cells.get("prompt", "")),
        answer=_unescaped(cells.get("answer", "")),
        asked=asked,
        label=label_of(cells.get(asked, "")),
        probability=number_of_cell(cells["probability"]) or 0.0,
        draw=cells.get("draw", "").strip(),
    )


def _first(faults: Sequence[str]) -> str:
    more = f"; {len(faults) - 3} more rows" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more
