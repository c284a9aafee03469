"""Tables of outcomes made elsewhere: which columns are runs, and which items belong together.

A table is a CSV with a header such as `item,base,full,selective`, or rows of JSON or parquet with such keys. The
order of columns, the case of the header, a byte order mark and the line endings change nothing. What cannot be read
is refused with its location.

If no columns are named, a column is a run if more than half of its cells are 0 or 1; where no column is, those of
which more than half are other words for yes and no, else fractions. Other cells of a run are then errors. Columns that
are called as a measure or a right answer are refused beside others (`column_roles`). Items of one goal are one cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.compare.column_roles import GOALS, SUMMARY, is_of_items, mistakable
from moe_cli.compare.imported_items import (
    NO_OUTCOME,
    SCALE_HINT,
    WORDS,
    ImportedColumn,
    ImportedItem,
    digest_of_text,
    fraction_of,
    is_outcome,
    parse_outcome,
)
from moe_cli.data.column_names import ATTACKED_COLUMNS, GOAL_COLUMNS, PROMPT_COLUMNS, TEST_CASE
from moe_cli.data.entries import name_of_text, normalise_text
from moe_cli.data.json_objects import SHOWN_KEY, shown_keys
from moe_cli.data.rows import Location, cell_of, is_missing_cell
from moe_cli.errors import UsageError

CLUSTER, EPOCH = "cluster", "epoch"
ITEM_NAMES = (
    *("item", "item_id", "id", "doc_id", "question_id", "example_id", "sample_id", "task_id", "prompt_id"),
    *("behavior_id", "behaviorid", "index", "idx", "qid"),
)
PROMPT_NAMES = (*ATTACKED_COLUMNS, TEST_CASE, *PROMPT_COLUMNS, *GOAL_COLUMNS)  # what the model was given, in front
HINT = (
    "write one row per item and one column per run: item,base,full,selective; outcomes are 0 or 1, true or false, or"
    " fractions; an empty cell is unanswered"
)


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
    contents: list[str | None]  # digests of the goals or else of the prompts, where there are any


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The runs of a table, and what became of its other columns."""

    columns: tuple[ImportedColumn, ...]
    left_out: tuple[str, ...]
    clustered_by: str | None  # the column that says which items are of one goal, where it is not called `cluster`


def table_columns(
    table: OutcomeTable, run_names: Sequence[str], scale: float, measure: str | None = None
) -> TableColumns:
    """Every column of outcomes, or those that `run_names` name, or the one that is called as `measure`.

    Raises:
        UsageError: no item column, an item twice, a cell that is no outcome, or a column that could be none of a run.
    """
    _refuse_same_titles(table)
    item_place = _item_place(table)
    cluster_place = _cluster_place(table, item_place)
    about_items = {item_place, cluster_place, table.place(EPOCH)}
    others = [place for place in range(len(table.header)) if place not in about_items]
    wanted = {table.place(word) for word in run_names}
    runs = [place for place in others if place in wanted] if run_names else _runs(table, others, scale, measure)
    items = _items(table, item_place, cluster_place)
    left_out = tuple(table.header[place] for place in others if place not in runs and table.header[place])
    by_goal = cluster_place is not None and cluster_place != table.place(CLUSTER)
    return TableColumns(
        tuple(_column(table, place, items, scale, alone=len(runs) == 1) for place in runs),
        left_out,
        table.header[cluster_place] if by_goal and cluster_place is not None else None,
    )


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
    prompt_place = _text_place(table, PROMPT_NAMES)
    if index_of_id is None and prompt_place is not None and _are_different(table.cells(prompt_place)):
        return prompt_place
    if index_of_id is None and table.header[0] in ("", "Unnamed: 0"):  # the index that pandas writes
        return 0
    if len(table.header) == 1:
        raise UsageError(f"{table.path}: its first line is one cell, so it is no header of columns", hint=HINT)
    if index_of_id is None:
        repeated = (
            "" if prompt_place is None else f", and `{table.header[prompt_place]}` is not another one in each row"
        )
        raise UsageError(
            f"{table.path}: no column says which item a row is about; there are {shown_keys(table.header)}{repeated}",
            hint=f"call it one of {', '.join(ITEM_NAMES)}; {HINT}",
        )
    return index_of_id


def _text_place(table: OutcomeTable, names: Sequence[str]) -> int | None:
    """Index of the first column of these names that holds texts, not outcomes."""
    places = (table.place(name) for name in names)
    return next((place for place in places if place is not None and not _mostly(table, place, 1.0)), None)


