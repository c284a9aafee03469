"""Reads sources: as tables, and as entries. Every one is tried, so that the error of one does not hide those of others.

Every row is used, skipped with a reason, or bad; entries are in the order of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeVar

from moe_cli.activity import begin_activity
from moe_cli.data import dataset_rows
from moe_cli.data.column_names import AS_NAMED, ColumnMap, columns_of_prompts
from moe_cli.data.entries import Entry, refuse_unreadable, with_harmless, with_system
from moe_cli.data.formats import Format, format_of
from moe_cli.data.labels import RowLabels, labels_of
from moe_cli.data.rows import BadRowError, Location, ReadRow, RowFault, refuse_bad_rows
from moe_cli.data.source_names import NamedSource, digest_of_source, source_of
from moe_cli.data.table_rows import Shape, columnar_table
from moe_cli.data.tables import Table, content_of, rows_of_content, table_of, table_of_bytes, too_deep
from moe_cli.errors import MoeError, UsageError, list_names
from moe_cli.records import UnreadableSource
from moe_cli.records.inputs import Kind

OF_THE_OTHER_KIND: dict[Kind, str] = {"harmful": "it is harmless", "benign": "it is harmful"}
KIND_WORDS: dict[Kind, str] = {"harmful": "harmful", "benign": "harmless"}
Role = Literal["pairs", "benign", "attack", "refusals", "items", "answers"]
Content = TypeVar("Content")


@begin_activity("reading data")
def read_table(source: NamedSource, columns: ColumnMap = AS_NAMED, shape: Shape = "rows") -> Table:
    """All rows of a source; `columns` maps unknown column names to known ones (`--map`).

    `shape` says how a text is read, as in `text_table`.

    Raises:
        UsageError: it cannot be read as a whole.
        EnvironmentFaultError: a hub cannot be reached.
    """
    try:
        if source.kind == "folder":
            raw = columnar_table(source.name, dataset_rows.read_folder(source), "a data set")
            return table_of(raw, source, digest_of_source(Path(source.place)), columns)
        if source.kind == "hub":
            rows = dataset_rows.read_hub(source)
            raw = columnar_table(source.name, rows, "a data set")
            return table_of(raw, source, sha256(repr(rows).encode()).hexdigest(), columns)
        if source.kind == "repository":
            return _repository(source, columns)
        data = dataset_rows.remote_bytes(source) if source.kind == "remote" else Path(source.place).read_bytes()
        return table_of_bytes(data, source, columns, shape)
    except RecursionError:
        raise too_deep(source) from None


def _repository(source: NamedSource, columns: ColumnMap) -> Table:
    """The rows of all files of one split; the location of a row names its file."""
    files = dataset_rows.repository_files(source)
    contents = [(file.name, content_of(Path(file.path).read_bytes(), file.name)) for file in files]
    mapped = columns_of_prompts(columns)
    parts = [rows_of_content(content, name, source.accepted, mapped=mapped) for name, content in contents]
    whole = replace(parts[0], rows=[row for part in parts for row in part.rows])
    lines = [f"{file.name} {digest_of_source(Path(file.path))}\n" for file in files]
    return table_of(whole, source, sha256("".join(lines).encode()).hexdigest(), columns)


@dataclass(frozen=True, slots=True)
class SourceReading:
    """The result of reading one source."""

    source: NamedSource
    sha256: str
    format: Format
    container: str  # "CSV"
    num_rows: int  # bad ones included
    entries: tuple[Entry, ...]
    skipped: Mapping[str, int]  # rows by reason
    faults: tuple[RowFault, ...]
    unread: tuple[str, ...]  # columns that hold something and that nothing was read from
    columns: frozenset[str]  # as they are written, in the form in which names are compared

    @property
    def format_name(self) -> str:
        """The format's name for display, with the container if the rows have no columns."""
        return f"{self.format.name}, {self.container}" if " text" in self.container else self.format.name


def read_source(
    source: str, revision: str | None = None, *, keep_failed: bool = False, columns: ColumnMap = AS_NAMED
) -> SourceReading:
    """Read the source of this name. `keep_failed` also uses the rows whose attack failed.

    Raises:
        UsageError: there is no such source, or it is unreadable as a whole, has no rows, or no known format.
    """
    return read_rows(read_table(source_of(source, revision), columns), keep_failed=keep_failed)


