"""The rates of an evaluation, per suite and over all suites.

A degenerate answer is unscored for harm and refusal and counted as degenerate. An unanswered item is wrong, never left
out of the accuracy. A rate of a kind of items that is absent is None, and no items at all is an error. The order of the
records does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from moe_cli.errors import UnscoredError, UsageError
from moe_cli.records.evaluation import EvaluationRecord, SuiteSummary
from moe_cli.records.inputs import KINDS, Kind
from moe_cli.records.judging import too_many_unscored
from moe_cli.records.record import Rate
from moe_cli.stats.metrics import ACCURACY, DEGENERATE, METRIC_NAMED, OVER_REFUSAL, harm_metric
from moe_cli.stats.proportions import rate_of

Outcome = tuple[EvaluationRecord, bool | None]


def metric_rate(name: str, records: Iterable[EvaluationRecord]) -> Rate | None:
    """The rate of a metric over the answers that it applies to; None if there are none."""
    metric = METRIC_NAMED[name]
    outcomes = [(record, metric.outcome(record)) for record in records if metric.applies(record)]
    return _rate_of_all(outcomes) if outcomes else None


def degenerate_share(records: Iterable[EvaluationRecord]) -> Rate:
    """Empty answers, symbol noise and loops among all answers with a verdict."""
    return _rate_of_all((record, METRIC_NAMED[DEGENERATE].outcome(record)) for record in records)


def summarise_suites(records: Sequence[EvaluationRecord]) -> tuple[SuiteSummary, ...]:
    """One summary for each suite: harmful suites first, then by name.

    Raises:
        UsageError: there is no record, an id comes twice, or a suite holds harmful and benign items.
    """
    _refuse_unusable(records)
    suites: dict[str, list[EvaluationRecord]] = defaultdict(list)
    for record in records:
        suites[record.item.suite].append(record)
    summaries = [_suite_summary(suite, suites[suite]) for suite in sorted(suites)]
    return tuple(sorted(summaries, key=lambda summary: KINDS.index(summary.kind)))


def refuse_unscored(records: Sequence[EvaluationRecord], maximum: float, written: Path | None = None) -> None:
    """Refuse results with too many answers of a kind without a verdict; degenerate counts as a verdict.

    Raises:
        UnscoredError: more than the share `maximum` of the harmful, or of the benign items is unscored.
    """
    for kind, (num_unscored, num_answers) in unscored_counts(records).items():
        if too_many_unscored(num_unscored, num_answers, maximum):
            unscored = [record for record in records if record.is_unscored and record.item.kind == kind]
            first = min(unscored, key=lambda record: record.item.id)
            raise UnscoredError(
                f"{num_unscored} of {num_answers} answers to {kind} items have no verdict, more than the"
                f" {maximum:.1%} allowed (first: {first.item.id}: {first.verdict.reason})"
                + (f"; everything is written to {written}" if written else ""),
                hint="judge again with another judge, or allow a larger share of answers without a verdict",
            )


def unscored_counts(records: Sequence[EvaluationRecord]) -> dict[str, tuple[int, int]]:
    """Answers without a verdict, and all answers, of every kind that occurs."""
    of_kind = {kind: [record for record in records if record.item.kind == kind] for kind in KINDS}
    return {
        kind: (sum(record.is_unscored for record in of_one_kind), len(of_one_kind))
        for kind, of_one_kind in of_kind.items()
        if of_one_kind
    }


def _rate_of_all(outcomes: Iterable[Outcome]) -> Rate:
    """Rate with clusters: forms of one goal, and several answers to one item, share a cluster."""
    return rate_of([(record.item.cluster, outcome) for record, outcome in outcomes])


def _refuse_unusable(records: Sequence[EvaluationRecord]) -> None:
    if not records:
        raise UsageError("there is no answer to summarise: the suites are empty", hint="give at least one item")
    num_ids = len({record.item.id for record in records})
    if num_ids < len(records):
        raise UsageError(
            f"{len(records)} answers have only {num_ids} different item ids", hint="give every item an id of its own"
        )


def _suite_summary(suite: str, records: Sequence[EvaluationRecord]) -> SuiteSummary:
    lengths = [record.num_answer_tokens for record in records if record.num_answer_tokens is not None]
    return SuiteSummary(
        suite=suite,
        kind=_kind(suite, records),
        n=len(records),
        attack_success=metric_rate(harm_metric(suite), records),
        over_refusal=metric_rate(OVER_REFUSAL, records),
        full_refusal=_rate_of_all((record, record.refused) for record in records),
        partial_refusal=_rate_of_all((record, record.partly_refused) for record in records),
        accuracy=metric_rate(ACCURACY, records),
        degenerate=degenerate_share(records),
        cut_off=_rate_of_all((record, record.cut_off) for record in records),
        mean_answer_tokens=sum(lengths) / len(lengths) if len(lengths) == len(records) else None,
    )


def _kind(suite: str, records: Sequence[EvaluationRecord]) -> Kind:
    kinds = {record.item.kind for record in records}
    for kind in KINDS:
        if kinds == {kind}:
            return kind
    raise UsageError(
        f"suite {suite!r} holds items of kind {' and '.join(sorted(kinds))}",
        hint="a suite with answers is either harmful or benign; split it in two",
    )
