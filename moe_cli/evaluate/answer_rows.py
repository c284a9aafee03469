"""The rows of a file of answers, also those of `{id: [objects]}` and of an object that holds `jailbreaks`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from moe_cli.data import Fault, Place, digest_of, read_table
from moe_cli.data.faults import BadRowError
from moe_cli.data.rows import Row, cleaned, is_turns
from moe_cli.data.sources import Source

# Names under which published files keep their rows; any other list may be a value of a file of one row.
LISTS = ("jailbreaks", "samples")


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """The rows of one source, and what stands beside them in its object."""

    name: str
    sha256: str
    rows: tuple[tuple[Place, Row], ...]
    faults: tuple[Fault, ...]
    header: Mapping[str, object]

    def keys(self) -> set[str]:
        """The keys that any row holds."""
        return {key for _, row in self.rows for key in row}


def answer_table(source: Source) -> AnswerTable:
    """All rows of a source.

    Raises:
        UsageError: it cannot be read as a whole.
    """
    nested = _object_in(Path(source.place)) if source.kind == "file" else None
    if nested is None:
        table = read_table(source)
        return AnswerTable(source.name, table.sha256, table.rows, table.faults, {})
    raw, header = nested
    rows, faults = [], []
    for number, value in enumerate(raw, start=1):
        place = Place(source.name, number, "element")
        try:
            rows.append((place, cleaned(value)))
        except BadRowError as error:
            faults.append(Fault(place, error.reason))
    return AnswerTable(source.name, digest_of(Path(source.place)), tuple(rows), tuple(faults), header)


def _object_in(path: Path) -> tuple[list[Mapping[str, object]], Mapping[str, object]] | None:
    """Rows and the rest of a file that is one JSON object with rows inside; None where it is something else."""
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    lists = {key: value for key, value in whole.items() if _is_rows(value)}
    key = next((name for name in LISTS if name in lists), None)
    if key is None and lists and len(lists) == len(whole):
        return [{"id": name, **row} for name, rows in lists.items() for row in rows], {}
    return None if key is None else (lists[key], {name: value for name, value in whole.items() if name != key})


def _is_rows(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(row, dict) for row in cast(list[object], value))
        and not is_turns(value)
    )