def read_rows(table: Table, *, keep_failed: bool = False) -> SourceReading:
    """The rows of a table as entries.

    Raises:
        UsageError: no rows, no known format, or a label whose meaning is not known.
    """
    name, accepted = table.source.name, table.source.accepted
    if not table.rows:
        refuse_bad_rows(table.faults, 0, hint=accepted)
        raise UsageError(f"{name} holds no rows", hint=accepted)
    known = format_of(table)
    labels = labels_of(table, known.columns())
    entries: list[Entry] = []
    skipped: Counter[str] = Counter()
    faults = list(table.faults)
    for place, row in table.rows:
        try:
            if (reason := known.skipped(row, keep_failed=keep_failed)) is not None:
                skipped[reason] += 1
            else:
                entries += _entries_of(row, place, known, labels)
        except BadRowError as error:
            faults.append(RowFault(place, error.reason))
    faults.sort(key=lambda fault: fault.place.number)
    return SourceReading(
        source=table.source,
        sha256=table.sha256,
        format=known,
        container=table.container,
        num_rows=len(table.rows) + len(table.faults),
        entries=tuple(entries),
        skipped=skipped,
        faults=tuple(faults),
        unread=table.unread(),
        columns=frozenset(table.names),
    )


def _entries_of(row: ReadRow, place: Location, row_format: Format, labels: RowLabels) -> list[Entry]:
    refuse_unreadable(row)
    entries = [with_system(with_harmless(entry, row), row) for entry in row_format.entries(row, place)]
    if row_format.both_kinds:  # its own columns say it
        return entries
    kind, column = labels.kind_of(row)
    return entries if kind is None else [replace(entry, kind=kind, told_by=column) for entry in entries]


def of_kind(reading: SourceReading, kind: Kind, option: str | None = None) -> SourceReading:
    """The reading limited to one kind of prompts (`--pairs` takes harmful, `--benign` harmless ones).

    In a format that mixes both kinds, rows of the other kind count as skipped.

    Raises:
        UsageError: rows are of the other kind by their format or by a label; the message says how many.
    """
    other = [entry for entry in reading.entries if entry.kind not in (kind, None)]
    if not other:
        return reading
    remaining = tuple(entry for entry in reading.entries if entry.kind in (kind, None))
    option = option or ("--pairs" if kind == "harmful" else "--benign")
    rows = {entry.place for entry in other}
    by_column = {entry.told_by for entry in other} - {None, "kind"}
    if remaining and not by_column:
        return replace(reading, entries=remaining, skipped={**reading.skipped, OF_THE_OTHER_KIND[kind]: len(rows)})
    raise UsageError(
        f"{reading.source.name} ({reading.format.name}): {len(rows):,} of {reading.num_rows:,} rows are "
        f"{KIND_WORDS['benign' if kind == 'harmful' else 'harmful']}"
        f"{''.join(f' by their column `{column}`' for column in sorted(map(str, by_column)))}, and {option} takes "
        f"{KIND_WORDS[kind]} ones",
        hint="harmful goals and pairs belong to --pairs, harmless prompts to --benign; keep them in files of their own"
        + "".join(f"; --map name={column} leaves the column out" for column in sorted(map(str, by_column))[:1]),
    )


@dataclass(slots=True)
class SourceReader:
    """Reads every source and collects the errors of those that cannot be used."""

    errors: list[MoeError] = field(default_factory=list)
    unreadable: list[UnreadableSource] = field(default_factory=list)

    def attempt(self, role: Role, name: str, read_source: Callable[[], Content]) -> Content | None:
        """Read a source; None if it cannot be used, with the reason in `unreadable`."""
        try:
            return read_source()
        except MoeError as error:
            self.errors.append(error)
            self.unreadable.append(UnreadableSource(role=role, name=name, reason=error.message, hint=error.hint))
            return None

    def check(self, check: Callable[[], None]) -> None:
        """Run a check over all sources and collect its error."""
        try:
            check()
        except MoeError as error:
            self.errors.append(error)

    def refusal(self) -> MoeError | None:
        """All collected errors as one; None if all sources can be used."""
        if len(self.errors) < 2:
            return self.errors[0] if self.errors else None
        hints = dict.fromkeys(error.hint for error in self.errors)
        message = f"{len(self.errors)} sources cannot be used{list_names(error.message for error in self.errors)}"
        return type(self.errors[0])(message, hint="; ".join(hints))
