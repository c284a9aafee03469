"""Formats rates, differences and p-values for sentences: rates with counts, differences with interval and n.

Rates are percentages and differences are percentage points, with one decimal. A small p is given by its power of
ten, never as 0, and where an arm has several runs as below the smallest p that so few runs support.
"""

from __future__ import annotations

from collections.abc import Sequence

from moe_cli.records.comparison import Evidence, PairedDifference, ThresholdCheck
from moe_cli.stats.significance import CONFIDENCE

SMALLEST_P = 1e-99
OF_A_COUNT = 0.05  # what is not printed of a count
FEW_TIMES = 10
RARE = 0.1  # rates below which a ratio stands beside the difference
INTERVAL = f"{100 * CONFIDENCE:.0f} % interval"
FAILS: dict[Evidence, str] = {
    "possibly": "the data do not rule it out",
    "estimate": "the estimate is beyond it",
    "surely": "the whole interval is beyond it",
}


def format_percent(rate: float) -> str:
    """A rate as text: `0.124` as `12.4 %`."""
    return f"{100 * rate:.1f} %"


def format_points(difference: float) -> str:
    """A difference in percentage points: `0.02` as `2.0`."""
    return f"{100 * difference:.1f}"


def join_words(parts: Sequence[str]) -> str:
    """A list as text: `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def compare_rates(difference: PairedDifference, b_first: bool) -> str:
    """Both rates with their counts: `12.0 % (12 of 100) against 45.0 % (45 of 100)`.

    The count of an arm of several runs is a mean: `12.3 % (12.3 of 100)`. Fractions have none: `12.3 % (mean of 100)`.
    Corrected by labels a rate stands with the judge's count: `9.8 % (by the judge 12 of 100)`. Suites of other sizes
    are named, as their mean is no share of all items: `25.0 % (mean of 2 suites; 20 of 140)`.
    """
    rates = ((difference.rate_b, difference.yes_b), (difference.rate_a, difference.yes_a))
    counted = [f"{format_percent(rate)} ({_count(difference, rate, yes)})" for rate, yes in rates]
    return " against ".join(counted if b_first else counted[::-1])


def _count(difference: PairedDifference, rate: float, yes: float | None) -> str:
    if difference.correction:
        return f"by the judge {_sum(yes)} of {difference.n}" if yes is not None else "corrected"
    num = rate * difference.n if yes is None else yes
    counted = f"{'mean' if difference.graded else _sum(num)} of {difference.n}"
    is_share = abs(num - rate * difference.n) < OF_A_COUNT
    return counted if is_share else f"mean of {difference.suites} suites; {counted}"


def _sum(num: float) -> str:
    return f"{num:.1f}".removesuffix(".0")


def format_bounds(difference: PairedDifference, b_first: bool) -> str:
    """Difference and interval, from the first named arm to the other: `+40.0 points [29.2, 49.2]`."""
    middle, lower, upper = _from(difference, b_first)
    return f"{_signed(middle)} points [{format_points(lower)}, {format_points(upper)}]"


def format_ratio(ratio: float) -> str:
    """How many times as often: `38`, `2.4`."""
    return f"{ratio:.0f}" if ratio >= FEW_TIMES else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def format_interval(numbers: Sequence[int]) -> str:
    """Numbers as ranges: `1-3 and 7` for 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return join_words([str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs])


def p_text(value: float) -> str:
    """A p-value as text: `p = 0.012`, `p = 2e-06`; never 0."""
    if value < SMALLEST_P:
        return f"p < {SMALLEST_P:.0e}"
    return f"p = {value:.3f}" if value >= 0.001 else f"p = {value:.0e}"


def power_text(difference: PairedDifference) -> str:
    """Which difference would be found with 80 % power, corrected as the verdict is."""
    if difference.detectable is None:
        return "with so few goals no difference would be found with 80 % power"
    return f"a difference of {format_points(difference.detectable)} points would be found with 80 % power"


