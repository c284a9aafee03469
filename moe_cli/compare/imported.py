"""Results made elsewhere, as runs that can be compared.

Files and folders (`PATH` or `NAME=PATH`) give one `ComparedRun` per run with its items and counts. Unanswered items are
counted beside every rate, with the bounds both ways. Columns that are no outcomes are named, never dropped in
silence. The column called `base`, or the one that `--base` names, is the untrained model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from operator import attrgetter
from pathlib import Path

from moe_cli.artifacts.finished import kind_in
from moe_cli.compare.column_roles import declared_metric
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.import_files import FoundColumns, SourceContent, holds_results, read_columns
from moe_cli.compare.imported_items import METRIC_OF, ImportedColumn, MetricWord
from moe_cli.compare.imported_tasks import (
    REPEATED,
    compare_prompts,
    join_tasks,
    share_clusters,
    share_numbers,
    tell_apart,
)
from moe_cli.errors import UsageError
from moe_cli.records import ImportedOutcomes, Notice, RunColumn
from moe_cli.records.manifest import Notify
from moe_cli.records.training import IMPORTED, UNTRAINED
from moe_cli.stats.metrics import METRIC_NAMED
from moe_cli.stats.outcomes import ItemOutcomes, run_items

ENDINGS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".eval", ".parquet", ".txt"}  # what is plainly meant as a file
NOT_TWO = (
    "name a table with a column per run (item, base, full, selective), or several files; numbers above 1 are read with"
    " --scale, such as --scale 100 for percents; fractions beside yes and no where they are named: moe compare FILE A B"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """How results made elsewhere are to be imported."""

    files: tuple[str, ...] = ()  # "paired.csv", "base=samples_gsm8k.jsonl"
    metric: MetricWord | None = None  # what a yes of these files is; None: accuracy, if no file says otherwise
    reading: SourceContent = field(default_factory=SourceContent)


@dataclass(frozen=True, slots=True)
class ImportedArms:
    """The imported sources and their names grouped into arms, with `--base` the untrained model first."""

    sources: list[ComparedRun]
    groups: tuple[tuple[str, ...], ...]


def is_file_of_results(word: str) -> bool:
    """Whether an argument names results made elsewhere: a file, or a folder of them that is no run directory."""
    path = _named_file(word)[1]
    if path.is_dir():
        return kind_in(path) is None and holds_results(path)
    return path.is_file() or path.suffix.lower() in ENDINGS


def import_sources(
    asked: Import,
    run_names: Sequence[str],
    notify: Notify,
    *,
    against: Sequence[str] = (),
    base: str | None = None,
) -> ImportedArms:
    """A source for every column that the arguments name, grouped into arms; without arguments every column is an arm.

    An argument is a file or the name of a column. A file of which columns are named only says where they are.

    Raises:
        UsageError: a file cannot be read, a word names no column, or there is only one arm.
    """
    everything = [*run_names, *against, *([base] if base else [])]
    files = tuple(dict.fromkeys([*asked.files, *(word for word in everything if is_file_of_results(word))]))
    _refuse_runs([word for word in everything if word not in files])
    named = [word for word in (*run_names, *against) if word not in files]
    named += [base] if base and named and base not in files else []
    columns = _columns(
        replace(asked, files=files, reading=replace(asked.reading, run_names=tuple(named))), files, notify
    )
    metric = METRIC_OF[declared_metric(asked.metric, [column for column, _ in columns.values()])]
    arms = _arms(run_names, against, base, files, columns)
    if len(arms) < 2:
        held = (
            f"{len(columns)} column of outcomes to compare: {', '.join(columns)}"
            if columns
            else "no column of outcomes"
        )
        raise UsageError(f"{', '.join(files)} holds {held}", hint=NOT_TWO)
    untrained = arms[0] if base else ()
    sources = [_source(columns[name][0], metric, name in untrained) for arm in arms for name in arm]
    return ImportedArms(sources, arms)


Columns = Mapping[str, tuple[ImportedColumn, frozenset[str]]]  # by name: the column, and the words of its files


def _refuse_runs(named: Sequence[str]) -> None:
    for word in named:
        if kind_in(Path(word)) is not None:
            raise UsageError(
                f"{word} is a run, and results made elsewhere are compared among themselves",
                hint="compare runs in a command of their own",
            )


def _arms(
    run_names: Sequence[str], against: Sequence[str], base: str | None, files: Sequence[str], columns: Columns
) -> tuple[tuple[str, ...], ...]:
    def names(word: str) -> tuple[str, ...]:
        if word in files:
            return tuple(name for name, (_, origins) in columns.items() if word in origins)
        return (_found_name(word, list(columns)),)

    def names_of(side: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for word in side if word not in places for name in names(word))

    named = [name for word in (*run_names, *against) if word not in files for name in names(word)]
    places = {file for name in named for file in columns[name][1]}
    if against:
        arms = [names_of(against), names_of(run_names)]
        if not all(arms):
            raise UsageError(
                f"no run stands {'before' if arms[0] else 'behind'} --vs",
                hint="moe compare SEL_1 SEL_2 --vs BASE_1 BASE_2, with the file of these columns before them",
            )
    else:
        arms = [(name,) for name in dict.fromkeys(names_of(run_names))] or [(name,) for name in columns]
    if base is None:
        return tuple(arms)
    first = names(base)
    if len(first) != 1:
        raise UsageError(f"--base {base} holds {len(first)} runs: {', '.join(first)}", hint="name one column")
    return (first, *(arm for arm in arms if arm != first))


def _found_name(word: str, names: Sequence[str]) -> str:
    """The column name that an argument means, ignoring case."""
    matching = [name for name in names if name.casefold() == word.casefold()]
    if not matching:
        raise UsageError(f"no imported column is called {word}", hint=f"there are: {', '.join(names)}")
    return matching[0]


def _columns(asked: Import, files: Sequence[str], notify: Notify) -> Columns:
    """Columns of all files by name; tasks of one run are joined, and runs with the same name are told apart."""
    parts: list[tuple[str, ImportedColumn]] = []
    left_out: list[str] = []
    for typed in files:
        name, path = _named_file(typed)
        columns = read_columns(path, asked.reading)
        for text in columns.unfinished:
            notify(Notice(text=f"{text}: samples may be missing", warning=True))
        if columns.left_out and not asked.reading.run_names:
            notify(Notice(text=f"{path}: no columns of outcomes, left out: {', '.join(columns.left_out)}"))
        if columns.clustered_by is not None:
            notify(Notice(text=f"{path}: items of the same `{columns.clustered_by}` are one cluster"))
        parts += [(typed, column) for column in (_called(columns, name, path) if name else columns.columns)]
        left_out += columns.left_out
    by_name: dict[str, list[tuple[str, ImportedColumn]]] = {}
    for typed, column in tell_apart(parts):
        by_name.setdefault(column.name, []).append((typed, column))
    for word in asked.reading.run_names:
        _found_name(word, [*by_name, *left_out])
    several = any(len(of_name) > 1 for of_name in by_name.values())
    if True in {share_numbers([column for _, column in of_name]) for of_name in by_name.values()}:
        notify(Notice(text=f"{', '.join(files)} number their items alike, so they are tasks of one run: {REPEATED}"))
    runs = [join_tasks([column for _, column in of_name]) if several else of_name[0][1] for of_name in by_name.values()]
    return {
        name: (run, frozenset(typed for typed, _ in of_name))
        for (name, of_name), run in zip(by_name.items(), compare_prompts(share_clusters(runs)), strict=True)
    }


def _named_file(typed: str) -> tuple[str | None, Path]:
    name, equals, path = typed.partition("=")
    return (name, Path(path)) if equals and name and not Path(typed).exists() else (None, Path(typed))


def _called(columns: FoundColumns, name: str, path: Path) -> list[ImportedColumn]:
    names = list(dict.fromkeys(column.name for column in columns.columns))
    if len(names) > 1:
        raise UsageError(
            f"{path} holds {len(names)} runs, so they cannot all be called {name}: {', '.join(names)}",
            hint=f"name {path} alone, or one of its parts",
        )
    return [column.called(name) for column in columns.columns]


def _source(column: ImportedColumn, metric: str, untrained: bool) -> ComparedRun:
    shared = {outcome: {metric: outcome} for outcome in {item.outcome for item in column.items}}
    items = [
        ItemOutcomes(
            id=item.id, suite=item.task, cluster=item.cluster, content=item.content, outcomes=shared[item.outcome]
        )
        for item in column.items
    ]
    outcomes = [(item.id, item.content, item.outcome) for item in sorted(column.items, key=attrgetter("id"))]
    digest = sha256(repr(outcomes).encode()).hexdigest()
    return ComparedRun(
        column=_run_column(column, metric, digest, untrained or column.name.casefold() == UNTRAINED),
        training=None,
        records=None,
        items=run_items(column.name, items),
        digests={},
    )


def _run_column(column: ImportedColumn, metric: str, digest: str, untrained: bool) -> RunColumn:
    total, missing, n = column.total, column.num_unanswered, len(column.items)
    counted = n if METRIC_NAMED[metric].missing_is_no else n - missing
    return RunColumn(
        name=column.name,
        path=column.source,
        training_mode=UNTRAINED if untrained else IMPORTED,
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
            graded=column.graded,
            n=n,
            unanswered=missing,
            rate=total / counted if counted else None,
            rate_answered=total / (n - missing) if n > missing else None,
            lowest=total / n,
            highest=(total + missing) / n,
        ),
    )
