"""Tables of outcomes made elsewhere: what each run got for each item, how a cell is read, and what a yes counts for.

0 and 1, true and false are no and yes; a number between them is a fraction; empty is unanswered; anything else is no
outcome. Numbers are fractions of a full mark, which is 1 unless another is named: 87 is no outcome, and 0.87 of 100.

A table is a CSV with a header such as `item,base,full,selective`, or rows of JSON or parquet with such keys. The
order of columns, the case of the header, a byte order mark and the line endings change nothing. What cannot be read
is refused with its location.

If no columns are named, a column is a run if more than half of its cells are yes or no; where no column is, those of
which more than half are fractions. Other cells of a run are then errors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from moe_cli.data.json_objects import SHOWN_KEY, shown_keys
from moe_cli.data.rows import Location, cell_of, is_missing_cell, number_of_cell
from moe_cli.errors import UsageError
from moe_cli.stats.metrics import ACCURACY, ATTACK_SUCCESS
from moe_cli.stats.outcomes import Outcome

TRUTHS = {"true": 1.0, "false": 0.0}
NO_OUTCOME = "which is no outcome"
SCALE_HINT = "a fraction is from 0 to 1: --scale 100 reads percents"

MetricWord = Literal["accuracy", "asr"]
METRIC_OF: dict[MetricWord, str] = {"accuracy": ACCURACY, "asr": ATTACK_SUCCESS}
LOWER_IS_BETTER = {  # words in the name of a measure
    *("asr", "attack", "bias", "brier", "cer", "error", "errors", "hallucination", "harm", "harmful", "harmfulness"),
    *("jailbreak", "jailbroken", "loss", "perplexity", "ppl", "refusal", "refused", "ter", "toxic", "toxicity"),
    *("unsafe", "wer"),
}
ITEM_NAMES = (
    *("item", "item_id", "id", "doc_id", "question_id", "example_id", "sample_id", "task_id", "prompt_id"),
    *("behavior_id", "behaviorid", "index", "idx", "qid"),
)
HINT = (
    "write one row per item and one column per run: item,base,full,selective; outcomes are 0 or 1, true or false, or"
    " fractions; an empty cell is unanswered"
)


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
    if text in TRUTHS:
        return TRUTHS[text]
    number = number_of_cell(text)
    return None if number is None else number / scale


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


CLUSTER, EPOCH = "cluster", "epoch"


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Rows of cells under a header."""

    path: Path
    header: list[str]
    rows: list[tuple[Location, list[str]]]

    def place(self, name: str) -> int | None:
        """Index of the column with this name, ignoring case."""
        return next((place for place, title in enumerate(self.header) if title.casefold() == name.casefold()), None)

    def cells(self, place: int) -> list[str]:
        """The text of every cell in a column."""
        return [cells[place].strip() for _, cells in self.rows]


@dataclass(frozen=True, slots=True)
class _Items:
    ids: list[str]
    clusters: list[str]


def table_columns(
    table: OutcomeTable, run_names: Sequence[str], scale: float
) -> tuple[list[ImportedColumn], tuple[str, ...]]:
    """Every column of outcomes, or those that `run_names` name; and the names of the columns that were left out.

    Raises:
        UsageError: no item column, an item twice, or a cell that is no outcome; names the place.
    """
    _refuse_same_titles(table)
    item_place = _item_place(table)
    about_items = {item_place, table.place(CLUSTER), table.place(EPOCH)}
    others = [place for place in range(len(table.header)) if place not in about_items]
    wanted = {table.place(word) for word in run_names}
    runs = [place for place in others if place in wanted] if run_names else _runs(table, others, scale)
    items = _items(table, item_place)
    columns = [_column(table, place, items, scale, alone=len(runs) == 1) for place in runs]
    return columns, tuple(table.header[place] for place in others if place not in runs and table.header[place])


def row_table(rows: Iterable[tuple[Location, Mapping[str, object]]], path: Path) -> OutcomeTable:
    """A table made of rows with keys; a key that a row lacks becomes an empty cell.

    Raises:
        UsageError: there is no row.
    """
    listed = list(rows)
    if not listed:
        raise UsageError(f"{path} holds no rows", hint=HINT)
    header = list(dict.fromkeys(key for _, row in listed for key in row))
    return OutcomeTable(path, header, [(place, [cell_of(row.get(key)) for key in header]) for place, row in listed])


def _refuse_same_titles(table: OutcomeTable) -> None:
    for name, times in Counter(title.casefold() for title in table.header if title).items():
        if times > 1:
            raise UsageError(f"{table.path}: {times} columns are called {name}", hint=HINT)


