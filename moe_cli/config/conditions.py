"""Conditions that a person writes on the evidence of an expert: `q<0.05 and risk_diff>0.1`.

Comes in: text. Goes out: `Condition`s, all of which must hold. Always holds: a text that is not understood to its last
character is refused with what was expected.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

QUANTITIES = ("risk_diff", "text", "prompt", "did", "p", "q", "lower", "stability")
EXPECTED = f"write comparisons such as q<0.05, joined by ` and `; there are {', '.join(QUANTITIES)} and <, <=, >, >="

_CONDITION = re.compile(r"\s*([a-z_]+)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; an undefined quantity never meets it."""

    quantity: str  # "q"
    comparison: str  # "<"
    bound: float  # 0.05


def conditions_of(text: str) -> tuple[Condition, ...]:
    """The comparisons in `text`.

    Raises:
        ValueError: a part is no comparison, or compares something else; says what is expected.
    """
    return tuple(_condition(part) for part in re.split(r"\band\b", text))


def _condition(part: str) -> Condition:
    found = _CONDITION.fullmatch(part)
    if found is None:
        raise ValueError(f"{part.strip()!r} is no comparison; {EXPECTED}")
    quantity, comparison, bound = found.groups()
    if quantity not in QUANTITIES:
        raise ValueError(f"{part.strip()!r} compares {quantity!r}; {EXPECTED}")
    if not math.isfinite(float(bound)):
        raise ValueError(f"{part.strip()!r} compares with a number that is not finite; {EXPECTED}")
    return Condition(quantity, comparison, float(bound))
