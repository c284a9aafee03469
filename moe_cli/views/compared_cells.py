"""The cells of a comparison of arms: what one arm, a single run or several, shows of a value, a rate or a drift.

An arm of several runs shows the mean with the smallest and the largest value, and for a rate the count of every run.
A value that is not known for every run is `-`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_cli.records import Estimate, EvaluationSummary, ImportedOutcomes, Rate, RunColumn
from moe_cli.stats.metrics import ACCURACY, mean_over_runs
from moe_cli.views.text import FIXED, NOTHING, estimate_text, percent_text, rate_text

Runs = Sequence[RunColumn]
Rows = tuple[tuple[str, Callable[[Runs], str]], ...]


def spread_text(values: Sequence[float | None], text: Callable[[float], str]) -> str:
    """The value of one run, or the mean of several with its range where they differ; `-` if one is not known."""
    mean = mean_over_runs(values)
    if mean is None:
        return NOTHING
    known = [value for value in values if value is not None]
    low, high = text(min(known)), text(max(known))
    return text(mean) if low == high else f"{text(mean)} ({low} to {high})"


def alike_text(texts: Sequence[str]) -> str:
    """The value that all runs of an arm share, or the value of each."""
    return " / ".join(dict.fromkeys(texts)) if texts else NOTHING


def of_each(text: Callable[[RunColumn], str]) -> Callable[[Runs], str]:
    """The value of every run of an arm."""
    return lambda runs: alike_text([text(column) for column in runs])


def of_all(value: Callable[[RunColumn], float | None], text: Callable[[float], str]) -> Callable[[Runs], str]:
    """The mean over the runs of an arm."""
    return lambda runs: spread_text([value(column) for column in runs], text)


def rate_cell(found: Callable[[EvaluationSummary], Rate | None], metric: str) -> Callable[[Runs], str]:
    """A rate of every run of an arm."""

    def text(runs: Runs) -> str:
        if len(runs) == 1:
            imported = runs[0].imported
            if imported is not None:
                return _imported_text(imported) if imported.metric == metric else NOTHING
            return rate_text(found(runs[0].evaluation)) if runs[0].evaluation else NOTHING
        return _mean_rate([_counted(column, found, metric) for column in runs])

    return text


def _mean_rate(counts: Sequence[tuple[float, int] | None]) -> str:
    """`12.5 % (4/40, 6/40)`: the mean over the runs, and the count of each; `-` if one has no scored item."""
    mean = mean_over_runs([count[0] / count[1] if count and count[1] else None for count in counts])
    each = ", ".join(f"{_sum_text(count[0])}/{count[1]}" for count in counts if count)
    return NOTHING if mean is None else f"{percent_text(mean)} ({each})"


def _sum_text(total: float) -> str:
    """A count, or a sum of fractions with two decimals."""
    return f"{total}" if isinstance(total, int) else f"{total:.2f}"


def _counted(
    column: RunColumn, found: Callable[[EvaluationSummary], Rate | None], metric: str
) -> tuple[float, int] | None:
    """The yes (or the sum of fractions) and the scored items of one run; an unanswered question counts as wrong."""
    outcomes = column.imported
    if outcomes is not None:
        scored = outcomes.n if metric == ACCURACY else outcomes.n - outcomes.unanswered
        total = outcomes.lowest * outcomes.n
        return (total if outcomes.graded else round(total), scored) if outcomes.metric == metric else None
    rate = found(column.evaluation) if column.evaluation else None
    return (rate.k, rate.n) if rate else None


def _imported_text(found: ImportedOutcomes) -> str:
    unanswered = f", {found.unanswered} of them unanswered" if found.unanswered else ""
    counted = f"mean of {found.n} items" if found.graded else f"{found.n} items"
    return f"{NOTHING if found.rate is None else f'{100 * found.rate:.1f} %'} ({counted}{unanswered})"


def drift_cell(estimate_of: Callable[[EvaluationSummary], Estimate | None], form: str = FIXED) -> Callable[[Runs], str]:
    """An estimate of drift, of every run of an arm."""

    def text(runs: Runs) -> str:
        estimates = [estimate_of(column.evaluation) if column.evaluation else None for column in runs]
        if len(runs) == 1:
            return estimate_text(estimates[0], form)
        values = [estimate.value if estimate else None for estimate in estimates]
        return spread_text(values, lambda value: f"{value:{form}}")

    return text
