"""Marks in a text: placeholders for the goal in a template, and bullets and headings that are no part of a prompt.

`{goal}` is this program's own placeholder; published templates write `{query}`, `{{ prompt }}` or
`[INSERT PROMPT HERE]`. Only the one placeholder that a template uses is replaced: all other braces stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from moe_cli.errors import UsageError

ITEM = re.compile(r"\s*(\d{1,4}[.):]|[-*•])\s+\S")
BETWEEN = re.compile(r"\s*(---+|===+|```.*)\s*")
HEADING = re.compile(r"#{1,6}\s|#!|//\s")
YAML_KEY = re.compile(r"(-\s+)?[\w-]+:(\s.*)?")
YAML_BELOW = re.compile(r"\s+\S|-\s+\S")
LOG = re.compile(r"\W*([A-Z]+ )?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d|(DEBUG|INFO|WARNING|ERROR)\b(?!,))")
# A text with a comma or a bracket of a list, `name = value`, and markup from one end to the other.
CODE = re.compile(r"\s*([\"'].*[\"'],|[\"'].*[\"']|\w+ = .*|[\[\]]+,?|<.*>)\s*")
QUOTED = re.compile(r"\s*[\"'].*[\"']\s*")
ONE_A_LINE = "leave out what is no prompt, one a line; or bring a JSON list of texts, or CSV with a column `prompt`"
GOAL = "{goal}"
WORDS = ("goal", "query", "prompt", "question", "instruction", "request", "behavior", "user_prompt")
BRACES = re.compile(r"\{\{\s*(%s)\s*\}\}|\{(%s)\}" % ("|".join(WORDS), "|".join(WORDS)), re.IGNORECASE)  # noqa: UP031
BRACKETS = re.compile(
    r"\[\s*((insert|your|the|a)[ _]+)*(prompt|goal|query|question|request|behaviou?r|instruction)([ _]+here)?\s*\]",
    re.IGNORECASE,
)


def refuse_marked_lines(lines: Sequence[str], name: str) -> None:
    """Refuse lines that are not exactly one text each.

    Raises:
        UsageError: they are a log, code, YAML or the items of a list, lie between `---`, or begin with a heading.
    """
    if not lines:
        return
    if len(lines) > 1 and YAML_KEY.fullmatch(lines[0]) and all(map(_is_yaml, lines)) and any(map(_is_below, lines)):
        raise UsageError(f"{name} is YAML, which is not read", hint="write it as JSON or CSV")
    if len(lines) > 1 and 2 * sum(map(bool, map(LOG.match, lines))) > len(lines):
        raise UsageError(f"{name} is a log: most lines begin with a time or a level", hint=ONE_A_LINE)
    if all(map(CODE.fullmatch, lines)) and not all(map(QUOTED.fullmatch, lines)):
        raise UsageError(f"{name} is code or markup: its lines are more than a text each", hint=ONE_A_LINE)
    if HEADING.match(lines[0]):
        raise UsageError(f"{name}: its first line is a heading or a comment, not a text", hint=ONE_A_LINE)
    if any(map(BETWEEN.fullmatch, lines)):
        raise UsageError(
            f"{name}: a line of it only separates others, so its texts are not one a line",
            hint="bring texts of several lines as a JSON list",
        )
    if len(lines) > 1 and all(map(ITEM.match, lines)):
        raise UsageError(
            f"{name}: every line begins with a number or a bullet, which would be part of the text", hint=ONE_A_LINE
        )


def _is_yaml(line: str) -> bool:
    return YAML_KEY.fullmatch(line) is not None or _is_below(line)


def _is_below(line: str) -> bool:
    return YAML_BELOW.match(line) is not None


def placeholders_in(texts: Iterable[str]) -> list[str]:
    """The distinct placeholders of a template, as written; only `{goal}` if that is among them."""
    written = [match.group() for text in texts for kind in (BRACES, BRACKETS) for match in kind.finditer(text)]
    different = list(dict.fromkeys(written))
    own = [one for one in different if one.strip("{} ").lower() == "goal"]
    return own or different


def holds_placeholder(text: str) -> bool:
    """Whether a text has a placeholder for a goal."""
    return bool(placeholders_in([text]))
