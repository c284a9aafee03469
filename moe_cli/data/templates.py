"""Attack templates and refusals from a user's file, in any format that rows are read from.

A text file holds one template, or several where a line `---` separates them or every line has a placeholder for the
goal. Only the placeholder that a template uses is replaced; all other braces stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.data.column_names import REFUSAL_COLUMNS, TEMPLATE_COLUMNS, TEST_CASE, TURN_COLUMNS, first_of
from moe_cli.data.json_objects import SHOWN_KEY, are_targets, shown_keys
from moe_cli.data.reading import read_table
from moe_cli.data.rows import KEY, TEXT, BadRowError, name_of, text_of
from moe_cli.data.source_names import source_of
from moe_cli.data.table_rows import LINES
from moe_cli.data.tables import Table
from moe_cli.data.text_marks import GOAL, holds_placeholder, placeholders_in, refuse_marked_lines
from moe_cli.data.turns import Turns, turns_of
from moe_cli.errors import UsageError
from moe_cli.records import Message

BETWEEN = "---"  # a line between two templates of a text
TEMPLATE_FORMATS = (
    f"--attack takes texts that hold {GOAL}, {{query}}, {{prompt}} or [INSERT PROMPT HERE]; several in a text have a "
    f'line {BETWEEN} between them; or rows such as {{"name": "story", "template": "... {GOAL} ..."}}'
)
REFUSAL_FORMATS = (
    '--refusals takes a text with one refusal a line, rows such as {"refusal": "..."}, a JSON list of texts, or the '
    "word `endpoint`"
)


@dataclass(frozen=True, slots=True)
class Template:
    """One attack: the text around a goal."""

    name: str  # "story"
    turns: Turns

    def around(self, goal: str) -> Turns:
        """The turns of the attack with the goal filled in."""
        places = sorted(placeholders_in(turn.content for turn in self.turns), key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, places)))
        return tuple(Message(role=turn.role, content=pattern.sub(lambda _: goal, turn.content)) for turn in self.turns)


def read_templates(path: Path) -> tuple[Template, ...]:
    """All templates of a file.

    Raises:
        UsageError: no such file, unreadable, no template, one without a placeholder for a goal, or two of one name.
    """
    table = read_table(source_of(str(path), accepted=TEMPLATE_FORMATS), shape="plain")
    is_text = table.container == LINES
    templates = tuple(_of_text(str(table.header[TEXT])) if is_text else _of_rows(table))
    _check(templates, path)
    return templates


def _of_text(text: str) -> Iterator[Template]:
    lines = re.split(r"\r\n|\n|\r", text)
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == BETWEEN:
            blocks.append([])
        else:
            blocks[-1].append(line)
    filled = [line for line in lines if line.strip()]
    if len(blocks) == 1 and len(filled) > 1 and all(map(holds_placeholder, filled)):
        blocks = [[line] for line in filled]
    whole = [block for some in blocks if (block := "\n".join(some).strip("\n")).strip()]
    return (
        Template(f"attack-{number}", (Message(role="user", content=block),))
        for number, block in enumerate(whole, start=1)
    )


def _of_rows(table: Table) -> Iterator[Template]:
    if table.faults:
        raise UsageError(str(table.faults[0]), hint=TEMPLATE_FORMATS)
    listed: Counter[str] = Counter()  # of a list of templates under one name
    for number, (place, row) in enumerate(table.rows, start=1):
        try:
            column = first_of((*TURN_COLUMNS, *TEMPLATE_COLUMNS, TEST_CASE), row)
            name = name_of(row, "name") or name_of(row, KEY) or f"attack-{number}"
            listed[name] += column == TEST_CASE
            yield Template(name if listed[name] < 2 else f"{name}-{listed[name]}", turns_of(row, column or "template"))
        except BadRowError as error:
            columns = "" if column else f"; the columns are {shown_keys(table.shown_columns()) or 'none'}"
            raise UsageError(f"{place}: {error.reason}{columns}", hint=TEMPLATE_FORMATS) from error


def _check(templates: Sequence[Template], path: Path) -> None:
    if not templates:
        raise UsageError(f"{path} holds no template", hint=TEMPLATE_FORMATS)
    for number, template in enumerate(templates, start=1):
        places = placeholders_in(turn.content for turn in template.turns)
        name = template.name if SHOWN_KEY.fullmatch(template.name) else str(number)
        if not places:
            raise UsageError(
                f"{path}: the template {name} does not hold {GOAL}, nor another place for a goal",
                hint=TEMPLATE_FORMATS,
            )
        if len({place.strip("{}[] ").lower() for place in places}) > 1:
            raise UsageError(
                f"{path}: the template {name} has several places: {', '.join(places)}",
                hint=f"write {GOAL} where the goal stands",
            )
    names = [template.name for template in templates]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        described = twice[0] if SHOWN_KEY.fullmatch(twice[0]) else "by one text"
        raise UsageError(f"{path}: two templates are called {described}", hint="give every template a name of its own")


def read_refusals(path: Path) -> tuple[str, ...]:
    """The refusals of a file: one per line, or rows with a column such as `refusal`, `response` or `text`.

    Raises:
        UsageError: no such file, unreadable, a row without a refusal, no refusal in it, or target answers of an attack.
    """
    table = read_table(source_of(str(path), accepted=REFUSAL_FORMATS), shape="plain")
    if table.container == LINES:
        refuse_marked_lines([str(row.get(TEXT)) for _, row in table.rows], str(path))
    if table.faults:
        raise UsageError(str(table.faults[0]), hint=REFUSAL_FORMATS)
    texts = []
    for place, row in table.rows:
        try:
            texts.append(text_of(row, first_of(REFUSAL_COLUMNS, row) or "refusal").strip())
        except BadRowError as error:
            columns = shown_keys(table.shown_columns())
            raise UsageError(
                f"{place}: {error.reason}; the columns are {columns or 'none'}", hint=REFUSAL_FORMATS
            ) from error
    if not texts:
        raise UsageError(f"{path} holds no refusal", hint=REFUSAL_FORMATS)
    if are_targets(texts):
        raise UsageError(
            f'{path} holds targets (what an attack wants to hear: "Sure, here is"), not refusals', hint=REFUSAL_FORMATS
        )
    return tuple(texts)
