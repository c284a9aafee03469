"""Where a goal stands in an attack template.

`{goal}` is this program's own word; published templates write `{query}`, `{{ prompt }}` or `[INSERT PROMPT HERE]`.
Only the one placeholder that a template uses is replaced: all other braces stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GOAL = "{goal}"
WORDS = ("goal", "query", "prompt", "question", "instruction", "request", "behavior", "user_prompt")
BRACES = re.compile(r"\{\{\s*(%s)\s*\}\}|\{(%s)\}" % ("|".join(WORDS), "|".join(WORDS)), re.IGNORECASE)  # noqa: UP031
BRACKETS = re.compile(
    r"\[\s*((insert|your|the|a)[ _]+)*(prompt|goal|query|question|request|behaviou?r|instruction)([ _]+here)?\s*\]",
    re.IGNORECASE,
)


def placeholders_in(texts: Iterable[str]) -> list[str]:
    """The different placeholders of a template, as it writes them; `{goal}` alone where it is there."""
    written = [match.group() for text in texts for kind in (BRACES, BRACKETS) for match in kind.finditer(text)]
    different = list(dict.fromkeys(written))
    own = [one for one in different if one.strip("{} ").lower() == "goal"]
    return own or different


def holds_placeholder(text: str) -> bool:
    """Whether a text has a place for a goal."""
    return bool(placeholders_in([text]))
