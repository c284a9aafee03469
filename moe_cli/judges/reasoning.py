"""The part of an answer that was said aloud: reasoning is not judged.

Comes in: an answer as the model gave it. Goes out: the answer without its reasoning, or None where the reasoning never
ended, so that nothing was said. Always holds: an answer without a reasoning mark comes out unchanged.

A template that opens the reasoning itself leaves only the closing mark in the answer; if such an answer was cut off
before that mark, the text alone cannot show it.
"""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"

BLOCK = re.compile(f"{OPEN}.*?{CLOSE}", re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(OPEN, re.IGNORECASE)
_CLOSE = re.compile(CLOSE, re.IGNORECASE)


def spoken(answer: str) -> str | None:
    """The answer without reasoning; None where the reasoning never ended."""
    text = _CLOSE.split(BLOCK.sub("", answer))[-1]
    return None if _OPEN.search(text) else text
