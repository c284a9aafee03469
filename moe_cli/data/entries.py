"""Entries: what the rows of each format mean.

Nothing is guessed: a row that lacks what its format promises is a bad row, and so is a row with a column that belongs
to its prompt and is not read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from moe_cli.data.column_names import (
    ATTACKED_COLUMNS,
    GOAL_COLUMNS,
    GOAL_CONTEXT,
    MEDIA_COLUMNS,
    PLAIN_COLUMNS,
    PROMPT_COLUMNS,
    SYSTEM_COLUMNS,
    TEST_CASE,
    UNREADABLE_COLUMNS,
    first_of,
    is_attack_name,
)
from moe_cli.data.rows import BadRowError, Location, ReadRow, Row, is_missing, name_of, text_of
from moe_cli.data.turns import Turns, are_turns, prompt_of_turns, turns, turns_of
from moe_cli.records import Message
from moe_cli.records.inputs import Kind

HARMLESS, HARMLESS_ATTACKED = "benign", "benign_attacked"  # a third form of a pair
XSTEST_TYPES = {
    *("homonyms", "figurative_language", "safe_targets", "safe_contexts", "definitions", "historical_events"),
    *("real_group_nons_discr", "nons_group_real_discr", "privacy_public", "privacy_fictional"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The content of one row, or of one attacked prompt of a row with several."""

    place: Location
    id: str | None  # the row's own
    kind: Kind | None  # None: nothing says it
    goal: str | None  # what attack templates wrap; None where only turns are known
    plain: Turns | None
    attacked: Turns | None = None
    attack: str | None = None  # its name
    cluster: str | None = None  # the row's own
    part: int | None = None  # which attacked prompt of its row, where that is a list
    told_by: str | None = None  # the column that says what kind it is
    system: str | None = None  # what stands in front of every form
    suite: str | None = None  # the row's own
    expected: str | None = None  # the one right answer
    benign: Turns | None = None  # a harmless prompt like the plain form
    benign_attacked: Turns | None = None  # the same inside the attack


Reader = Callable[[ReadRow, Location], Iterable[Entry]]


def cluster_of(goal: str) -> str:
    """The cluster id that all forms of one goal share, in whatever case and punctuation it is written."""
    return name_of_text(normalise_text(goal))


def name_of_text(text: str) -> str:
    """A name for a text that has none, which depends on nothing else: `goal-3e23e8160039`."""
    return f"goal-{sha256(text.encode()).hexdigest()[:12]}"


def cluster_of_prompt(asked_turns: Turns) -> str:
    """The cluster id of all items with the same prompt, up to Unicode form, case, white space and final punctuation."""
    turns = [
        normalise_text(turn.content) if turn.role == "user" else f"{turn.role}: {turn.content}" for turn in asked_turns
    ]
    return name_of_text("\n".join(turns))


