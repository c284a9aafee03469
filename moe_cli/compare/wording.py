"""Numbers as words of a sentence: every rate with its count, every difference with its interval and n.

Comes in: a paired difference, a threshold or a plain number. Goes out: text. Always holds: rates are percentages and
differences are percentage points, with one decimal; a small p is given by its power of ten, never as 0, and where an
arm has several runs as below 0.001: few runs support no smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence

from moe_cli.compare.intervals import CONFIDENCE
from moe_cli.records.comparison import Evidence, PairedDifference, ThresholdCheck

SMALLEST_P = 1e-99
SMALLEST_P_OF_RUNS = 1e-3
INTERVAL = f"{100 * CONFIDENCE:.0f} % interval"
FAILS: dict[Evidence, str] = {
    "possibly": "the data do not rule it out",
    "estimate": "the estimate is beyond it",
    "surely": "the whole interval is beyond it",
}


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
    """Both rates with their counts: `12.0 % (12 of 100) against 45.0 % (45 of 100)`.

    The count of an arm of several runs is a mean: `12.3 % (12.3 of 100)`.
    """
    counted = [
        f"{percent(rate)} ({f'{rate * difference.n:.1f}'.removesuffix('.0')} of {difference.n})"
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
        f"difference {_signed(middle)} points, {INTERVAL} {_signed(lower)} to {_signed(upper)},"
        f" n = {difference.n}{unpaired}, adjusted {_p(difference)}"
    )


def threshold_sentence(check: ThresholdCheck) -> str:
    """What a threshold is about, what was found, and why that fails it: one line."""
    asked = f"{check.expression}: {check.metric} of {check.subject}"
    if check.value is None:
        return f"{asked} was not measured, so nothing rules it out"
    middle, lower, upper = (
        None if value is None else f"{value:+.4f}" for value in (check.value, check.lower, check.upper)
    )
    interval = f"{INTERVAL} {lower} to {upper}" if lower and upper else "without an interval"
    verdict = f"{FAILS[check.evidence]}" if check.failed else "held"
    return f"{asked} is {middle}, {interval}, n = {check.n}: {verdict}"


def _signed(difference: float) -> str:
    return f"{100 * difference + 0.0:+.1f}"


def _p(difference: PairedDifference) -> str:
    value = difference.p_adjusted
    if difference.of_several_runs and value < SMALLEST_P_OF_RUNS:
        return f"p < {SMALLEST_P_OF_RUNS:.3f}"
    if value < SMALLEST_P:
        return f"p < {SMALLEST_P:.0e}"
    return f"p = {value:.3f}" if value >= 0.001 else f"p = {value:.0e}"
