"""The split of every goal: `base` trains the tiny model, `prepare` feeds the two arms, `evaluate` measures.

A goal's text comes in, the name of its split goes out. The split is a pure function of the text, so the three splits
share no goal, whatever order or number of goals is drawn.
"""

from hashlib import sha256
from typing import Literal

Split = Literal["base", "prepare", "evaluate"]

# Upper bounds of the hundredths of all goals that belong to each split: 70, 15 and 15 percent.
BASE_BELOW = 70
PREPARE_BELOW = 85


def fingerprint(text: str) -> str:
    """Twelve hexadecimal digits that identify a goal in ids."""
    return sha256(f"moe tiny:{text}".encode()).hexdigest()[:12]


def split_of(goal: str) -> Split:
    """The one split that a goal belongs to."""
    hundredth = int(fingerprint(goal), 16) % 100
    if hundredth < BASE_BELOW:
        return "base"
    return "prepare" if hundredth < PREPARE_BELOW else "evaluate"
