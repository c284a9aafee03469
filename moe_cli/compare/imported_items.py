"""One outcome of a table that was made elsewhere, and what a cell may say.

Comes in: a cell or a JSON value. Goes out: yes, no or unanswered. Always holds: 0 and 1, true and false, 0.0 and 1.0
are outcomes; empty is unanswered; everything else is no outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

YES, NO, MISSING = {"1", "true"}, {"0", "false"}, {"", "nan", "none", "null", "na", "n/a"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedItem:
    """What one run got for one item."""

    id: str
    task: str  # what the file is about; the suite of the item
    cluster: str
    content: str | None  # digest of the item's text, where the file has one
    yes: bool | None  # None: unanswered

    def inside(self, task: str) -> ImportedItem:
        """The item named with its task, where one run has several."""
        return replace(self, id=f"{task}/{self.id}", cluster=f"{task}/{self.cluster}", task=task)


@dataclass(frozen=True, slots=True)
class ImportedColumn:
    """The outcomes of one run."""

    name: str
    source: str  # the file
    task: str
    items: tuple[ImportedItem, ...]

    def count(self, outcome: bool | None) -> int:
        """Items with this outcome."""
        return sum(item.yes is outcome for item in self.items)


def is_outcome(cell: str) -> bool:
    """Whether a cell says yes, no or nothing."""
    text = cell.strip().casefold()
    return text in MISSING or _number(text) in (0.0, 1.0) or text in YES | NO


def outcome_of(cell: str) -> bool | None:
    """What a cell that `is_outcome` says; None: unanswered."""
    text = cell.strip().casefold()
    return None if text in MISSING else text in YES or _number(text) == 1.0


def _number(text: str) -> float | None:
    digits = text.replace(".", "", 1)
    return float(text) if digits.isascii() and digits.isdigit() else None
