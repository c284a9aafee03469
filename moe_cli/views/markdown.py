"""Foreign text and tables in Markdown: nothing from elsewhere becomes a link, HTML, markup, or breaks a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from moe_cli.views.safe import escape_unsafe

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")
SCHEME = re.compile(r"(?i)(https?|ftp|mailto|www)([:.])")  # what some readers of Markdown make a link of


@lru_cache(maxsize=4096)
def markdown_text(text: str) -> str:
    """Foreign text that stays text."""
    return SCHEME.sub(r"\1\\\2", MARKUP.sub(r"\\\1", escape_unsafe(text)))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