def _item_place(table: OutcomeTable) -> int:
    index_of_id = next((index for name in ITEM_NAMES if (index := table.place(name)) is not None), None)
    if index_of_id is None and table.header[0] in ("", "Unnamed: 0"):  # the index that pandas writes
        return 0
    if index_of_id is None:
        raise UsageError(
            f"{table.path}: no column says which item a row is about; there are {shown_keys(table.header)}",
            hint=f"call it one of {', '.join(ITEM_NAMES)}; {HINT}",
        )
    return index_of_id


def _items(table: OutcomeTable, index: int) -> _Items:
    """Id and cluster of every row: the epochs of an item are one cluster, and an item without a cluster is its own."""
    cluster_place, epoch_place = table.place(CLUSTER), table.place(EPOCH)
    seen: dict[str, Location] = {}
    clusters: list[str] = []
    for cell, (where, cells) in zip(table.cells(index), table.rows, strict=True):
        if not cell:
            raise UsageError(f"{where}: the item has no name", hint=HINT)
        id = cell if epoch_place is None else f"{cell}/epoch {cells[epoch_place].strip()}"
        if id in seen:
            raise UsageError(
                f"{where}: the item {id} stands in {seen[id].unit} {seen[id].number} already",
                hint="give every item an id of its own, and a column `cluster` to items that belong together",
            )
        seen[id] = where
        own = "" if cluster_place is None else cells[cluster_place].strip()
        clusters.append(cell if is_missing_cell(own) else own)
    return _Items(list(seen), clusters)


def _runs(table: OutcomeTable, places: Sequence[int], scale: float) -> list[int]:
    yes_or_no = [index for index in places if _mostly(table, index, scale, {0.0, 1.0})]
    return yes_or_no or [index for index in places if _mostly(table, index, scale)]


def _mostly(table: OutcomeTable, index: int, scale: float, among: set[float] | None = None) -> bool:
    """Whether more than half of the cells that are not empty are fractions, or among these values."""
    cells = Counter(table.cells(index))
    cells = Counter({cell: times for cell, times in cells.items() if not is_missing_cell(cell)})
    fitting = sum(
        times
        for cell, times in cells.items()
        if is_outcome(cell, scale) and (among is None or fraction_of(cell, scale) in among)
    )
    return bool(table.header[index]) and 2 * fitting > cells.total()


def _column(table: OutcomeTable, index: int, items: _Items, scale: float, *, alone: bool) -> ImportedColumn:
    name = table.header[index]
    cells = table.cells(index)
    different = set(cells)
    refused = {cell for cell in different if not is_outcome(cell, scale)}
    for cell, (where, _) in zip(cells, table.rows, strict=True) if refused else ():
        if cell in refused:
            numeric = fraction_of(cell, scale) is not None
            shown = repr(cell) if SHOWN_KEY.fullmatch(cell) or numeric else "a text"
            raise UsageError(f"{where}: {name} is {shown}, {NO_OUTCOME}", hint=SCALE_HINT if numeric else HINT)
    task = name if alone else table.path.stem
    fractions = {cell: None if is_missing_cell(cell) else fraction_of(cell, scale) for cell in different}
    outcomes = parse_outcome([fractions[cell] for cell in cells])
    return ImportedColumn(
        name=name,
        file_name=table.path.stem,
        source=str(table.path),
        task=task,
        measure=name if alone else None,
        metric=None,
        items=tuple(
            ImportedItem(id=id, task=task, cluster=cluster, content=None, outcome=outcome)
            for id, cluster, outcome in zip(items.ids, items.clusters, outcomes, strict=True)
        ),
    )


def declared_metric(asked: MetricWord | None, columns: Sequence[ImportedColumn]) -> MetricWord:
    """The metric that a yes counts for: the requested one, or the one that the files declare.

    Raises:
        UsageError: files say different things, or the name of a measure leaves open whether higher is better.
    """
    known = {column.metric: column.source for column in columns if column.metric is not None}
    for metric, source in known.items():
        if asked not in (None, metric) or len(known) > 1:
            raise UsageError(f"a 1 of {source} is not {asked}", hint=f"--metric {metric}")
        if asked is None and any(column.metric is None for column in columns):
            raise UsageError(
                f"{source} says that a 1 is a successful attack, and other files do not say what it is",
                hint="--metric asr, if it is the same in all",
            )
        return metric
    if asked is not None:
        return asked
    for column in columns:
        if column.measure and LOWER_IS_BETTER & set(re.findall("[a-z]+", column.measure.casefold())):
            raise UsageError(
                f"{column.source}: whether a higher {column.measure} is better is not known here",
                hint="--metric asr where a 1 is a successful attack (lower is better), --metric accuracy if higher is",
            )
    return "accuracy"
