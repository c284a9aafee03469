"""Locations of rows, and rows that cannot be used: collected, counted, and refused together in one error.

No reason quotes the text of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from moe_cli.errors import UsageError

Unit = Literal["line", "element", "row"]
EQUAL = "it is equal to another row"  # why a row is left out
MOST_NAMED = 5  # bad rows in the message of an error


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


def list_names(lines: Iterable[object]) -> str:
    """The items of a list below an error message, one per line."""
    return "".join(f"\n  - {line}" for line in lines)


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