def _are_different(cells: Sequence[str]) -> bool:
    return len(set(map(normalise_text, cells))) == len(cells) and not any(map(is_missing_cell, cells))


def _cluster_place(table: OutcomeTable, item_place: int) -> int | None:
    """Index of the column `cluster`, else of the first one of goals in which some goal has several items."""
    if (named := table.place(CLUSTER)) is not None:
        return named
    for index in (table.place(name) for name in GOALS):
        if index is None or index == item_place:
            continue
        goals = [normalise_text(cell) for cell in table.cells(index) if not is_missing_cell(cell)]
        if len(set(goals)) < len(goals):
            return index
    return None


def _items(table: OutcomeTable, index: int, cluster_place: int | None) -> _Items:
    """Id and cluster of every row: the epochs of an item are one cluster, and an item without a cluster is its own."""
    epoch_place, is_named = table.place(EPOCH), cluster_place == table.place(CLUSTER)
    seen: dict[str, Location] = {}
    clusters: list[str] = []
    is_prompt = index == _text_place(table, PROMPT_NAMES)
    for cell, (where, cells) in zip(table.cells(index), table.rows, strict=True):
        if not cell:
            raise UsageError(f"{where}: the item has no name", hint=HINT)
        if SUMMARY.fullmatch(cell):
            raise UsageError(f"{where}: {cell} sums up other rows and is no item", hint="leave the row out")
        name = name_of_text(normalise_text(cell)) if is_prompt else cell
        id = name if epoch_place is None else f"{name}/epoch {cells[epoch_place].strip()}"
        if id in seen:
            raise UsageError(
                f"{where}: the item {id} stands in {seen[id].unit} {seen[id].number} already",
                hint="give every item an id of its own, and a column `cluster` to items that belong together; a table"
                " with a row for every item and run is read after it has a column for every run",
            )
        seen[id] = where
        own = "" if cluster_place is None else cells[cluster_place].strip()
        clusters.append(name if is_missing_cell(own) else own if is_named else normalise_text(own))
    return _Items(list(seen), clusters, _digests(table))


def _digests(table: OutcomeTable) -> list[str | None]:
    """Digests by which one id with another goal is another item; an attack may find another prompt for each model."""
    place = _text_place(table, (*GOAL_COLUMNS, *PROMPT_NAMES))
    texts = [""] * len(table.rows) if place is None else table.cells(place)
    return [None if is_missing_cell(text) else digest_of_text(normalise_text(text)) for text in texts]


def _runs(table: OutcomeTable, places: Sequence[int], scale: float, measure: str | None) -> list[int]:
    """The columns that are runs where none is named: one called as the measure, or all that hold outcomes."""
    if measure is not None:
        if (named := table.place(measure)) is None:
            raise UsageError(
                f"{table.path} has no measure {measure}", hint=f"its columns are {shown_keys(table.header)}"
            )
        return [named]
    places = [index for index in places if not is_of_items(table.header[index])]
    found = (
        [index for index in places if _mostly(table, index, scale, {0.0, 1.0}, words=False)]
        or [index for index in places if _mostly(table, index, scale, {0.0, 1.0})]
        or [index for index in places if _mostly(table, index, scale)]
    )
    if doubtful := mistakable([table.header[index] for index in found]):
        raise UsageError(
            f"{table.path} has {len(found)} columns of outcomes, and {shown_keys(doubtful)} "
            f"{'is' if len(doubtful) == 1 else 'are'} called as a measure or a right answer, not as a run",
            hint="--measure NAME takes one column of every file; or name the columns that are runs behind the file: "
            "moe compare FILE FULL SELECTIVE. Outcomes say whether a run was right, predictions do not",
        )
    return found


def _mostly(
    table: OutcomeTable, index: int, scale: float, among: set[float] | None = None, *, words: bool = True
) -> bool:
    """Whether more than half of the cells that are not empty are fractions, or among these values (as `words`, too)."""
    cells = Counter(table.cells(index))
    cells = Counter({cell: times for cell, times in cells.items() if not is_missing_cell(cell)})
    fitting = sum(
        times
        for cell, times in cells.items()
        if is_outcome(cell, scale)
        and (among is None or fraction_of(cell, scale) in among)
        and (words or cell.casefold() not in WORDS)
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
        titles=(*filter(None, table.header), table.path.stem),
        is_table=True,
        items=tuple(
            ImportedItem(id=id, task=task, cluster=cluster, content=content, outcome=outcome)
            for id, cluster, content, outcome in zip(items.ids, items.clusters, items.contents, outcomes, strict=True)
        ),
    )
