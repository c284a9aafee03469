"""The samples of lm-eval: one row per item, with its outcome; a file of one task, or a folder of all tasks of models.

A run is named by the directory of its files, which lm-eval calls after the model. Where a file holds several filters
one is named; an answer that a filter could not read is unanswered; the digest that lm-eval gives an item must be the
same in all runs. Of several files of one task in one directory the newest is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_cli.compare.imported_items import (
    NO_OUTCOME,
    SCALE_HINT,
    ImportedColumn,
    ImportedItem,
    cell_of,
    fraction_of,
    is_missing_cell,
    is_outcome,
    parse_outcome,
)
from moe_cli.data.lm_eval_metrics import FIRST_METRICS, by_precedence
from moe_cli.data.places import Location
from moe_cli.errors import UsageError

FILE_NAME = re.compile(r"samples_(?P<task>.+?)(_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+))?")
SAMPLE_KEYS = {"resps", "filtered_resps", "filter", "doc_hash", "metrics", "arguments"}  # one of them beside doc_id
UNREAD = ["[invalid]"]  # what a filter of lm-eval leaves where it finds no answer
NO_FILTER = "none"
LM_EVAL_HINT = "import files that lm-eval wrote with --log_samples"

Row = Mapping[str, object]
Rows = Sequence[tuple[Location, Row]]


def is_sample(row: Row) -> bool:
    """Whether a row is a sample of lm-eval."""
    return "doc_id" in row and bool(SAMPLE_KEYS & row.keys())


def sample_files(folder: Path) -> list[Path]:
    """The newest file of every task of every model below a folder, in order of model and task."""
    newest: dict[tuple[Path, str], tuple[str, Path]] = {}
    for path in sorted(folder.rglob("samples_*.jsonl")):
        if matched := FILE_NAME.fullmatch(path.stem):
            key, found = (path.parent, matched["task"]), (matched["time"] or "", path)
            newest[key] = max(newest.get(key, found), found)
    return [path for _, path in newest.values()]


def lm_eval_column(rows: Rows, path: Path, lm_filter: str | None, measure: str | None, scale: float) -> ImportedColumn:
    """The outcomes of one sample file.

    Raises:
        UsageError: a row that is no sample, several filters and none named, no metric of fractions, an item twice.
    """
    for place, row in rows:
        if row.get("doc_id") is None:
            raise UsageError(f"{place}: it has no doc_id, so it is no sample of lm-eval", hint=LM_EVAL_HINT)
    kept = _filtered(rows, path, lm_filter)
    metric = _metric(kept[0][1], path, measure, scale)
    matched = FILE_NAME.fullmatch(path.stem)
    task = matched["task"] if matched else path.stem
    seen: dict[str, Location] = {}
    for place, row in kept:
        id = str(row["doc_id"])
        if id in seen:
            raise UsageError(
                f"{place}: the item {id} stands in {seen[id].unit} {seen[id].number} already", hint=LM_EVAL_HINT
            )
        seen[id] = place
    outcomes = parse_outcome([_lm_eval_fraction(row, metric, place, scale) for place, row in kept])
    return ImportedColumn(
        name=path.resolve().parent.name if matched else path.stem,
        file_name=path.stem,
        source=str(path),
        task=task,
        measure=metric,
        metric=None,
        items=tuple(
            ImportedItem(id=id, task=task, cluster=id, content=_lm_eval_digest(row), outcome=outcome)
            for id, (_, row), outcome in zip(seen, kept, outcomes, strict=True)
        ),
    )


def _filtered(rows: Rows, path: Path, lm_filter: str | None) -> Rows:
    """The rows of the filter; of a task that has none, all."""
    filters = sorted({str(row.get("filter", NO_FILTER)) for _, row in rows})
    if filters == [NO_FILTER]:
        return rows
    if lm_filter is None and len(filters) > 1:
        raise UsageError(f"{path} holds several filters: {', '.join(filters)}", hint="choose one with --filter NAME")
    kept = [(place, row) for place, row in rows if lm_filter in (None, str(row.get("filter", NO_FILTER)))]
    if not kept:
        raise UsageError(f"{path} has no filter {lm_filter}", hint=f"there are: {', '.join(filters)}")
    return kept


def _metric(row: Row, path: Path, measure: str | None, scale: float) -> str:
    """What the file measures: what was asked for, else what it says, else what lm-eval calls it most often."""
    listed = row.get("metrics")
    names = [str(name) for name in listed] if isinstance(listed, list) else list(FIRST_METRICS)
    if measure is not None:
        if measure not in row:
            raise UsageError(f"{path} has no measure {measure}", hint=f"there are: {', '.join(names)}")
        return measure
    for name in by_precedence(names):
        if name in row and is_outcome(cell_of(row[name]), scale):
            return name
    raise UsageError(
        f"{path} holds no metric with a fraction from 0 to 1 for each item, only {', '.join(names)}", hint=SCALE_HINT
    )


def _lm_eval_fraction(row: Row, metric: str, place: Location, scale: float) -> float | None:
    cell = cell_of(row.get(metric))
    if not is_outcome(cell, scale):
        numeric = fraction_of(cell, scale) is not None
        hint = SCALE_HINT if numeric else "outcomes are 0 or 1, or fractions"
        raise UsageError(f"{place}: {metric} is {cell!r}, {NO_OUTCOME}", hint=hint)
    return None if row.get("filtered_resps") == UNREAD or is_missing_cell(cell) else fraction_of(cell, scale)


def _lm_eval_digest(row: Row) -> str | None:
    digest = row.get("doc_hash")
    return None if digest is None else str(digest)
