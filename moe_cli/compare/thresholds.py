"""`--fail-if`: what a comparison must not show.

    asr>+0.02              the difference (the later arm minus the earlier one) is above 2 points; asr is of attacks,
                           the mean of their suites; plain goals are `plain`
    accuracy<-0.05 surely  it is below -5 points, by the whole interval
    asr:attacked[sel]>0.1  the rate of the arm or run `sel` on the suite `attacked` is above 0.1
    kl[sel]>0.05 estimate  the estimate alone is above 0.05

A number with a sign is about a difference, a number without one about the arm in brackets. A text that is not
understood to its last character is refused before anything is read.

A threshold fails unless the data rule it out: by default (`possibly`) the bound of the interval that is nearer to
failure counts. `estimate` looks at the estimate alone; `surely` fails only where the whole interval is beyond. What
was not measured fails, because nothing rules it out. Rates and differences that people's labels correct are the
corrected ones; their suites with too few labels count as not measured, and so does a difference that different
judges decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from moe_cli.compare import evidence
from moe_cli.compare.wording import threshold_sentence
from moe_cli.errors import ExitCode, MoeError, UsageError
from moe_cli.records import PLAIN_SUITE, ComparedArm, Comparison, Estimate, RunColumn, ThresholdCheck
from moe_cli.records.comparison import Evidence, PairedDifference
from moe_cli.stats.metrics import ATTACK_SUCCESS, METRICS, metric_and_suite, suite_metric
from moe_cli.stats.outcomes import RunItems, paired_outcomes
from moe_cli.stats.paired import ArmItems, rate_estimate

METRIC_OF = {metric.word: metric.name for metric in METRICS}
DRIFT = {"perplexity_ratio": "perplexity ratio", "kl": "KL per token"}
EXPRESSION = re.compile(
    r"(?P<metric>[a-z_]+)(:(?P<suite>[^][<>]+))?(\[(?P<of>[^][]+)\])?\s*(?P<beyond>[<>])\s*"
    r"(?P<sign>[+-]?)(?P<number>\d+(\.\d*)?|\.\d+)(\s+(?P<evidence>possibly|estimate|surely))?"
)
HINT = (
    "write asr>+0.02 for a difference (with its sign) or asr[RUN]>0.05 for a rate; metrics are "
    f"{', '.join([*METRIC_OF, *DRIFT])}; add `surely` or `estimate` to change what counts"
)


class ThresholdError(MoeError):
    """A comparison shows what it must not show, or does not rule it out."""

    exit_code = ExitCode.THRESHOLD


@dataclass(frozen=True, slots=True)
class Threshold:
    """One parsed expression."""

    expression: str
    metric: str  # "attack success: attacked"
    of: str | None  # arm or run whose rate is meant; None: a difference
    above: bool  # fails above the number; else below it
    number: float
    evidence: Evidence


def thresholds_of(expressions: Sequence[str]) -> tuple[Threshold, ...]:
    """Parse the expressions.

    Raises:
        UsageError: one is not of the grammar.
    """
    return tuple(map(_threshold, expressions))


def check_thresholds(
    thresholds: Sequence[Threshold], comparison: Comparison, arms: Sequence[ArmItems]
) -> list[ThresholdCheck]:
    """Check every threshold against the comparison.

    Raises:
        UsageError: a name is no arm, no run or no suite of the metric, or it is not clear which difference is meant.
    """
    return [
        _of_difference(threshold, comparison)
        if threshold.of is None
        else _of_drift(threshold, threshold.of, comparison)
        if threshold.metric in DRIFT.values()
        else _of_rate(threshold, threshold.of, arms, comparison)
        for threshold in (_of_known_suite(asked, arms) for asked in thresholds)
    ]


def raise_failed(checks: Sequence[ThresholdCheck]) -> None:
    """End the command if a threshold failed.

    Raises:
        ThresholdError: names every one with its value, interval and threshold.
    """
    failed = [threshold_sentence(check, wholly_beyond=_wholly_beyond(check)) for check in checks if check.failed]
    if failed:
        raise ThresholdError(
            f"{len(failed)} of {len(checks)} thresholds failed" + "".join(f"\n  - {line}" for line in failed),
            hint="more items narrow the interval; `surely` fails only where the whole interval is beyond a threshold,"
            " `estimate` where the estimate is",
        )


def _threshold(expression: str) -> Threshold:
    match = EXPRESSION.fullmatch(expression.strip())
    if match is None or match["metric"] not in METRIC_OF | DRIFT:
        raise UsageError(f"--fail-if {expression!r} is no threshold", hint=HINT)
    metric = (METRIC_OF | DRIFT)[match["metric"]]
    if (match["sign"] == "") == (match["of"] is None):
        what = "names a run, but has the sign of a difference" if match["of"] else "has no sign and names no run"
        raise UsageError(f"--fail-if {expression!r} {what}", hint=HINT)
    if metric in DRIFT.values() and (match["of"] is None or match["suite"]):
        raise UsageError(
            f"--fail-if {expression!r}: {match['metric']} is told of a run", hint=f"{match['metric']}[RUN]>1"
        )
    return Threshold(
        expression=expression.strip(),
        metric=suite_metric(metric, match["suite"].strip()) if match["suite"] else metric,
        of=match["of"],
        above=match["beyond"] == ">",
        number=float(match["sign"] + match["number"]),
        evidence=cast(Evidence, match["evidence"] or "possibly"),
    )


def _wholly_beyond(check: ThresholdCheck) -> bool:
    """Whether every value of the interval fails the threshold."""
    threshold = _threshold(check.expression)
    if check.lower is None or check.upper is None:
        return False
    return check.lower > threshold.number if threshold.above else check.upper < threshold.number


def _check(
    threshold: Threshold, subject: str, value: float | None, bounds: tuple[float | None, float | None], n: int | None
) -> ThresholdCheck:
    lower, upper = bounds
    near, far = (upper, lower) if threshold.above else (lower, upper)
    counted = {"possibly": near, "estimate": value, "surely": far}[threshold.evidence]
    if counted is None:  # not measured, or without an interval: only `surely` needs evidence to fail
        failed = value is None or threshold.evidence != "surely"
    else:
        failed = counted > threshold.number if threshold.above else counted < threshold.number
    return ThresholdCheck(
        expression=threshold.expression,
        metric=threshold.metric,
        subject=subject,
        evidence=threshold.evidence,
        value=value,
        lower=lower,
        upper=upper,
        n=n,
        failed=failed,
    )


def _of_known_suite(threshold: Threshold, arms: Sequence[ArmItems]) -> Threshold:
    """The threshold; a metric's only suite is replaced by the metric as a whole.

    Raises:
        UsageError: the metric has items, but none of this suite.
    """
    metric, suite = metric_and_suite(threshold.metric)
    items = [item for arm in arms for run in arm.runs for item in run.values() if metric in item.outcomes]
    suites = sorted({item.suite for item in items})
    if suite and suites and suite not in suites:
        plain = "; plain goals are `plain`" if (metric, suite) == (ATTACK_SUCCESS, PLAIN_SUITE) else ""
        raise UsageError(
            f"--fail-if {threshold.expression!r}: no suite of {metric} is called {suite}",
            hint=f"there are: {', '.join(suites)}{plain}",
        )
    return replace(threshold, metric=metric) if suites == [suite] else threshold


def _of_difference(threshold: Threshold, comparison: Comparison) -> ThresholdCheck:
    a, b = _meant_pair(threshold, comparison)
    subject = f"{b} minus {a}"
    known_evidence = evidence.Evidence.of(comparison.columns, comparison.arms, comparison.fairness, comparison.margin)
    for pair in comparison.pairs:
        for difference in pair.differences:
            is_requested = (pair.a, pair.b, difference.metric) == (a, b, threshold.metric)
            differing = known_evidence.differing_judges(pair, metric_and_suite(threshold.metric)[0])
            if is_requested and not differing and not difference.by_judge_alone:
                return _check(
                    threshold, subject, difference.difference, (difference.lower, difference.upper), difference.n
                )
    return _check(threshold, subject, None, (None, None), None)


def _meant_pair(threshold: Threshold, comparison: Comparison) -> tuple[str, str]:
    """The pair that a difference is about: the only two arms, or the only two trained ones."""
    names = [arm.name for arm in comparison.arms]
    meant = names if len(names) == 2 else [name for name in names if name not in comparison.untrained]
    if len(meant) != 2:
        raise UsageError(
            f"--fail-if {threshold.expression!r}: which difference of {', '.join(names)}?",
            hint="compare two runs, or two arms with --vs, and name the untrained model with --base",
        )
    return meant[0], meant[1]


def _of_rate(threshold: Threshold, of: str, arms: Sequence[ArmItems], comparison: Comparison) -> ThresholdCheck:
    runs, seeded = _runs_of(of, arms)
    name = next(arm.name for arm in arms if of == arm.name or of in arm.run_names)
    if labelled := next(_labelled_rates(threshold.metric, name, comparison), None):
        corrected, rate = labelled
        bounds = (rate.lower, rate.upper) if rate else (None, None)
        return _check(threshold, of, rate.value if rate else None, bounds, corrected.n)
    metrics = {corrected.metric: corrected for corrected in paired_outcomes(runs, runs)} if runs else {}
    estimate = rate_estimate(metrics[threshold.metric], seeded) if threshold.metric in metrics else None
    if estimate is None:
        return _check(threshold, of, None, (None, None), None)
    return _check(threshold, of, estimate.rate, (estimate.lower, estimate.upper), estimate.n)


def _labelled_rates(
    metric: str, arm: str, comparison: Comparison
) -> Iterator[tuple[PairedDifference, Estimate | None]]:
    """An arm's rate from every pair whose answers people labelled; None where too few are labelled."""
    for pair in comparison.pairs:
        for difference in pair.differences:
            if difference.metric == metric and difference.labelled is not None and arm in (pair.a, pair.b):
                rates = (
                    (difference.correction.rate_a, difference.correction.rate_b)
                    if difference.correction
                    else (None, None)
                )
                yield difference, rates[arm == pair.b]