def normalise_text(prompt: str) -> str:
    """The form in which prompts are compared: NFKC, no format characters, casefold, single spaces."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKC", prompt) if unicodedata.category(letter) != "Cf")
    return " ".join(plain.casefold().split()).rstrip(" .?!")


def with_system(entry: Entry, row: Row) -> Entry:
    """The entry with the row's system prompt in front of every form.

    Raises:
        BadRowError: a form has a system turn of its own.
    """
    column = first_of(SYSTEM_COLUMNS, row)
    if column is None:
        return entry
    forms = (entry.plain, entry.attacked, entry.benign, entry.benign_attacked)
    plain, attacked, benign, benign_attacked = (with_system_turn(form, row) if form else None for form in forms)
    system = text_of(row, column)
    return replace(entry, plain=plain, attacked=attacked, benign=benign, benign_attacked=benign_attacked, system=system)


def with_system_turn(asked: Turns, row: Row) -> Turns:
    """A prompt with the row's system prompt in front.

    Raises:
        BadRowError: it has a system turn of its own.
    """
    column = first_of(SYSTEM_COLUMNS, row)
    if column is None:
        return asked
    system = Message(role="system", content=text_of(row, column))
    if asked[0].role == "system":
        raise BadRowError(f"`{column}` stands beside turns that begin with a system turn")
    return (system, *asked)


def with_harmless(entry: Entry, row: Row) -> Entry:
    """The entry of a pair with the harmless prompt of the same row, plain and inside the attack.

    Raises:
        BadRowError: only the attacked one is there, or one of them is neither text nor turns.
    """
    if row.get(HARMLESS_ATTACKED) is None or entry.kind == "benign":
        return entry
    if row.get(HARMLESS) is None:
        raise BadRowError(f"`{HARMLESS_ATTACKED}` stands without `{HARMLESS}`, its plain form")
    return replace(entry, benign=turns_of(row, HARMLESS), benign_attacked=turns_of(row, HARMLESS_ATTACKED))


def refuse_unreadable(row: ReadRow) -> None:
    """Refuse a row whose prompt has parts that are not read.

    Raises:
        BadRowError: it has a picture or sound, or choices, tools or earlier turns beside the prompt.
    """
    for column in (*MEDIA_COLUMNS, *UNREADABLE_COLUMNS):
        if column in row and not is_missing(row.peek(column)):
            row.columns_read.add(column)
            if column in MEDIA_COLUMNS:
                raise BadRowError(f"`{column}` holds a picture, a sound or a film, which is not shown to the model")
            raise BadRowError(
                f"`{column}` belongs to the prompt and is not read; write it into the prompt, or leave it out by "
                f"--map name={column}"
            )


def pair_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """One goal in both forms, or in one of them if another row with the same id has the other."""
    if row.get("all_prompt") is not None:
        raise BadRowError("`all_prompt` stands beside `safe` or `unsafe`: keep the two formats in files of their own")
    safe, unsafe = (turns_of(row, side) if row.get(side) is not None else None for side in ("safe", "unsafe"))
    goal = text_of(row, "goal") if row.get("goal") is not None or (safe is None) == (unsafe is None) else None
    if safe is None and unsafe is None:
        raise BadRowError("`safe` is None and `unsafe` is None")
    yield _harmful(row, place, goal, safe, attacked=unsafe, attack=name_of(row, "attack"))


def renamed_pair_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """A pair whose columns have other names: `plain_attack` or `goal` beside `attacked`, `jailbreak_prompt`, ...

    A row with an empty attacked side gives the plain side alone.
    """
    plain = first_of((*PLAIN_COLUMNS, *GOAL_COLUMNS, *PROMPT_COLUMNS), row)
    if plain is None:
        raise BadRowError("its plain form is None")
    others = PROMPT_COLUMNS if plain in PLAIN_COLUMNS else ()
    by_word = ("attack",) if plain in PLAIN_COLUMNS else ()
    sides = [name for name in (*ATTACKED_COLUMNS, *others, *by_word) if name != plain]
    attacked = first_of([name for name in sides if not is_attack_name(name, row.peek(name))], row)
    safe = turns_of(row, plain)
    goal = name_of(row, "goal") or (safe[0].content if len(safe) == 1 else None)
    unsafe = None if attacked is None else turns_of(row, attacked)
    attack = None if attacked == "attack" else name_of(row, "attack")
    yield _harmful(row, place, goal, safe, attacked=unsafe, attack=attack)


def attacked_alone_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """An attacked prompt whose goal is not in the file: an item, or one half of a pair."""
    column = first_of(ATTACKED_COLUMNS, row) or ATTACKED_COLUMNS[0]
    attack = name_of(row, "attack") if isinstance(row.get("attack"), str) else None
    entry = _harmful(row, place, None, None, attacked=turns_of(row, column), attack=attack)
    yield replace(entry, kind=None)


def attacked_list_entry(key: str) -> Reader:
    """Reader of a goal (`goal` or `prompt`) with its attacked prompts under `key`.

    The column holds one text, one conversation (a list of turns), or a list of these; the goal is the plain form.
    """

    def entries(row: ReadRow, place: Location) -> Iterator[Entry]:
        goal = text_of(row, "goal" if row.get("goal") is not None or "prompt" not in row else "prompt")
        value = row.get(key)
        several = isinstance(value, list) and not are_turns(value)
        forms = value if several and isinstance(value, list) and value else [value]
        attack = name_of(row, "attack") if isinstance(row.get("attack"), str) else None
        for part, form in enumerate(forms):
            yield _harmful(row, place, goal, prompt_of_turns(goal), attacked=turns(form, key), attack=attack, part=part)

    return entries


def artifact_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """A row of JailbreakBench's artifacts: the goal and its attacked prompt."""
    goal = text_of(row, "goal")
    name = _numbered("jbb", row, "index")
    yield replace(_harmful(row, place, goal, prompt_of_turns(goal), attacked=turns_of(row, "prompt")), id=name)


