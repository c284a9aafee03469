"""Detects what kind of results a file or folder holds, and hands it to the reader of that kind.

CSV | JSON list | JSON Lines | parquet                         a table with a column per run
samples_TASK_TIME.jsonl, or a folder of them                   lm-eval
.eval | .json, or a folder of them                             logs of inspect
{behavior: [{test_case, generation, label}]}                   HarmBench

A file of no known kind is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moe_cli.compare.imported_items import ImportedColumn
from moe_cli.compare.log_outcomes import (
    harmbench_column,
    inspect_column,
    is_harmbench,
    is_sample,
    lm_eval_column,
    sample_files,
)
from moe_cli.compare.outcome_tables import row_table, table_columns
from moe_cli.data.inspect_logs import InspectLog, inspect_log_in
from moe_cli.data.json_rows import parse_values
from moe_cli.data.rows import Location, RowFault, refuse_bad_rows
from moe_cli.data.tables import Content, content_of, rows_of_content
from moe_cli.errors import UsageError

FORMATS = (
    "results that are read: a CSV, JSON list, JSON Lines or parquet file with a row per item and a column per run;"
    " samples_*.jsonl of lm-eval or their folder; .eval and .json logs of inspect; results of HarmBench"
)

Row = Mapping[str, object]
PlacedRows = list[tuple[Location, Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContent:
    """Options for reading files that leave a choice."""

    run_names: tuple[str, ...] = ()  # the columns of tables that are wanted; none: all with outcomes
    lm_filter: str | None = None  # which filter of lm-eval's samples; None: there is one
    measure: str | None = (
        None  # which metric of lm-eval, score of inspect or column of a table; None: the first, or the only one
    )
    scale: float = 1.0  # the full mark, which counts as 1


@dataclass(frozen=True, slots=True)
class FoundColumns:
    """The columns found in a file or folder."""

    columns: tuple[ImportedColumn, ...]
    left_out: tuple[str, ...] = ()  # columns of a table that hold no outcomes
    unfinished: tuple[str, ...] = ()  # "x.eval: the evaluation was cancelled"
    clustered_by: str | None = None  # the column of goals that says which items belong together


def holds_results(path: Path) -> bool:
    """Whether a folder holds samples of lm-eval or logs of inspect; True for any file."""
    return path.is_file() or (path.is_dir() and bool(sample_files(path) or _log_files(path)))


def read_columns(path: Path, reading: SourceContent) -> FoundColumns:
    """The columns of a file or folder.

    Raises:
        UsageError: nothing there, of no known kind, damaged, or without outcomes.
    """
    if path.is_dir():
        return _in_folder(path, reading)
    if not path.is_file():
        raise UsageError(f"there is no file {path} to import", hint="check the path")
    log = inspect_log_in(path)
    if log is not None:
        return _of_log(log, reading)
    content = _content(path)
    whole = _whole(content)
    if isinstance(whole, dict):
        _refuse_summary(whole, path)
        if is_harmbench(whole):
            return FoundColumns((harmbench_column(whole, path),))
        if is_sample(whole):
            return _of_rows([(Location(str(path), 1), whole)], path, reading)
    return _of_rows(_placed(content, path), path, reading)


def _in_folder(folder: Path, reading: SourceContent) -> FoundColumns:
    """Columns of every model of an lm-eval folder, or of every log of an inspect folder."""
    samples = sample_files(folder)
    if samples:
        models = {path.parent for path in samples}
        files = [_of_sample_file(path, folder, len(models) == 1, reading) for path in samples]
        return FoundColumns(tuple(files))
    logs = [log for path in _log_files(folder) if (log := inspect_log_in(path)) is not None]
    if not logs:
        raise UsageError(
            f"{folder} is a folder without samples_*.jsonl of lm-eval and without logs of inspect", hint=FORMATS
        )
    parts = [_of_log(log, reading) for log in logs]
    return FoundColumns(
        tuple(column for part in parts for column in part.columns),
        unfinished=tuple(text for part in parts for text in part.unfinished),
    )


def _of_sample_file(path: Path, folder: Path, alone: bool, reading: SourceContent) -> ImportedColumn:
    column = lm_eval_column(_placed(_content(path), path), path, reading.lm_filter, reading.measure, reading.scale)
    own = folder.resolve().name
    return column.called(column.name, file_name=own if alone else f"{own}/{column.name}")


def _log_files(folder: Path) -> list[Path]:
    """The `.eval` files of a folder, or the `.json` files with the timestamped names that inspect gives."""
    return sorted(folder.glob("*.eval")) or sorted(folder.glob("[0-9][0-9][0-9][0-9]-*T*_*.json"))


def _of_log(log: InspectLog, reading: SourceContent) -> FoundColumns:
    unfinished = () if log.status == "success" else (f"{log.path}: the evaluation has the status {log.status!r}",)
    return FoundColumns((inspect_column(log, reading.measure, reading.scale),), unfinished=unfinished)


def _of_rows(rows: PlacedRows, path: Path, reading: SourceContent) -> FoundColumns:
    if rows and is_sample(rows[0][1]):
        return FoundColumns((lm_eval_column(rows, path, reading.lm_filter, reading.measure, reading.scale),))
    table = table_columns(row_table(rows, path), reading.run_names, reading.scale, reading.measure)
    return FoundColumns(table.columns, table.left_out, clustered_by=table.clustered_by)


def _placed(content: Content, path: Path) -> PlacedRows:
    """The rows of a content; bad rows are refused."""
    rows: PlacedRows = []
    faults: list[RowFault] = []
    for each in rows_of_content(content, str(path), FORMATS, shape="table").rows:
        if isinstance(each, RowFault):
            faults.append(each)
        else:
            rows.append(each)
    refuse_bad_rows(faults, 0, hint=FORMATS)
    return rows


def _whole(content: Content) -> object:
    """The one JSON object of a content; None where it is rows, several JSON lines or no JSON."""
    if not isinstance(content, str) or not content.lstrip().startswith("{"):
        return None
    try:
        return parse_values(content, "", hint="")
    except UsageError:
        return None


def _refuse_summary(value: Row, path: Path) -> None:
    if "results" in value and ("configs" in value or "config" in value):
        raise UsageError(
            f"{path} is the summary of lm-eval, which has no outcome for each item",
            hint=f"name its folder, {path.parent}: there samples_*.jsonl are, if lm-eval ran with --log_samples",
        )


def _content(path: Path) -> Content:
    """The content of a file.

    Raises:
        UsageError: it is empty, or neither text nor a table; says what it is.
    """
    content = content_of(path.read_bytes(), str(path))
    if isinstance(content, str) and not content.strip():
        raise UsageError(f"{path} is empty", hint=FORMATS)
    return content
