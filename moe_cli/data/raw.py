"""Rows as their container gives them, before their columns are understood."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from moe_cli.data.faults import RowFault
from moe_cli.data.places import Location
from moe_cli.data.values import describe_value
from moe_cli.errors import UsageError

RawRow = dict[str, object]
Element = tuple[Location, RawRow] | RowFault
TEXT, KEY = "text", "id"  # the columns of rows that no column names: one text each, and the key it stands under


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTable:
    """What a container holds."""

    rows: Iterable[Element]
    container: str  # "JSON Lines", "CSV", "lines of text"
    are_texts: bool = False  # every row is one text, which no column names
    header: Mapping[str, object] = field(default_factory=dict)  # what stands beside the list of rows in a JSON object


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers; `\\n`, `\\r\\n` and `\\r` end a line and nothing else does."""
    numbered = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    return [(number, line) for number, line in numbered if line.strip()]


def elements_of(values: Sequence[object], name: str, container: str) -> RawTable:
    """The values of a list as rows."""
    rows = [row_of(value, Location(name, at, "element")) for at, value in enumerate(values, start=1)]
    return RawTable(rows=rows, container=container)


def texts_of(pairs: Iterable[tuple[str | None, object]], name: str, container: str) -> RawTable:
    """Texts with the key that each stands under, as rows."""
    rows: list[Element] = [
        (Location(name, at, "element"), {TEXT: text} if key is None else {KEY: key, TEXT: text})
        for at, (key, text) in enumerate(pairs, start=1)
    ]
    return RawTable(rows=rows, container=container, are_texts=True)


def row_of(value: object, place: Location) -> Element:
    """One element as a row; what is no object is a fault."""
    if not isinstance(value, dict):
        return RowFault(place, f"{describe_value(value)} is no row")
    inner = value.get("row")  # as the viewer of the hub sends rows
    return place, inner if isinstance(inner, dict) and "row_idx" in value else value


def refuse_part(name: str, part: str | None) -> None:
    """Refuse the word behind `#` where a file has no parts.

    Raises:
        UsageError: a part is named.
    """
    if part is not None:
        raise UsageError(f"{name} has no parts to choose from", hint="leave the # and its word away")