def goal_under(key: str) -> Reader:
    """Reader of a harmful goal alone, under `key`; HarmBench's context comes before it."""

    def entries(row: ReadRow, place: Location) -> Iterator[Entry]:
        goal = _in_context(row, text_of(row, key))
        yield _harmful(row, place, goal, prompt_of_turns(goal))

    return entries


def jailbreakbench_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """A goal of JailbreakBench. Its harmful and benign files have the same columns; the option tells them apart."""
    goal = _in_context(row, text_of(row, "goal"))
    yield replace(_harmful(row, place, goal, prompt_of_turns(goal)), id=_numbered("jbb", row, "index"), kind=None)


def harmbench_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """A behaviour of HarmBench, identified by its `BehaviorID`."""
    goal = _in_context(row, text_of(row, "behavior"))
    yield replace(_harmful(row, place, goal, prompt_of_turns(goal)), id=name_of(row, "behaviorid"))


def test_case_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """An attacked prompt of HarmBench's test cases, stored under the id of its behaviour."""
    goal = next((text_of(row, key) for key in ("goal", "behavior") if row.get(key) is not None), None)
    plain = None if goal is None else prompt_of_turns(goal)
    entry = _harmful(row, place, goal, plain, attacked=turns_of(row, TEST_CASE))
    yield entry if goal is not None else replace(entry, kind=None)  # lists by id could be harmless ones by topic


def xstest_entry(row: ReadRow, place: Location) -> Iterator[Entry]:
    """A prompt of XSTest, safe or unsafe by `label`; without a label, prompts of a contrast type are unsafe."""
    label = name_of(row, "label")
    if label is None:
        label = "unsafe" if text_of(row, "type").startswith("contrast_") else "safe"
    if label.lower() not in ("safe", "unsafe"):
        raise BadRowError("`label` is neither safe nor unsafe")
    goal = text_of(row, "prompt")
    kind: Kind = "benign" if label.lower() == "safe" else "harmful"
    yield Entry(place=place, id=_numbered("xstest", row, "id"), kind=kind, goal=goal, plain=prompt_of_turns(goal))


def _harmful(
    row: ReadRow,
    place: Location,
    goal: str | None,
    plain: Turns | None,
    *,
    attacked: Turns | None = None,
    attack: str | None = None,
    part: int | None = None,
) -> Entry:
    return Entry(
        place=place,
        id=name_of(row, "id"),
        kind="harmful",
        goal=goal,
        plain=plain,
        attacked=attacked,
        attack=attack,
        cluster=name_of(row, "cluster"),
        part=part,
    )


def _in_context(row: ReadRow, goal: str) -> str:
    """The goal with its context before it, joined as in HarmBench's own scripts."""
    column = first_of(GOAL_CONTEXT, row)
    return goal if column is None else f"{text_of(row, column)}\n\n---\n\n{goal}"


def _numbered(benchmark: str, row: Row, key: str) -> str | None:
    """The number of a row as an id that is unique across files."""
    number = name_of(row, key)
    return None if number is None else f"{benchmark}-{number}"


def says_xstest(values: Sequence[object]) -> bool:
    """Whether any of the values is one of XSTest's types of prompts."""
    return any(isinstance(value, str) and value.removeprefix("contrast_") in XSTEST_TYPES for value in values) or any(
        isinstance(value, str) and value.startswith("contrast_") for value in values
    )
