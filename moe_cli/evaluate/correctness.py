"""Whether an answer is the expected one: an exact match, never a substring.

Comes in: an answer and the one right answer. Goes out: True or False. Always holds: only case, white space and one
final full stop are forgiven, so that "276,000" is not 276 and "is a" is not choice A; reasoning is left out, and an
answer that holds nothing but reasoning is wrong.
"""

from __future__ import annotations

from moe_cli.data.reasoning import strip_reasoning

FULL_STOPS = (".", "\u3002")


def is_correct(answer: str, expected: str) -> bool:
    """Whether the answer equals the expected one up to case, white space and one final full stop."""
    text = strip_reasoning(answer)
    return text is not None and _plain(text) == _plain(expected)


def _plain(text: str) -> str:
    plain = " ".join(text.casefold().split())
    return plain[:-1].rstrip() if plain.endswith(FULL_STOPS) else plain
