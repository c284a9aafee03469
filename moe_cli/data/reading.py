"""One source, read: its format, its entries, and what became of every row.

Comes in: the words that name a source. Goes out: a `Reading`. Always holds: every row is used, skipped with a reason,
or bad; the entries stand in the order of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from moe_cli.activity import activity
from moe_cli.data.entries import Entry, Kind
from moe_cli.data.faults import BadRowError, Fault, refuse_bad_rows
from moe_cli.data.formats import Format, recognised
from moe_cli.data.sources import Source, source_of
from moe_cli.data.tables import Table, read_table
from moe_cli.errors import UsageError

OF_THE_OTHER_KIND: dict[Kind, str] = {"harmful": "it is harmless", "benign": "it is harmful"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source holds."""

    source: Source
    sha256: str
    format: Format
    num_rows: int  # bad ones included
    entries: tuple[Entry, ...]
    skipped: Mapping[str, int]  # rows by reason
    faults: tuple[Fault, ...]


@activity("reading data")
def read(words: str, revision: str | None = None, *, keep_failed: bool = False) -> Reading:
    """The source that the words name. `keep_failed` also uses the rows whose attack failed.

    Raises:
        UsageError: nothing there, unreadable as a whole, without rows, or of no known format.
    """
    return read_rows(read_table(source_of(words, revision)), keep_failed=keep_failed)


def read_each(all_words: Iterable[str], revision: str | None = None) -> tuple[Reading, ...]:
    """Every source, in order. Raises as `read`."""
    return tuple(read(words, revision) for words in all_words)


def read_rows(table: Table, *, keep_failed: bool = False) -> Reading:
    """The rows of a table as entries of the format that they are of."""
    name, accepted = table.source.name, table.source.accepted
    if not table.rows:
        refuse_bad_rows(table.faults, 0, hint=accepted)
        raise UsageError(f"{name} holds no rows", hint=accepted)
    found = recognised(table.keys(), name, accepted)
    entries: list[Entry] = []
    skipped: Counter[str] = Counter()
    faults = list(table.faults)
    for place, row in table.rows:
        try:
            if not keep_failed and (reason := found.skipped(row)) is not None:
                skipped[reason] += 1
            else:
                entries += list(found.entries(row, place))
        except BadRowError as error:
            faults.append(Fault(place, error.reason))
    num_rows = len(table.rows) + len(table.faults)
    faults.sort(key=lambda fault: fault.place.number)
    return Reading(table.source, table.sha256, found, num_rows, tuple(entries), skipped, tuple(faults))


def of_kind(reading: Reading, kind: Kind) -> Reading:
    """The reading without the entries that are known to be of the other kind; their rows count as skipped.

    Raises:
        UsageError: nothing is left, though there were entries.
    """
    kept = tuple(entry for entry in reading.entries if entry.kind in (kind, None))
    other = {entry.place for entry in reading.entries if entry.kind not in (kind, None)}
    if reading.entries and not kept:
        wanted = "harmful goals" if kind == "harmful" else "harmless prompts"
        raise UsageError(
            f"{reading.source.name} ({reading.format.name}) holds no {wanted}",
            hint="harmful goals and pairs belong to --pairs, harmless prompts to --benign",
        )
    skipped = {**reading.skipped, **({OF_THE_OTHER_KIND[kind]: len(other)} if other else {})}
    return replace(reading, entries=kept, skipped=skipped)
