"""What one cell of a table says, the same in every option that takes a table: nothing, a number, or yes or no.

Only cells of numbers, verdicts and names are read so; a cell of text is the text, even where it is `NA`. A number may
have a decimal comma. One that could be a comma between thousands (`1,234`) is no number, as it would be another one.
"""

from __future__ import annotations

import re

MISSING = {"", "-", "?", "na", "n/a", "#n/a", "<na>", "nan", "none", "null"}
YES = {"yes", "y", "true", "t", "1", "1.0"}
NO = {"no", "n", "false", "f", "0", "0.0"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\d*[.,]\d+)(e[+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def cell_of(value: object) -> str:
    """A value of JSON or parquet as the cell of a table would hold it."""
    if isinstance(value, bool):
        return str(value).lower()
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
