"""Typed values of one row's fields; an error never quotes a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moe_cli.data.faults import BadRowError

Row = Mapping[str, object]
INDEX = re.compile(r"[0-9]{1,9}")


def describe_value(value: object) -> str:
    """What a value is, without the words of a prompt."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return "''" if not value.strip() else "a text" if is_whole(value) else "a text with a broken character"
    return f"a {type(value).__name__}"


def is_whole(text: str) -> bool:
    """Whether the text has no lone surrogate, which no file could hold."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_index(text: str) -> bool:
    """Whether the text is a whole number from 0 that can count layers or experts."""
    return INDEX.fullmatch(text) is not None


def is_missing(value: object) -> bool:
    """Whether a field holds nothing."""
    return value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip())


def name_of(row: Row, key: str) -> str | None:
    """The value under `key` as a short text; None where it is missing or empty.

    A whole number has no point: a table holds the ids 7 and None as 7.0 and NaN.

    Raises:
        BadRowError: a list or an object.
    """
    value = row.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (list, dict)) or (isinstance(value, str) and not is_whole(value)):
        raise BadRowError(f"`{key}` is {describe_value(value)}, not a name")
    return None if value is None or not str(value).strip() else str(value).strip()


def text_of(row: Row, key: str) -> str:
    """The text under `key`.

    Raises:
        BadRowError: it is missing, empty or no text.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip() or not is_whole(value):
        raise BadRowError(f"`{key}` is {describe_value(value)}, not a text")
    return value
