"""What the rows of each format say, as entries.

Comes in: one row with its place. Goes out: one `Entry`, or one per attacked prompt of the row. Always holds: nothing is
guessed; a row that does not say what its format promises is a bad row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from moe_cli.data.faults import BadRowError
from moe_cli.data.places import Place
from moe_cli.data.rows import Row, Turns, asked, is_turns, messages, name_of, text_of, turns, turns_of

Kind = Literal["harmful", "benign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one row says, or one attacked prompt of a row that holds several."""

    place: Place
    id: str | None  # the row's own
    kind: Kind | None  # None: the format does not say
    goal: str | None  # what attack templates wrap; None where only turns are known
    plain: Turns | None
    attacked: Turns | None = None
    attack: str | None = None  # its name
    cluster: str | None = None  # the row's own
    part: int | None = None  # which attacked prompt of its row, where that is a list


Reader = Callable[[Row, Place], Iterable[Entry]]


def cluster_of(goal: str) -> str:
    """What all forms of one goal share."""
    return f"goal-{sha256(goal.encode()).hexdigest()[:12]}"


def pair(row: Row, place: Place) -> Iterator[Entry]:
    """One goal in both forms, or in one of them, for another row with the same id to complete."""
    if row.get("all_prompt") is not None:
        raise BadRowError("`all_prompt` stands beside `safe` or `unsafe`: keep the two formats in files of their own")
    safe, unsafe = (turns_of(row, side) if row.get(side) is not None else None for side in ("safe", "unsafe"))
    goal = text_of(row, "goal") if row.get("goal") is not None or (safe is None) == (unsafe is None) else None
    if safe is None and unsafe is None:
        raise BadRowError("`safe` is None and `unsafe` is None")
    yield Entry(
        place=place,
        id=name_of(row, "id"),
        kind="harmful",
        goal=goal,
        plain=safe,
        attacked=unsafe,
        attack=name_of(row, "attack"),
    )


def attacked(key: str) -> Reader:
    """Reader of a goal (`goal` or `prompt`) with its attacked prompts under `key`.

    They are one text, one conversation (a list of turns), or a list of these; the goal itself is the plain form.
    """

    def entries(row: Row, place: Place) -> Iterator[Entry]:
        goal = text_of(row, "goal" if row.get("goal") is not None or "prompt" not in row else "prompt")
        value = row.get(key)
        several = isinstance(value, list) and not is_turns(value)
        forms = value if several and isinstance(value, list) and value else [value]
        for part, form in enumerate(forms):
            yield Entry(
                place=place,
                id=name_of(row, "id"),
                kind="harmful",
                goal=goal,
                plain=asked(goal),
                attacked=turns(form, key),
                attack=name_of(row, "attack") if isinstance(row.get("attack"), str) else None,
                part=part,
            )

    return entries


def goal_under(key: str) -> Reader:
    """Reader of a harmful goal alone, under `key`."""

    def entries(row: Row, place: Place) -> Iterator[Entry]:
        goal = text_of(row, key)
        yield Entry(place=place, id=name_of(row, "id"), kind="harmful", goal=goal, plain=asked(goal))

    return entries


def jailbreakbench(row: Row, place: Place) -> Iterator[Entry]:
    """Its files of harmful and of benign goals have the same columns: only the option can say which they are."""
    goal = text_of(row, "goal")
    yield Entry(place=place, id=_numbered("jbb", row, "index"), kind=_said_kind(row), goal=goal, plain=asked(goal))


def harmbench(row: Row, place: Place) -> Iterator[Entry]:
    """HarmBench's own scripts put the context before the behaviour, with this line between them."""
    context = row.get("contextstring")
    behavior = text_of(row, "behavior")
    goal = f"{text_of(row, 'contextstring')}\n\n---\n\n{behavior}" if context else behavior
    yield Entry(place=place, id=name_of(row, "behaviorid"), kind="harmful", goal=goal, plain=asked(goal))


def xstest(row: Row, place: Place) -> Iterator[Entry]:
    """Safe and unsafe prompts by `label`; without it those of a contrast type are unsafe."""
    label = name_of(row, "label")
    if label is None:
        label = "unsafe" if text_of(row, "type").startswith("contrast_") else "safe"
    if label.lower() not in ("safe", "unsafe"):
        raise BadRowError("`label` is neither safe nor unsafe")
    goal = text_of(row, "prompt")
    kind: Kind = "benign" if label.lower() == "safe" else "harmful"
    yield Entry(place=place, id=_numbered("xstest", row, "id"), kind=kind, goal=goal, plain=asked(goal))


def _numbered(benchmark: str, row: Row, key: str) -> str | None:
    """The number of a row as an id that differs from those of other files."""
    number = name_of(row, key)
    return None if number is None else f"{benchmark}-{number}"


def prompt(row: Row, place: Place) -> Iterator[Entry]:
    """A last answer in `messages` is left out: the model's own takes its place."""
    value = row.get("messages")
    if is_turns(value) and (found := messages(value))[-1].role == "assistant":
        value = [{"role": turn.role, "content": turn.content} for turn in found[:-1]]
    plain = turns(value, "messages") if value is not None else turns_of(row, "prompt")
    yield Entry(
        place=place,
        id=name_of(row, "id"),
        kind=_said_kind(row),
        goal=plain[0].content if len(plain) == 1 else None,
        plain=plain,
        attack=name_of(row, "attack"),
        cluster=name_of(row, "cluster"),
    )


def _said_kind(row: Row) -> Kind | None:
    said = name_of(row, "kind")
    if said is None:
        return None
    if said not in ("harmful", "benign"):
        raise BadRowError("`kind` is neither harmful nor benign")
    return "harmful" if said == "harmful" else "benign"
