"""Suggestions for misspelt words."""

from __future__ import annotations

import difflib
from collections.abc import Collection

LONGEST_NAME = 100  # characters; no name is longer, and a comparison takes the product of two lengths


def nearest(word: str, names: Collection[str], *, num: int = 1, cutoff: float = 0.6) -> list[str]:
    """The names with the most similar spelling, nearest first; none if the word is too long to be a name."""
    return difflib.get_close_matches(word, names, num, cutoff) if len(word) <= LONGEST_NAME else []


def did_you_mean(word: str, names: Collection[str]) -> str:
    """`, did you mean NAME?` for the end of a message; nothing where no name is similar."""
    near = nearest(word, names)
    return f", did you mean {near[0]}?" if near else ""
