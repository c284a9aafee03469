"""Rows of a JSON text: one object per line, a list, one object that holds them, or concatenated objects.

Only a newline ends a line, as JSON texts may contain the other line breaks of Unicode. The non-standard JSON that
Python's own writer makes of missing numbers and broken emoji (`NaN`, lone surrogates) is read, too: NaN is missing, and
a broken character is a fault only in a field that is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from functools import reduce
from typing import cast

from moe_cli.codec import parse_json
from moe_cli.data.json_objects import SHOWN_KEY, object_table
from moe_cli.data.rows import (
    Element,
    Location,
    RawTable,
    RowFault,
    elements_of,
    lines_of,
    refuse_part,
    row_of,
    text_rows,
)
from moe_cli.data.text_marks import placeholders_in
from moe_cli.data.turns import are_turns
from moe_cli.errors import UsageError

# How JSON begins that is meant as rows; "[INST] a prompt" and "{goal} in a text" begin otherwise.
BEGINNING = re.compile(r"\s*(\{\s*[\"'}]|\{\s*$|\[\s*([\[{\"\]]|-?\d|(null|true|false)\s*[,\]]))")


def looks_like_json(text: str) -> bool:
    """Whether the text begins as JSON rows do."""
    return BEGINNING.match(text) is not None


def is_json_around_placeholders(text: str) -> bool:
    """Whether a text is JSON apart from template placeholders in it: '{"role": {goal}}'."""
    places = placeholders_in([text])
    return (
        bool(places)
        and not _is_json(text)
        and _is_json(reduce(lambda rest, place: rest.replace(place, "0"), places, text))
    )


def _is_json(text: str) -> bool:
    try:
        parse_values(text, "", hint="")
    except UsageError:
        return False
    return True


def json_table(text: str, name: str, hint: str, part: str | None = None, mapped: Collection[str] = ()) -> RawTable:
    """The rows of a JSON text; `part` names one of several lists in an object, `mapped` are known columns.

    Raises:
        UsageError: no JSON at all, or an object whose rows cannot be determined.
    """
    try:
        value = parse_values(text, name, hint)
    except RepeatedKeyError:
        raise
    except UsageError as error:
        refuse_part(name, part)
        return _lines_or_stream(text, name, error)
    if isinstance(value, dict):
        return object_table(cast("dict[str, object]", value), name, hint, part, list_rows, mapped)
    refuse_part(name, part)
    return list_rows(cast("list[object]", value), name)


class RepeatedKeyError(UsageError):
    """An object holds one key twice, of which a reader keeps the last alone."""


def _object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        shown = f"the key `{twice}`" if SHOWN_KEY.fullmatch(twice) else "a key"
        raise RepeatedKeyError(f"{shown} stands twice in one object", hint="")
    return content


def _number_of(digits: str) -> int | float:
    """An integer of 64 bits; a longer one, which no record could hold, as a float."""
    short = len(digits) < 19 or (len(digits) < 21 and -(2**63) <= int(digits) < 2**64)
    return int(digits) if short else float(digits)


DECODER = json.JSONDecoder(object_pairs_hook=_object_of, parse_int=_number_of)


def parse_values(text: str, source: str, hint: str) -> object:
    """One JSON value; Python's own `NaN` and lone surrogates are read.

    Raises:
        UsageError: it is no JSON, with the position in the text; or it is nested too deeply.
        RepeatedKeyError: an object in it holds a key twice.
    """
    try:
        return cast(object, DECODER.decode(text))
    except (ValueError, RecursionError, RepeatedKeyError) as error:
        _refuse_no_json(text, source, hint)
        if isinstance(error, RepeatedKeyError):
            raise RepeatedKeyError(f"{source}: {error.message}", hint=hint) from None
        raise UsageError(f"{source} holds values that are nested too deeply", hint=hint) from None


def _refuse_no_json(text: str, source: str, hint: str) -> None:
    try:
        parse_json(text, source=source, hint=hint, error_type=UsageError)
    except UsageError as strict:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise strict from None


def list_rows(values: Sequence[object], name: str) -> RawTable:
    """The rows of a list: objects, texts, conversations, or lists of cells after a list of column names."""
    if values and all(isinstance(value, str) for value in values):
        return text_rows([(None, value) for value in values], name, "a JSON list of texts")
    if values and all(map(are_turns, values)):
        return elements_of([{"messages": value} for value in values], name, "a JSON list of conversations")
    if _are_cells(values):
        names, *rows = cast("list[list[str]]", values)
        return elements_of([dict(zip(names, row, strict=True)) for row in rows], name, "a JSON list of lists")
    return elements_of(values, name, "a JSON list")


def _are_cells(values: Sequence[object]) -> bool:
    """Whether the values are a list of names followed by lists of as many cells."""
    if len(values) < 2 or not all(isinstance(value, list) and value for value in values):
        return False
    names, *rows = cast("Sequence[list[object]]", values)
    return all(isinstance(name, str) and SHOWN_KEY.fullmatch(name) for name in names) and all(
        len(row) == len(names) for row in rows
    )


def _lines_or_stream(text: str, name: str, whole: UsageError) -> RawTable:
    lines = lines_of(text)
    rows = [_line(line, Location(name, number)) for number, line in lines]
    if any(not isinstance(row, RowFault) for row in rows):
        return RawTable(rows=rows, container="JSON Lines")
    if quoted := _lines_of_texts(lines):
        return text_rows([(None, value) for value in quoted], name, "lines of JSON texts")
    stream = _stream(text, name)
    if stream is not None:
        return list_rows(stream, name)
    return RawTable(rows=rows, container="JSON Lines") if len(rows) > 1 and _is_of_lines(lines) else _refuse(whole)


def _refuse(error: UsageError) -> RawTable:
    raise error


def _is_of_lines(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether most lines begin an object of their own, so that faults are reported line by line."""
    return 2 * sum(line.lstrip().startswith("{") for _, line in lines) > len(lines)


def _line(line: str, place: Location) -> Element:
    try:
        value = parse_values(line, str(place), hint="")
    except UsageError as error:
        return RowFault(place, error.message.removeprefix(f"{place}: "))
    return row_of(value, place)


def _lines_of_texts(lines: Sequence[tuple[int, str]]) -> list[str]:
    """The texts if every line is a JSON string."""
    values = []
    for _, line in lines:
        try:
            value = parse_values(line, "", hint="")
        except UsageError:
            return []
        if not isinstance(value, str):
            return []
        values.append(value)
    return values


def _stream(text: str, name: str) -> list[object] | None:
    """Concatenated JSON values, as `jq` prints them; None if there is anything else."""
    values, at = [], 0
    while at < len(text):
        if text[at].isspace() or text[at] == ",":
            at += 1
            continue
        try:
            value, at = DECODER.raw_decode(text, at)
        except RepeatedKeyError as error:
            raise RepeatedKeyError(f"{name}: {error.message}", hint="") from None
        except (ValueError, RecursionError):
            return None
        values.append(value)
    return values if len(values) > 1 else None
