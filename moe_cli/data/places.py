"""Where a row stands: named in every sentence about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["line", "element", "row"]


@dataclass(frozen=True, slots=True)
class Location:
    """One row of one source."""

    source: str  # "pairs.jsonl"; as it was named
    number: int  # from 1; a row of a CSV is counted after the header, whatever number of lines it takes
    unit: Unit = "line"  # of a .jsonl; an element of a JSON list; a row of a table

    def __str__(self) -> str:
        return f"{self.source}:{self.number}" if self.unit == "line" else f"{self.source} [{self.unit} {self.number}]"
