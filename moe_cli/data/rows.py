"""One row, and typed values of its fields.

Comes in: a row as its container gives it. Goes out: texts, names and turns. Always holds: keys are in lower case, as
published files write them differently; a missing value is None, NaN included; an error never quotes a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from moe_cli.data.faults import BadRowError
from moe_cli.records import Message

Row = Mapping[str, object]
Turns = tuple[Message, ...]


def cleaned(raw: Mapping[str, object]) -> Row:
    """The row with lower-case keys; NaN is None, and a column without a name (the index of pandas) is left out.

    Raises:
        BadRowError: two keys differ in case alone.
    """
    row: dict[str, object] = {}
    for key, value in raw.items():
        name = key.strip().lower()
        if name in row:
            raise BadRowError(f"two keys are called `{name}`")
        if name:
            row[name] = None if isinstance(value, float) and math.isnan(value) else value
    return row


def described(value: object) -> str:
    """What a value is, without the words of a prompt."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return "''" if not value.strip() else "a text" if _is_whole(value) else "a text with a broken character"
    return f"a {type(value).__name__}"


def name_of(row: Row, key: str) -> str | None:
    """The value under `key` as a short text; None where it is missing or empty.

    A whole number has no point: a table holds the ids 7 and None as 7.0 and NaN.

    Raises:
        BadRowError: a list or an object.
    """
    value = row.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (list, dict)) or (isinstance(value, str) and not _is_whole(value)):
        raise BadRowError(f"`{key}` is {described(value)}, not a name")
    return None if value is None or not str(value).strip() else str(value).strip()


def text_of(row: Row, key: str) -> str:
    """The text under `key`.

    Raises:
        BadRowError: it is missing, empty or no text.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip() or not _is_whole(value):
        raise BadRowError(f"`{key}` is {described(value)}, not a text")
    return value


def turns_of(row: Row, key: str) -> Turns:
    """One user turn from a text, or the turns of a list; ends with a user turn.

    Raises:
        BadRowError: neither of the two.
    """
    return turns(row.get(key), key)


def turns(value: object, key: str) -> Turns:
    """As `turns_of`, of a value; `key` names it in the error."""
    if isinstance(value, str) and value.strip() and _is_whole(value):
        return asked(value)
    if is_turns(value) and (found := messages(value))[-1].role == "user":
        return found
    raise BadRowError(f"`{key}` is {described(value)}, not a text and not a list of turns that ends with the user")


def asked(text: str) -> Turns:
    """The text as one user turn."""
    return (Message(role="user", content=text),)


def messages(value: object) -> Turns:
    """The turns of a value that `is_turns`."""
    assert isinstance(value, list)
    return tuple(Message(role=turn["role"], content=turn["content"]) for turn in value)


def is_turns(value: object) -> bool:
    """Whether a value is a list of turns, whoever has the last word."""
    return isinstance(value, list) and bool(value) and all(_is_turn(turn) for turn in value)


def _is_turn(turn: object) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("role") in ("system", "user", "assistant")
        and isinstance(turn.get("content"), str)
        and _is_whole(turn["content"])
    )


def _is_whole(text: str) -> bool:
    """Whether the text has no lone surrogate, which no file could hold."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
