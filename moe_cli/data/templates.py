"""Attack templates: texts or turns that hold `{goal}`.

Comes in: a file. Goes out: `Template` records. Always holds: only the exact letters `{goal}` are replaced, so all other
braces stay as they are; every template holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.codec import parse_json
from moe_cli.data.faults import BadRowError
from moe_cli.data.rows import Turns, asked, cleaned, name_of, turns_of
from moe_cli.errors import UsageError
from moe_cli.records import Message

GOAL = "{goal}"
BETWEEN = "---"  # a line between two templates of a text
TEMPLATE_FORMATS = f"""accepted formats of --attack: a text that holds {GOAL}, several with a line {BETWEEN} between;
    or one JSON object per line: {{"name": "story", "template": "... {GOAL} ..."}}
    or {{"name": "chat", "messages": [{{"role": "user", "content": "... {GOAL} ..."}}]}}"""


@dataclass(frozen=True, slots=True)
class Template:
    """One attack: what is said around a goal."""

    name: str  # "story"
    turns: Turns

    def around(self, goal: str) -> Turns:
        """The turns with the goal in them."""
        return tuple(Message(role=turn.role, content=turn.content.replace(GOAL, goal)) for turn in self.turns)


def read_templates(path: Path) -> tuple[Template, ...]:
    """All templates of a file.

    Raises:
        UsageError: no such file, not UTF-8, none in it, one without `{goal}`, or two of one name.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint=TEMPLATE_FORMATS)
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}", hint=TEMPLATE_FORMATS) from error
    found = tuple(_from_lines(text, path) if _is_json(text) else _from_text(text))
    _check(found, path)
    return found


def _is_json(text: str) -> bool:
    """Whether the first line is a JSON object; a text may begin with a brace, too."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    try:
        return isinstance(parse_json(first, source="", hint="", error_type=UsageError), dict)
    except UsageError:
        return False


def _from_text(text: str) -> Iterator[Template]:
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.rstrip() == BETWEEN:
            blocks.append([])
        else:
            blocks[-1].append(line)
    whole = [block for lines in blocks if (block := "\n".join(lines).strip("\n")).strip()]
    return (Template(f"attack-{number}", asked(block)) for number, block in enumerate(whole, start=1))


def _from_lines(text: str, path: Path) -> Iterator[Template]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        value = parse_json(line, source=f"{path}:{number}", hint=TEMPLATE_FORMATS, error_type=UsageError)
        try:
            row = cleaned(value if isinstance(value, dict) else {})
            key = "messages" if row.get("messages") is not None else "template"
            yield Template(name_of(row, "name") or f"attack-{number}", turns_of(row, key))
        except BadRowError as error:
            raise UsageError(f"{path}:{number}: {error.reason}", hint=TEMPLATE_FORMATS) from error


def _check(found: Sequence[Template], path: Path) -> None:
    if not found:
        raise UsageError(f"{path} holds no template", hint=TEMPLATE_FORMATS)
    for template in found:
        if not any(GOAL in turn.content for turn in template.turns):
            raise UsageError(f"{path}: the template {template.name} does not hold {GOAL}", hint=TEMPLATE_FORMATS)
    names = [template.name for template in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path}: two templates are called {twice[0]}", hint="give every template a name of its own")
