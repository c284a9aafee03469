"""The one way by which foreign text reaches a terminal.

Comes in: any string (a model's answer, a file name, a prompt). Goes out: text that moves no cursor, changes no colour,
writes no markup and keeps its reading order. Always holds: escape, C0 and C1 control, bidi and invisible format
characters become visible stand-ins.
"""

from __future__ import annotations

from rich.text import Text

from moe_cli.characters import escape_unsafe

__all__ = ["escape_unsafe", "safe_text"]


def safe_text(value: object, *, style: str = "") -> Text:
    """`value` as rich text without markup, each unsafe character replaced by one visible character."""
    return Text(escape_unsafe(str(value)), style=style)
