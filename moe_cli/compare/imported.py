"""Results made elsewhere, as runs that can be compared: a table of outcomes, or the sample files of lm-eval.

Comes in: files (`FILE` or `NAME=FILE`), the metric, and the columns that were named. Goes out: one `Source` per
column, with its items and its counts. Always holds: a file is what it holds, not what it is called; columns that are no
outcomes are named, never dropped in silence; what is unanswered is counted beside every rate, with the bounds both
ways; the column called `base` is the untrained model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from moe_cli.compare.csv_outcomes import csv_columns
from moe_cli.compare.fairness import IMPORTED, UNTRAINED
from moe_cli.compare.imported_items import ImportedColumn
from moe_cli.compare.items import ItemOutcomes, run_items
from moe_cli.compare.lm_eval import lm_eval_column
from moe_cli.compare.metrics import ACCURACY, ATTACK_SUCCESS, METRICS
from moe_cli.compare.sources import Source
from moe_cli.errors import UsageError
from moe_cli.records import ImportedOutcomes, Notice, RunColumn

NONE: tuple[str, ...] = ()
METRIC_OF = {"accuracy": ACCURACY, "asr": ATTACK_SUCCESS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What was asked to be imported."""

    files: tuple[str, ...]  # "paired.csv", "base=samples_gsm8k.jsonl"
    metric: Literal["accuracy", "asr"]  # what a yes of these files is
    lm_filter: str | None  # which filter of lm-eval's samples; None: there is one


def imported_sources(
    asked: Import, groups: Sequence[Sequence[str]], notify: Callable[[object], None]
) -> tuple[list[Source], tuple[tuple[str, ...], ...]]:
    """A source for every column, and the columns as the groups of words that name them (all, where none are named).

    Raises:
        UsageError: a file cannot be read, a word names no column, or there is only one.
    """
    columns = _columns(asked, [word for group in groups for word in group], notify)
    named = tuple(tuple(_found(word, columns) for word in group) for group in groups)
    arms = named or tuple((name,) for name in columns)
    if len(arms) < 2:
        raise UsageError(
            f"{', '.join(asked.files)} holds {len(arms)} column of outcomes to compare: {', '.join(columns)}",
            hint="import a table with a column per run (item, base, full, selective), or several sample files",
        )
    return [_source(columns[name], METRIC_OF[asked.metric]) for arm in arms for name in arm], arms


def _columns(asked: Import, words: Sequence[str], notify: Callable[[object], None]) -> Mapping[str, ImportedColumn]:
    """Every column of every file by name; files that share a name are parts of one run."""
    parts: dict[str, list[ImportedColumn]] = {}
    for typed in asked.files:
        name, path = _named_file(typed)
        data = _content(path)
        if data.lstrip()[:1] == "{":
            found, skipped = [lm_eval_column(data, path, name, asked.lm_filter)], NONE
        else:
            found, skipped = csv_columns(data, path, words)
        if skipped and not words:
            notify(Notice(text=f"{path}: no columns of outcomes, left out: {', '.join(skipped)}"))
        for column in found:
            parts.setdefault(column.name, []).append(column)
    several = any(len(of_name) > 1 for of_name in parts.values())
    return {name: _whole(of_name) if several else of_name[0] for name, of_name in parts.items()}


def _named_file(typed: str) -> tuple[str | None, Path]:
    name, equals, path = typed.partition("=")
    return (name, Path(path)) if equals and name and not Path(typed).exists() else (None, Path(typed))


def _content(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"there is no file {path} to import", hint="check the path after --import")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}", hint="save it as UTF-8") from error


def _whole(parts: Sequence[ImportedColumn]) -> ImportedColumn:
    """One run from the files of its tasks; every item carries the name of its task."""
    items = tuple(item.inside(part.task) for part in parts for item in part.items)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UsageError(
                f"the item {item.id} of {parts[0].name} is in several files",
                hint="name the run of every file: --import base=FILE_1 --import selective=FILE_2",
            )
        seen.add(item.id)
    return ImportedColumn(parts[0].name, " + ".join(part.source for part in parts), parts[0].task, items)


def _found(word: str, columns: Mapping[str, ImportedColumn]) -> str:
    found = [name for name in columns if name.casefold() == word.casefold()]
    if not found:
        raise UsageError(f"no imported column is called {word}", hint=f"there are: {', '.join(columns)}")
    return found[0]


def _source(column: ImportedColumn, metric: str) -> Source:
    items = [
        ItemOutcomes(
            id=item.id, suite=item.task, cluster=item.cluster, content=item.content, outcomes={metric: item.yes}
        )
        for item in column.items
    ]
    counted_no = next(found.missing_is_no for found in METRICS if found.name == metric)
    outcomes = [(item.id, item.content, item.yes) for item in sorted(column.items, key=lambda item: item.id)]
    digest = sha256(repr(outcomes).encode()).hexdigest()
    return Source(
        column=_run_column(column, metric, counted_no, digest),
        training=None,
        records=None,
        items=run_items(column.name, items),
        digests={},
    )


def _run_column(column: ImportedColumn, metric: str, counted_no: bool, digest: str) -> RunColumn:
    yes, missing, n = column.count(True), column.count(None), len(column.items)
    counted = n if counted_no else n - missing
    return RunColumn(
        name=column.name,
        path=column.source,
        training_mode=UNTRAINED if column.name.casefold() == UNTRAINED else IMPORTED,
        trainable_params=None,
        total_params=None,
        trainable_ratio=None,
        experts_per_layer=None,
        num_experts=None,
        layers=(),
        seconds_training=None,
        peak_memory_bytes=None,
        peak_memory_of=None,
        final_model_bytes=None,
        delta_bytes=None,
        num_steps=None,
        final_step=None,
        final_loss=None,
        held_out_loss=None,
        items_left_out=None,
        goals_trained_on=None,
        evaluation=None,
        imported=ImportedOutcomes(
            source=column.source,
            sha256=digest,
            metric=metric,
            graded=False,
            n=n,
            unanswered=missing,
            rate=yes / counted if counted else None,
            rate_answered=yes / (n - missing) if n > missing else None,
            lowest=yes / n,
            highest=(yes + missing) / n,
        ),
    )