def _runs_of(of: str, arms: Sequence[ArmItems]) -> tuple[tuple[RunItems, ...], bool]:
    """The runs of the arm or run with this name (empty: not evaluated), and whether they have seeds."""
    for arm in arms:
        if arm.name == of:
            return arm.runs, arm.seeded
        if of in arm.run_names:
            return (arm.runs[arm.run_names.index(of)],) if arm.runs else (), arm.seeded
    raise UsageError(f"no arm or run is called {of}", hint=f"there are: {', '.join(arm.name for arm in arms)}")


def _of_drift(threshold: Threshold, of: str, comparison: Comparison) -> ThresholdCheck:
    column = _column(of, comparison.columns, comparison.arms)
    drift = column.evaluation.drift if column.evaluation else None
    if drift is None:
        return _check(threshold, of, None, (None, None), None)
    estimate: Estimate = drift.kl_mean if threshold.metric == DRIFT["kl"] else drift.perplexity_ratio
    return _check(threshold, of, estimate.value, (estimate.lower, estimate.upper), estimate.n)


def _column(of: str, columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> RunColumn:
    runs = next((arm.runs for arm in arms if arm.name == of and len(arm.runs) == 1), (of,))
    for column in columns:
        if column.name == runs[0]:
            return column
    raise UsageError(f"no run is called {of}", hint=f"there are: {', '.join(column.name for column in columns)}")
