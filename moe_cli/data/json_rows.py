"""Rows of JSON: one object per line, or one list of objects.

Comes in: a text. Goes out: raw rows with their places, and the lines that are none. Always holds: only a newline ends
a line, as JSON texts may hold the other line breaks of Unicode.

What is no JSON but what Python's own writer makes of missing numbers and broken emoji (`NaN`, lone surrogates) is read,
too: NaN is missing, and a broken character is a fault only in a field that is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

from moe_cli.codec import parse_json
from moe_cli.data.faults import Fault
from moe_cli.data.places import Place
from moe_cli.data.rows import described, is_turns
from moe_cli.errors import UsageError

RawRow = dict[str, object]


def json_rows(text: str, name: str, hint: str) -> Iterator[tuple[Place, RawRow] | Fault]:
    """Every row, or what is wrong with it.

    Raises:
        UsageError: a list that is not JSON; nothing of it can be read.
    """
    if text.lstrip().startswith("["):
        values = cast(list[object], _parsed(text, name, hint))
        for number, value in enumerate(values, start=1):
            yield _row(value, Place(name, number, "element"))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _line(line, Place(name, number))


def _line(line: str, place: Place) -> tuple[Place, RawRow] | Fault:
    try:
        value = _parsed(line, str(place), hint="")
    except UsageError as error:
        return Fault(place, error.message.removeprefix(f"{place}: "))
    return _row(value, place)


def _parsed(text: str, source: str, hint: str) -> object:
    try:
        return parse_json(text, source=source, hint=hint, error_type=UsageError)
    except UsageError as strict:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise strict from None


def _row(value: object, place: Place) -> tuple[Place, RawRow] | Fault:
    return (place, value) if isinstance(value, dict) else Fault(place, f"{described(value)} is no row")


def turns_in_cell(text: str) -> object:
    """The turns that a cell of a CSV holds as JSON; the text itself where it holds none."""
    if not text.startswith("["):
        return text
    try:
        value = parse_json(text, source="", hint="", error_type=UsageError)
    except UsageError:
        return text
    return value if is_turns(value) else text
