"""What a run made elsewhere got for each item, and how a cell of an outcome is read.

0 and 1, true and false are no and yes; a number between them is a fraction; empty is unanswered; anything else is no
outcome. Numbers are fractions of a full mark, which is 1 unless another is named: 87 is no outcome, and 0.87 of 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from moe_cli.data.rows import is_missing_cell, number_of_cell
from moe_cli.stats.metrics import ACCURACY, ATTACK_SUCCESS
from moe_cli.stats.outcomes import Outcome

TRUTHS = {"true": 1.0, "false": 0.0}
WORDS = {
    "yes": 1.0,
    "pass": 1.0,
    "passed": 1.0,
    "correct": 1.0,
    "right": 1.0,
    "no": 0.0,
    "fail": 0.0,
    "failed": 0.0,
    "incorrect": 0.0,
    "wrong": 0.0,
}
NO_OUTCOME = "which is no outcome"
SCALE_HINT = "a fraction is from 0 to 1: --scale 100 reads percents"

MetricWord = Literal["accuracy", "asr"]
METRIC_OF: dict[MetricWord, str] = {"accuracy": ACCURACY, "asr": ATTACK_SUCCESS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedItem:
    """The outcome of one run for one item."""

    id: str
    task: str  # what the file is about; the suite of the item
    cluster: str
    content: str | None  # digest of the item's text, where the file has one
    outcome: Outcome  # None: unanswered

    def inside(self, task: str) -> ImportedItem:
        """The item with its task in the id, for runs with several tasks."""
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
    titles: tuple[str, ...] = ()  # what else says what a 1 means: the task, or all columns of a table and its own name
    is_table: bool = False

    def called(self, name: str, *, file_name: str | None = None) -> ImportedColumn:
        """A copy of the column under another name."""
        return replace(self, name=name, file_name=file_name or self.file_name)

    @property
    def graded(self) -> bool:
        """Whether some outcome is a fraction, neither yes nor no."""
        return any(isinstance(item.outcome, float) for item in self.items)

    @property
    def total(self) -> float:
        """Number of items with yes, or the sum of the fractions."""
        return sum(item.outcome or 0 for item in self.items)

    @property
    def num_unanswered(self) -> int:
        """Number of items without an outcome."""
        return sum(item.outcome is None for item in self.items)


def fraction_of(cell: str, scale: float) -> float | None:
    """The number in a cell as a fraction of the full mark; None where it holds no number."""
    text = cell.strip().casefold()
    if text in TRUTHS or text in WORDS:
        return TRUTHS[text] if text in TRUTHS else WORDS[text]
    number = number_of_cell(text.removesuffix("%").rstrip())
    return None if number is None else number / (100 if text.endswith("%") else scale)


def is_outcome(cell: str, scale: float) -> bool:
    """Whether a cell can be read as a fraction, yes, no or empty."""
    fraction = fraction_of(cell, scale)
    return is_missing_cell(cell) or (fraction is not None and 0 <= fraction <= 1)


def parse_outcome(fractions: Sequence[float | None]) -> tuple[Outcome, ...]:
    """The outcomes of a column, as yes and no if it holds nothing between them."""
    if any(fraction not in (None, 0.0, 1.0) for fraction in fractions):
        return tuple(fractions)
    return tuple(None if fraction is None else fraction == 1.0 for fraction in fractions)


def digest_of_text(text: str) -> str:
    """Digest of an item's text, so that the same id with another text is another item."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
