"""Numbers as words of a sentence: every rate with its count, every difference with its interval and n.

Comes in: a paired difference or a plain number. Goes out: text. Always holds: rates are percentages and differences are
percentage points, with one decimal; a small p is given by its power of ten, never as 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from moe_cli.records.comparison import PairedDifference

SMALLEST_P = 1e-99


def percent(rate: float) -> str:
    """`0.124` as `12.4 %`."""
    return f"{100 * rate:.1f} %"


def points(difference: float) -> str:
    """`0.02` as `2.0`, in percentage points."""
    return f"{100 * difference:.1f}"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def against(difference: PairedDifference, b_first: bool) -> str:
    """Both rates with their counts: `12.0 % (12 of 100) against 45.0 % (45 of 100)`."""
    counted = [
        f"{percent(rate)} ({round(rate * difference.n)} of {difference.n})"
        for rate in (difference.rate_b, difference.rate_a)
    ]
    return " against ".join(counted if b_first else counted[::-1])


def figures(difference: PairedDifference, b_first: bool) -> str:
    """Difference (of the first named to the other), interval, n and p, and how many items could not be paired."""
    middle, lower, upper = difference.difference, difference.lower, difference.upper
    if not b_first:
        middle, lower, upper = -middle, -upper, -lower
    unpaired = f", {difference.unpaired} more unscored or degenerate in one of them" if difference.unpaired else ""
    return (
        f"difference {_signed(middle)} points, 95 % interval {_signed(lower)} to {_signed(upper)},"
        f" n = {difference.n}{unpaired}, adjusted {_p(difference.p_adjusted)}"
    )


def _signed(difference: float) -> str:
    return f"{100 * difference + 0.0:+.1f}"


def _p(value: float) -> str:
    if value < SMALLEST_P:
        return f"p < {SMALLEST_P:.0e}"
    return f"p = {value:.3f}" if value >= 0.001 else f"p = {value:.0e}"