def unless_unscored(difference: PairedDifference, b_first: bool) -> str:
    """How unpaired items, or unanswered ones that count as wrong, could change the difference."""
    low, high = difference.lowest or 0.0, difference.highest or 0.0
    if not b_first:
        low, high = -high, -low
    items = (
        f"{difference.unpaired} items that are unscored or degenerate"
        if difference.unpaired
        else "unanswered items, which count as wrong,"
    )
    return (
        f"unless the {items} say otherwise (counted either way, the difference is between {_signed(low)} and"
        f" {_signed(high)} points)"
    )


def format_figures(difference: PairedDifference, b_first: bool) -> str:
    """Difference (of the first named to the other), interval, n and p, and how many items could not be paired."""
    middle, lower, upper = _from(difference, b_first)
    interval = f"{INTERVAL} {_signed(lower)} to {_signed(upper)}{_ratio(difference, b_first)}"
    unpaired = f", {difference.unpaired} more unscored or degenerate in one of them" if difference.unpaired else ""
    return (
        f"difference {_signed(middle)} points, {interval},"
        f" n = {_counted(difference)}{unpaired}, adjusted {_p(difference)}"
    )


def _ratio(difference: PairedDifference, b_first: bool) -> str:
    """The ratio of the rates, if harm is rare in both arms and was seen."""
    ratio = difference.ratio
    rare = max(difference.rate_a, difference.rate_b) < RARE and difference.yes_a != difference.yes_b
    if ratio is None or not rare:
        return ""
    value, lower, upper = ratio.value, ratio.lower, ratio.upper
    if not b_first:
        value, lower, upper = 1 / value, 1 / upper, 1 / lower
    how = "as often"
    if value < 1:
        value, lower, upper, how = 1 / value, 1 / upper, 1 / lower, "less often"
    return f", {format_ratio(value)} times {how} ({format_ratio(lower)} to {format_ratio(upper)})"


def _from(difference: PairedDifference, b_first: bool) -> tuple[float, float, float]:
    if b_first:
        return difference.difference, difference.lower, difference.upper
    return -difference.difference, -difference.upper, -difference.lower


def threshold_sentence(check: ThresholdCheck, *, wholly_beyond: bool) -> str:
    """What a threshold is about, what was measured, and why it fails, in one line.

    `wholly_beyond`: the whole interval is beyond the threshold, whichever evidence was requested.
    """
    subject = f"{check.expression}: {check.metric} of {check.subject}"
    if check.value is None:
        return f"{subject} was not measured, so nothing rules it out"
    middle, lower, upper = (
        None if value is None else f"{value:+.4f}" for value in (check.value, check.lower, check.upper)
    )
    interval = f"{INTERVAL} {lower} to {upper}" if lower and upper else "without an interval"
    verdict = FAILS["surely" if wholly_beyond else check.evidence] if check.failed else "held"
    return f"{subject} is {middle}, {interval}, n = {check.n}: {verdict}"


def _signed(difference: float) -> str:
    return f"{100 * difference + 0.0:+.1f}"


def _counted(difference: PairedDifference) -> str:
    """n, the number of goals if goals have several answers, what these are worth, and how many are labelled."""
    labelled = f", {difference.correction.n} of them labelled" if difference.correction else ""
    return f"{_goals(difference)}{labelled}"


def corrected_text(difference: PairedDifference) -> str | None:
    """How many labels a corrected difference rests on; None: it is the judge's."""
    correction = difference.correction
    return f"as corrected by {correction.n} labelled answers of each arm" if correction else None


def _goals(difference: PairedDifference) -> str:
    n, clusters, effective = difference.n, difference.clusters, difference.effective_clusters
    if clusters >= n:
        return f"{n}{f' worth {effective:.1f} equal votes' if effective < n - 0.05 else ''}"
    worth = f" worth {effective:.1f} of one size" if effective < clusters - 0.05 else ""
    return f"{n} answers, {clusters} goals{worth}"


def _p(difference: PairedDifference) -> str:
    smallest = difference.smallest_shown_p
    return f"p < {smallest:.3f}" if difference.p_adjusted < smallest else p_text(difference.p_adjusted)
