"""Where a row stands, and rows that cannot be used: collected, counted, and refused together.

Comes in: what is wrong with single rows. Goes out: one error that names the first rows, or nothing. Always holds: no
reason quotes the text of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from moe_cli.errors import UsageError

Unit = Literal["line", "element", "row"]


@dataclass(frozen=True, slots=True)
class Location:
    """One row of one source."""

    source: str  # "pairs.jsonl"; as it was named
    number: int  # from 1; a row of a CSV is counted after the header, whatever number of lines it takes
    unit: Unit = "line"  # of a .jsonl; an element of a JSON list; a row of a table

    def __str__(self) -> str:
        return f"{self.source}:{self.number}" if self.unit == "line" else f"{self.source} [{self.unit} {self.number}]"


MOST_NAMED = 5  # bad rows in the message of an error


class BadRowError(Exception):
    """What is wrong with one row; becomes a `Fault` where the row's place is known."""

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
    """The lines below a sentence, one each."""
    return "".join(f"\n  - {line}" for line in lines)


def refuse_bad_rows(faults: Sequence[RowFault], allowed: int, *, hint: str) -> None:
    """Refuse more bad rows than are allowed.

    Raises:
        UsageError: names the first five with place and reason, and how many there are.
    """
    if len(faults) <= allowed:
        return
    if len(faults) == 1:
        raise UsageError(str(faults[0]), hint=hint)
    more = [f"and {len(faults) - MOST_NAMED} more"] if len(faults) > MOST_NAMED else []
    limit = f", and {allowed} are allowed" if allowed else ""
    raise UsageError(f"{len(faults)} bad rows{limit}{list_names([*faults[:MOST_NAMED], *more])}", hint=hint)
