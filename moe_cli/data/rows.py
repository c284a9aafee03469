"""One row with its columns by their known names, and which of them were read.

Names are compared as `column_names` says; a missing value is None, NaN included.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from moe_cli.data.column_names import AS_NAMED, LABEL_NAMES, ColumnMap, is_known, normalise_name, singular_of
from moe_cli.data.faults import BadRowError
from moe_cli.data.values import Row, is_missing


class ReadRow(Mapping[str, object]):
    """A row that remembers which of its columns were asked for.

    `columns_read` is shared by the rows of a table: what no row was asked for is what the program did not read.
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
        """A value that is looked at to understand the column, not used."""
        return self._values.get(key)

    def filled(self) -> Iterator[str]:
        """The columns that hold something."""
        return (key for key, value in self._values.items() if not is_missing(value))


def clean_row(raw: Mapping[str, object], columns: ColumnMap = AS_NAMED) -> dict[str, object]:
    """The row by known names; NaN is None, and a column without a name (the index of pandas) is left out.

    Raises:
        BadRowError: two keys differ in case, spaces or hyphens alone.
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


__all__ = ["ReadRow", "Row", "clean_row"]
