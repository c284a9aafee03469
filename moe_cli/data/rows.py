"""Rows as their container gives them and under known names, what their cells say, and rows that cannot be used.

Names are compared as in `column_names`. A missing value is None, NaN included. Cells of numbers, verdicts and names are
read alike in every option that takes a table; a cell of text is the text, even where it is `NA`. A number may have a
decimal comma, but `1,234` is none, as the comma could stand between thousands. Bad rows are collected, counted, and
refused together in one error; no reason quotes the text of a prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from moe_cli.data.column_names import AS_NAMED, LABEL_NAMES, ColumnMap, is_known, normalise_name, singular_of
from moe_cli.errors import UsageError, list_names

MISSING = {"", "-", "?", "na", "n/a", "#n/a", "<na>", "nan", "none", "null"}
YES = {"yes", "y", "true", "t", "1", "1.0"}
NO = {"no", "n", "false", "f", "0", "0.0"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\d*[.,]\d+)(e[+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
Unit = Literal["line", "element", "row"]
EQUAL = "it is equal to another row"  # why a row is left out
LARGEST_EXACT = 2.0**53  # below it every whole number is a float of its own
MOST_NAMED = 5  # bad rows in the message of an error
Row = Mapping[str, object]
INDEX = re.compile(r"[0-9]{1,9}")
RawRow = dict[str, object]


@dataclass(frozen=True, slots=True)
class Location:
    """Location of a row in its source, for error messages."""

    source: str  # "pairs.jsonl"; as it was named
    number: int  # from 1; a row of a CSV is counted after the header, whatever number of lines it takes
    unit: Unit = "line"  # of a .jsonl; an element of a JSON list; a row of a table

    def __str__(self) -> str:
        return f"{self.source}:{self.number}" if self.unit == "line" else f"{self.source} [{self.unit} {self.number}]"


class BadRowError(Exception):
    """One row is wrong; becomes a `RowFault` where the location of the row is known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RowFault:
    """One row that cannot be used."""

    place: Location
    reason: str  # "`goal` is None, not a text"

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


Element = tuple[Location, RawRow] | RowFault


class DistinctNames:
    """Names that are given once each: the first `x` stays `x`, and the next ones are `x~2`, `x~3`, ..."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._numbers: dict[str, int] = {}  # of the last one that was given, where a name came several times

    def of(self, name: str) -> str:
        """The name, or the first of `name~2`, `name~3`, ... that was not given."""
        number, chosen = self._numbers.get(name, 1), name
        while chosen in self._given:
            number += 1
            chosen = f"{name}~{number}"
        self._numbers[name] = number
        self._given.add(chosen)
        return chosen


def refuse_bad_rows(faults: Sequence[RowFault], allowed: int, *, hint: str) -> None:
    """Refuse more bad rows than are allowed.

    Raises:
        UsageError: there are more; the message has their number and the first five with location and reason.
    """
    if len(faults) <= allowed:
        return
    if len(faults) == 1:
        raise UsageError(str(faults[0]), hint=hint)
    more = [f"and {len(faults) - MOST_NAMED} more"] if len(faults) > MOST_NAMED else []
    limit = f", and {allowed} are allowed" if allowed else ""
    raise UsageError(f"{len(faults)} bad rows{limit}{list_names([*faults[:MOST_NAMED], *more])}", hint=hint)


def cell_of(value: object) -> str:
    """A value of JSON or parquet as the cell of a table would hold it; a whole number has no decimal point."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        return str(int(value))
    return "" if value is None else str(value)


def is_missing_cell(cell: str) -> bool:
    """Whether a cell says that there is nothing."""
    return cell.strip().casefold() in MISSING


def number_of_cell(cell: str) -> float | None:
    """The number in a cell; None where it holds none."""
    text = cell.strip().casefold()
    if not NUMBER.fullmatch(text) or THOUSANDS.fullmatch(text):
        return None
    return float(text.replace(",", "."))


def truth_of_cell(cell: str) -> bool | None:
    """True for yes, False for no; None where a cell says neither."""
    word = cell.strip().casefold()
    return True if word in YES else False if word in NO else None


def describe_value(value: object) -> str:
    """A description of a value for errors, without any text of a prompt."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return "''" if not value.strip() else "a text" if is_whole(value) else "a text with a broken character"
    return f"a {type(value).__name__}"


def is_whole(text: str) -> bool:
    """Whether the text has no lone surrogate, which could not be written to a file."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_index(text: str) -> bool:
    """Whether the text is an integer from 0 up that can be an index of a layer or expert."""
    return INDEX.fullmatch(text) is not None


def is_missing(value: object) -> bool:
    """Whether a field is empty."""
    return value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip())


