"""Times to figures. Pure; imports no torch.

Comes in: the seconds of rows, one per repeat. Goes out: spreads and ratios. Always holds: two rows are divided repeat
by repeat, so that a machine that is slow for a while is slow for both; the order of repeats is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

from moe_cli.records import Spread

FLOORS = ("floor_library", "floor_moe")


def spread_of(values: Sequence[float]) -> Spread | None:
    """Median, quartiles (inclusive method) and extremes; None of nothing."""
    if not values:
        return None
    lower, _, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Spread(median=median(values), lower=lower, upper=upper, least=min(values), most=max(values), n=len(values))


def ratio_of(seconds: Sequence[float], reference: Sequence[float] | None) -> Spread | None:
    """`seconds` divided by `reference`, repeat by repeat; None where either has no figures."""
    if not seconds or not reference:
        return None
    return spread_of([one / other for one, other in zip(seconds, reference, strict=True)])


def faster_floor(seconds: Mapping[str, Sequence[float]]) -> str | None:
    """The floor with the smaller median."""
    measured = [name for name in FLOORS if seconds.get(name)]
    return min(measured, key=lambda name: median(seconds[name])) if measured else None
