"""What one run got for one item of a file that was made elsewhere, and how a cell says it.

0 and 1, true and false are no and yes; a number between them is a fraction; empty is unanswered; all else is no
outcome. Numbers are fractions of a full mark, which is 1 unless another was named: 87 is no outcome, and 0.87 of 100.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from moe_cli.compare.items import Outcome

MISSING = {"", "nan", "none", "null", "na", "n/a"}
TRUTHS = {"true": 1.0, "false": 0.0}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")
NO_OUTCOME = "which is no outcome"
SCALE_HINT = "a fraction is from 0 to 1: --scale 100 reads percents"

MetricWord = Literal["accuracy", "asr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedItem:
    """What one run got for one item."""

    id: str
    task: str  # what the file is about; the suite of the item
    cluster: str
    content: str | None  # digest of the item's text, where the file has one
    outcome: Outcome  # None: unanswered

    def inside(self, task: str) -> ImportedItem:
        """The item named with its task, where one run has several."""
        return replace(self, id=f"{task}/{self.id}", cluster=f"{task}/{self.cluster}", task=task)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedColumn:
    """The outcomes of one run on one task."""

    name: str
    file_name: str  # what it is called where another file has a run of the same name
    source: str  # the file
    task: str
    measure: str | None  # "rouge1"; what the file calls the outcomes; None: it does not say
    metric: MetricWord | None  # what the kind of file says that a 1 is; None: nothing
    items: tuple[ImportedItem, ...]

    def called(self, name: str, *, file_name: str | None = None) -> ImportedColumn:
        """The column under another name."""
        return replace(self, name=name, file_name=file_name or self.file_name)

    @property
    def graded(self) -> bool:
        """Whether an outcome is neither yes nor no."""
        return any(isinstance(item.outcome, float) for item in self.items)

    @property
    def total(self) -> float:
        """Items with yes, or the sum of the fractions."""
        return sum(item.outcome or 0 for item in self.items)

    @property
    def num_unanswered(self) -> int:
        """Items without an outcome."""
        return sum(item.outcome is None for item in self.items)


def fraction_of(cell: str, scale: float) -> float | None:
    """The number that a cell holds, of a full mark; None where it holds none."""
    text = cell.strip().casefold()
    if text in TRUTHS:
        return TRUTHS[text]
    return float(text) / scale if NUMBER.fullmatch(text) else None


def is_missing_cell(cell: str) -> bool:
    """Whether a cell says that there is no outcome."""
    return cell.strip().casefold() in MISSING


def is_outcome(cell: str, scale: float) -> bool:
    """Whether a cell holds a fraction, yes, no or nothing."""
    fraction = fraction_of(cell, scale)
    return is_missing_cell(cell) or (fraction is not None and 0 <= fraction <= 1)


def parse_outcome(fractions: Sequence[float | None]) -> tuple[Outcome, ...]:
    """The outcomes of a column: yes and no where it holds nothing between them."""
    if any(fraction not in (None, 0.0, 1.0) for fraction in fractions):
        return tuple(fractions)
    return tuple(None if fraction is None else fraction == 1.0 for fraction in fractions)


def cell_of(value: object) -> str:
    """A JSON value as the cell of a table would hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def digest_of_text(text: str) -> str:
    """What stands for an item's text, so that the same id with another text is another item."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
