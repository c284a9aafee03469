"""Conversations in their usual notations: role and content, ShareGPT's `from` and `value`, content in parts.

[{"role": "user", "content": "..."}]
[{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]
[{"role": "user", "content": [{"type": "text", "text": "..."}]}]
"""

from __future__ import annotations

import ast
import re
from typing import Literal, cast

from moe_cli.codec import parse_json
from moe_cli.data.rows import MISSING, BadRowError, Row, describe_value, is_missing, is_whole
from moe_cli.errors import UsageError
from moe_cli.records import Message

Turns = tuple[Message, ...]
Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
SPELLINGS = (("role", "content"), ("from", "value"), ("role", "value"), ("from", "content"))
SHOWN_ROLE = re.compile(r"[A-Za-z_]{1,20}")
TRANSCRIPT = re.compile(r"\s*(Human|H|User): .*\n\s*(Assistant|A):(\s|\Z)", re.DOTALL)  # as HH-RLHF writes them
PRINTED_TURNS = re.compile(r"\[\s*\{\s*['\"](role|from|content|value)['\"]\s*:")  # as Python or JSON prints a list
LITERAL = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
PRINTED_TEXTS = re.compile(rf"\[\s*{LITERAL}(?:(?:\s*,\s*|\s+){LITERAL})*\s*,?\s*\]", re.DOTALL)  # numpy has no commas
LIKE_PRINTED_TEXTS = re.compile(r"\s*\[\s*(['\"]).*\1\s*,?\s*\]\s*", re.DOTALL)
# What a spreadsheet writes where a formula failed, as it takes a text that begins with `=`, `+` or `-` for one.
SPREADSHEET_ERRORS = {
    *("#n/a", "#ref!", "#name?", "#value!", "#div/0!", "#num!", "#null!", "#error!", "#spill!", "#calc!"),
}
# What spreadsheets, data bases and R write where there is no text.
SUMS_UP = re.compile(
    r"(grand )?(total|sum|count|average|mean)\s*[:=(]?\s*\d[\d.,]*\s*%?\)?|\(\d+ rows?\)", re.IGNORECASE
)
NO_TEXTS = {*SPREADSHEET_ERRORS, *(MISSING - {"", "-", "?"}), "nil", "undefined", "\\n"}


def turns_of(row: Row, key: str) -> Turns:
    """The value under `key` as turns that end with a user turn: a text as one turn, or the turns of a list.

    Raises:
        BadRowError: it is neither of the two.
    """
    return turns(row.get(key), key)


def turns(value: object, key: str) -> Turns:
    """Like `turns_of`, for a value; `key` names it in errors."""
    if isinstance(value, str) and TRANSCRIPT.match(value):
        raise BadRowError(f"`{key}` holds a printed conversation (Human: ... Assistant:); write it as `messages`")
    if isinstance(value, str) and PRINTED_TURNS.match(value):
        raise BadRowError(f"`{key}` holds a printed list of turns that cannot be read; write it as JSON")
    if isinstance(value, str) and LIKE_PRINTED_TEXTS.fullmatch(value):
        raise BadRowError(f"`{key}` holds a printed list of texts that cannot be read; write it as JSON")
    if isinstance(value, str) and value.strip() and is_whole(value):
        return prompt_of_turns(value)
    if are_turns(value) and (spoken := messages_of(value, key))[-1].role == "user":
        return spoken
    raise BadRowError(f"`{key}` is {describe_value(value)}, not a text and not a list of turns that ends with the user")


def prompt_of_turns(text: str) -> Turns:
    """The text as one user turn.

    Raises:
        BadRowError: it is only a word for a missing value, or the last row of a sheet.
    """
    if SUMS_UP.fullmatch(text.strip()):
        raise BadRowError("a prompt only sums up other rows")
    if text.strip().casefold() in NO_TEXTS:
        raise BadRowError(f"a prompt is only `{text.strip()}`, which stands for a missing value")
    return (Message(role="user", content=text),)


def are_turns(value: object) -> bool:
    """Whether a value has the shape of a list of turns, whatever the role of the last one."""
    return isinstance(value, list) and bool(value) and all(_spelling(turn) is not None for turn in value)


def messages_of(value: object, key: str) -> Turns:
    """The turns of a value that has the shape of turns.

    Raises:
        BadRowError: a turn with a role that no chat template of a text model has, or one without text.
    """
    assert isinstance(value, list)
    return tuple(_message(turn, key) for turn in value)


def turns_in_cell(text: str, *, is_prompt: bool) -> object:
    """The turns or the list of texts in a cell of a table; the text itself if there are none.

    A list of texts is read in columns of prompts alone: an answer may be such a text.
    """
    if not text.startswith("["):
        return text
    value = _printed(text)
    if not is_prompt:
        return value if are_turns(value) else text
    if value is None and PRINTED_TEXTS.fullmatch(text):
        value = [ast.literal_eval(literal) for literal in re.findall(LITERAL, text, re.DOTALL)]
    is_texts = isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
    return value if is_texts or are_turns(value) else text


def _printed(text: str) -> object:
    """A list from its JSON or Python notation; None if it is neither."""
    try:
        return parse_json(text, source="", hint="", error_type=UsageError)
    except UsageError:
        if not PRINTED_TURNS.match(text):
            return None
    try:
        return cast(object, ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _spelling(turn: object) -> tuple[str, str] | None:
    """The keys of role and content in a turn; None if it is no turn."""
    if not isinstance(turn, dict):
        return None
    return next((names for names in SPELLINGS if isinstance(turn.get(names[0]), str) and names[1] in turn), None)


def _message(turn: dict[str, object], key: str) -> Message:
    spelling = _spelling(turn)
    assert spelling is not None
    word = cast(str, turn[spelling[0]]).strip().lower()
    if word not in ROLES:
        named = f" {word}" if SHOWN_ROLE.fullmatch(word) else ""
        raise BadRowError(f"`{key}` holds a turn of another role{named}, which is neither system, user nor assistant")
    return Message(role=ROLES[word], content=_content(turn[spelling[1]], key))


def _content(value: object, key: str) -> str:
    text = "".join(_part(part, key) for part in value) if isinstance(value, list) else value
    if not isinstance(text, str) or not is_whole(text):
        raise BadRowError(f"`{key}` holds a turn whose content is {describe_value(value)}, not a text")
    return text


def _part(part: object, key: str) -> str:
    """The text of one part of a content."""
    if isinstance(part, str):
        return part
    if (
        isinstance(part, dict)
        and isinstance(part.get("text"), str)
        and part.get("type", "text") in ("text", "input_text")
    ):
        return cast(str, part["text"])
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text" and is_missing(part.get("text")):
        return ""
    described = f" ({kind})" if isinstance(kind, str) and SHOWN_ROLE.fullmatch(kind) else ""
    raise BadRowError(f"`{key}` holds a turn with a part that is no text{described}")
