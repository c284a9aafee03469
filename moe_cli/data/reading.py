"""Reads sources into entries. Every source is tried, so that the error of one does not hide the errors of others.

Every row is used, skipped with a reason, or bad; entries are in the order of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from moe_cli.data.column_names import AS_NAMED, ColumnMap
from moe_cli.data.entries import Entry, refuse_unreadable, with_harmless, with_system
from moe_cli.data.faults import BadRowError, Location, RowFault, list_names, refuse_bad_rows
from moe_cli.data.formats import Format, format_of
from moe_cli.data.labels import RowLabels, labels_of
from moe_cli.data.rows import ReadRow
from moe_cli.data.source_names import NamedSource, source_of
from moe_cli.data.tables import Table, read_table
from moe_cli.errors import MoeError, UsageError
from moe_cli.records import UnreadableSource
from moe_cli.records.inputs import Kind

OF_THE_OTHER_KIND: dict[Kind, str] = {"harmful": "it is harmless", "benign": "it is harmful"}
KIND_WORDS: dict[Kind, str] = {"harmful": "harmful", "benign": "harmless"}
Role = Literal["pairs", "benign", "attack", "refusals", "items", "answers"]
Content = TypeVar("Content")


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
    words: str, revision: str | None = None, *, keep_failed: bool = False, columns: ColumnMap = AS_NAMED
) -> SourceReading:
    """Read the source of this name. `keep_failed` also uses the rows whose attack failed.

    Raises:
        UsageError: there is no such source, or it is unreadable as a whole, has no rows, or no known format.
    """
    return read_rows(read_table(source_of(words, revision), columns), keep_failed=keep_failed)


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
