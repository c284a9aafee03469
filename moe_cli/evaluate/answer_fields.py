"""One answer of a file, and the values of the fields that say it.

Nothing is guessed: a value that is none of its field's is a bad row, and whether an answer ended by itself is known
only where the file says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from moe_cli.data import Kind, Location
from moe_cli.data.column_names import SYSTEM_COLUMNS, first_of
from moe_cli.data.faults import BadRowError
from moe_cli.data.turns import Turns, are_turns, messages_of, turns
from moe_cli.data.values import Row, describe_value, is_whole, text_of
from moe_cli.records import Message

NO_ANSWER, NO_PROMPT = "it holds no answer", "it holds no prompt"
ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}
CUT = {"length", "max_tokens", "model_length", "max_new_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAnswer:
    """One answer of a file, with all that the file says about it."""

    place: Location
    id: str | None
    messages: Turns  # the prompt; ends with a user turn
    text: str
    kind: Kind | None  # None: the file does not say
    goal: str | None = None
    suite: str | None = None
    cluster: str | None = None
    expected: str | None = None
    finished: bool | None = None
    num_tokens: int | None = None


RowAnswers = tuple[FileAnswer, ...] | str  # the answers of a row, or why it has none


def asked_of(value: object, key: str) -> Turns:
    """A text or turns; a list that holds one text alone is that text."""
    alone = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value
    return turns(alone, key)


def with_system_turn(asked: Turns, row: Row) -> Turns:
    """The prompt with the row's system prompt in front, as --items reads one."""
    column = first_of(SYSTEM_COLUMNS, row)
    if column is None:
        return asked
    if asked[0].role == "system":
        raise BadRowError(f"`{column}` stands beside turns that begin with a system turn")
    return (Message(role="system", content=text_of(row, column)), *asked)


def separate_system_turn(value: object, key: str) -> tuple[object, object]:
    """The prompt and the answer of turns that end with it; without one the answer is None."""
    if value is None or not are_turns(value):
        if value is not None:
            raise BadRowError(f"`{key}` is {describe_value(value)}, not a list of turns")
        return None, None
    *asked, last = messages_of(value, key)
    if last.role != "assistant":
        return value, None
    return [{"role": turn.role, "content": turn.content} for turn in asked], last.content


def texts_of(value: object, key: str) -> tuple[str, ...]:
    """One answer, or several to the same prompt; an empty one is an answer, too."""
    several = value if isinstance(value, list) else [value]
    for text in several:
        if not isinstance(text, str) or not is_whole(text):
            raise BadRowError(f"`{key}` is {describe_value(text)}, not an answer")
    return tuple(several)


def finished_of(row: Row) -> bool | None:
    """Whether the answer ended by itself, where a column says so."""
    said = row.get("finished")
    if isinstance(said, bool):
        return said
    return next(
        (found for key in ("finish_reason", "stop_reason") if (found := has_ended(row.get(key))) is not None), None
    )


def has_ended(reason: object) -> bool | None:
    """Whether a stop reason says that the answer ended by itself; None: it says neither."""
    word = str(reason or "").lower()
    return True if word in ENDED else False if word in CUT else None
