"""Prompts and conversations: the turns of a row that has no goal.

Nothing is guessed: a row with two columns that could both be the prompt, or with one turn among others, is a bad row.
"""

from __future__ import annotations

from collections.abc import Iterator

from moe_cli.data.column_names import CONTEXT_COLUMNS, PROMPT_COLUMNS, TURN_COLUMNS, first_of
from moe_cli.data.entries import Entry
from moe_cli.data.rows import BadRowError, Location, ReadRow, is_missing, name_of, text_of, written_of
from moe_cli.data.turns import ROLES, Turns, are_turns, messages_of, prompt_of_turns, turns


def prompt_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """A prompt under any known name, or a conversation without its last answer, which the model answers itself."""
    plain = prompt_turns(row)
    system = plain[0].content if len(plain) == 2 and plain[0].role == "system" else None
    yield Entry(
        place=place,
        id=name_of(row, "id"),
        kind=None,
        goal=plain[-1].content if len(plain) == 1 or system is not None else None,
        plain=plain,
        system=system,
        attack=name_of(row, "attack"),
        cluster=name_of(row, "cluster"),
        suite=name_of(row, "suite"),
        expected=written_of(row, "expected") if row.get("expected") is not None else None,
    )


def prompt_turns(row: ReadRow) -> Turns:
    """The turns of a row: its conversation without a last answer, or its prompt with its context.

    Raises:
        BadRowError: there is none, or two columns could be the prompt.
    """
    if (role := row.get("role")) is not None and ROLES.get(str(role).strip().lower(), "user") != "user":
        raise BadRowError("`role` says that it is no turn of the user; write a conversation as one row of `messages`")
    if (column := first_of(TURN_COLUMNS, row)) is not None:
        return _conversation(row, column)
    column = _prompt_column(row)
    value = row.get(column)
    context = first_of([name for name in CONTEXT_COLUMNS if name != column], row)
    if context is None or not isinstance(value, str):
        return turns(value, column)
    return prompt_of_turns(f"{text_of(row, column)}\n\n{text_of(row, context)}")


def _conversation(row: ReadRow, column: str) -> Turns:
    """The turns of a column without a last answer; a prompt in another column has to be one of them.

    A `text` column beside turns is ignored: it can be the same turns rendered by a chat template.
    """
    value = row.get(column)
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        if len(value) > 1:
            raise BadRowError(f"`{column}` holds {len(value)} texts, and nothing says who says them")
        value = value[0]
    if are_turns(value) and (spoken := messages_of(value, column))[-1].role == "assistant":
        value = [{"role": turn.role, "content": turn.content} for turn in spoken[:-1]]
    asked_turns = turns(value, column)
    contents = {turn.content.strip() for turn in asked_turns}
    for other in (name for name in (*PROMPT_COLUMNS, *TURN_COLUMNS) if name not in ("text", column)):
        beside = row.peek(other)
        if is_missing(beside) or (isinstance(beside, str) and beside.strip() in contents) or beside == row.peek(column):
            continue
        if other != "prompt" or "messages" not in row.mapped:
            raise BadRowError(f"`{column}` and `{other}` could both be the prompt: --map name={other} leaves one out")
    return asked_turns


def _prompt_column(row: ReadRow) -> str:
    """The column with the prompt; beside another prompt column `input` is its context, and `text` is ignored."""
    candidates = [name for name in PROMPT_COLUMNS if name in row and not is_missing(row.peek(name))]
    chosen = candidates[0] if candidates else next((name for name in PROMPT_COLUMNS if name in row), "prompt")
    others = [name for name in candidates[1:] if name not in ("input", "text") and row.peek(name) != row.peek(chosen)]
    if others and "prompt" not in row.mapped:
        raise BadRowError(f"`{chosen}` and `{others[0]}` could both be the prompt: --map prompt=COLUMN says which is")
    return chosen
