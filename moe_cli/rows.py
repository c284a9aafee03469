"""Rows of the data files that people bring: one JSON object per line, or one JSON list.

Comes in: a path and a text that lists the accepted formats. Goes out: rows with their place, and typed values of their
fields. Always holds: every error names file and row and shows the accepted formats; pickles are refused unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moe_cli.codec import parse_json
from moe_cli.errors import UsageError
from moe_cli.records import Message

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin"}

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: named in every error about it."""

    path: Path
    number: int  # line of a .jsonl file, element of a .json list; from 1
    is_line: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.number}" if self.is_line else f"{self.path} [element {self.number}]"


def rows_of(path: Path, formats: str) -> Iterator[tuple[Place, Row]]:
    """All rows of a file, with their places.

    Raises:
        UsageError: no such file, a pickle, not UTF-8, not JSON, or a row that is no object.
    """
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            f"{path} looks like a pickle, which could run code when it is read", hint=f"export it as JSON; {formats}"
        )
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint=formats)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}", hint=formats) from error
    is_list = text.lstrip().startswith("[")
    if is_list:
        values = _json(text, str(path), formats)
        entries: Iterable[tuple[int, object]] = enumerate(values if isinstance(values, list) else [values], start=1)
    else:  # by "\n" alone: JSON texts may hold the other line breaks of Unicode
        lines = enumerate(text.split("\n"), start=1)
        entries = ((number, _json(line, f"{path}:{number}", formats)) for number, line in lines if line.strip())
    for number, entry in entries:
        place = Place(path, number, is_line=not is_list)
        if not isinstance(entry, dict):
            raise UsageError(f"{place}: a {type(entry).__name__} is no row", hint=formats)
        yield place, entry


def _json(text: str, source: str, formats: str) -> object:
    return parse_json(text, source=source, error_type=UsageError, hint=formats)


def name_of(row: Row, key: str, otherwise: str) -> str:
    """The value under `key` as text; `otherwise` where it is missing or null."""
    return otherwise if row.get(key) is None else str(row[key])


def text_of(row: Row, key: str, place: Place, formats: str) -> str:
    """The text under `key`; an error where it is missing or empty."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{place}: `{key}` is {value!r}, not a text", hint=formats)
    return value


def messages_of(value: object, key: str, place: Place, formats: str) -> tuple[Message, ...]:
    """One user turn from a text, or the turns of a list; ends with a user turn."""
    if isinstance(value, str) and value.strip():
        return (Message(role="user", content=value),)
    if isinstance(value, list) and value and all(_is_turn(turn) for turn in value) and value[-1]["role"] == "user":
        return tuple(Message(role=turn["role"], content=turn["content"]) for turn in value)
    raise UsageError(
        f"{place}: `{key}` is {value!r:.80}, not a text and not a list of turns that ends with the user", hint=formats
    )


def _is_turn(turn: object) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("role") in ("system", "user", "assistant")
        and isinstance(turn.get("content"), str)
    )
