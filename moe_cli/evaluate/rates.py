"""Proportions with their counts, their interval and their bounds.

Comes in: outcomes (yes, no, or None for unscored) in any order. Goes out: a `Rate`. Always holds: n counts only what
was scored, what was not is counted beside it, and the bounds hold whatever the unscored outcomes would have been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import sqrt

from scipy.special import ndtri

from moe_cli.records.evaluation import Rate

CONFIDENCE = 0.95


def rate_of(outcomes: Iterable[bool | None]) -> Rate:
    """The share of yes among the scored outcomes."""
    counts = Counter(outcomes)
    yes, no, unscored = counts[True], counts[False], counts[None]
    n, offered = yes + no, yes + no + unscored
    lower, upper = wilson_interval(yes, n) if n else (None, None)
    return Rate(
        k=yes,
        n=n,
        unscored=unscored,
        rate=yes / n if n else None,
        lower=lower,
        upper=upper,
        lowest=yes / offered if offered else None,
        highest=(yes + unscored) / offered if offered else None,
    )


def wilson_interval(k: int, n: int) -> tuple[float, float]:
    """Wilson's score interval for k of n independent items (Wilson 1927, JASA 22:209).

    (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    middle, half = k + z * z / 2, z * sqrt(k * (n - k) / n + z * z / 4)
    lower, upper = (middle - half) / (n + z * z), (middle + half) / (n + z * z)
    return (0.0 if k == 0 else lower), (1.0 if k == n else upper)