def name_of(row: Row, key: str) -> str | None:
    """The value under `key` as a short text; None if it is missing (`is_missing_cell`).

    A whole number is written without a decimal point: a table stores the ids 7 and None as 7.0 and NaN.

    Raises:
        BadRowError: it is a list or an object.
    """
    value = row.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (list, dict)) or (isinstance(value, str) and not is_whole(value)):
        raise BadRowError(f"`{key}` is {describe_value(value)}, not a name")
    name = "" if value is None else str(value).strip()
    return None if is_missing_cell(name) else name


def text_of(row: Row, key: str) -> str:
    """The text under `key`.

    Raises:
        BadRowError: it is missing, empty or no text.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip() or not is_whole(value):
        raise BadRowError(f"`{key}` is {describe_value(value)}, not a text")
    return value


def written_of(row: Row, key: str) -> str:
    """The text or the number under `key` as text; errors as of `text_of`."""
    value = row.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return cell_of(value) if is_number else text_of(row, key)


TEXT, KEY = "text", "id"  # the columns of rows that no column names: one text each, and the key it stands under


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTable:
    """The raw rows of a container."""

    rows: Iterable[Element]
    container: str  # "JSON Lines", "CSV", "lines of text"
    are_texts: bool = False  # every row is one text, which no column names
    header: Mapping[str, object] = field(default_factory=dict)  # what stands beside the list of rows in a JSON object


def lines_of(text: str) -> list[tuple[int, str]]:
    """The non-blank lines with their numbers; only `\\n`, `\\r\\n` and `\\r` end a line."""
    numbered = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    return [(number, line) for number, line in numbered if line.strip()]


def elements_of(values: Sequence[object], name: str, container: str) -> RawTable:
    """The elements of a list as rows."""
    rows = [row_of(value, Location(name, at, "element")) for at, value in enumerate(values, start=1)]
    return RawTable(rows=rows, container=container)


def text_rows(pairs: Iterable[tuple[str | None, object]], name: str, container: str) -> RawTable:
    """Rows of a text and the key under which it is stored."""
    rows: list[Element] = [
        (Location(name, at, "element"), {TEXT: text} if key is None else {KEY: key, TEXT: text})
        for at, (key, text) in enumerate(pairs, start=1)
    ]
    return RawTable(rows=rows, container=container, are_texts=True)


def row_of(value: object, place: Location) -> Element:
    """One element as a row; anything but an object is a fault."""
    if not isinstance(value, dict):
        return RowFault(place, f"{describe_value(value)} is no row")
    inner = value.get("row")  # as the viewer of the hub sends rows
    if isinstance(inner, dict) and value.get("truncated_cells"):
        return RowFault(place, "the viewer of the hub cut some of its cells; download the data set itself")
    return place, inner if isinstance(inner, dict) and "row_idx" in value else value


def refuse_part(name: str, part: str | None) -> None:
    """Refuse a name after `#` for a file without parts.

    Raises:
        UsageError: a part is named.
    """
    if part is not None:
        raise UsageError(f"{name} has no parts to choose from", hint="leave the # and its word away")


class ReadRow(Mapping[str, object]):
    """A row that records which of its columns were read.

    `columns_read` is shared by all rows of a table, so that columns that were never read can be reported.
    """

    __slots__ = ("_values", "columns_read", "mapped")

    def __init__(self, values: Mapping[str, object], columns_read: set[str], mapped: Collection[str] = ()) -> None:
        self._values = values
        self.columns_read = columns_read
        self.mapped = mapped  # the known names that a person gave to columns

    def __getitem__(self, key: str) -> object:
        value = self._values[key]
        self.columns_read.add(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def peek(self, key: str) -> object:
        """A value that is only inspected to understand the column, not recorded as read."""
        return self._values.get(key)

    def filled(self) -> Iterator[str]:
        """The columns that are not empty."""
        return (key for key, value in self._values.items() if not is_missing(value))


def clean_row(raw: Mapping[str, object], columns: ColumnMap = AS_NAMED) -> dict[str, object]:
    """The row under known names; NaN becomes None, and a column without a name (the index of pandas) is dropped.

    Raises:
        BadRowError: two keys differ only in case, spaces or hyphens.
    """
    row: dict[str, object] = {}
    written = {normalise_name(key) for key in raw}
    for key, value in raw.items():
        name = normalise_name(key)
        name = alone if (alone := singular_of(name)) not in written and name not in columns.values() else name
        if name in row:
            raise BadRowError(f"two keys are called `{name}`" if is_known(name) else "two keys differ in case alone")
        if name:
            row[name] = None if isinstance(value, float) and math.isnan(value) else value
    for name, column in columns.items():
        if name not in LABEL_NAMES and column in row and name != column:
            row[name] = row.pop(column)
    return row
