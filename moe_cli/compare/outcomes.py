"""The yes/no outcomes of two runs on the same items, metric by metric.

Comes in: the evaluation records of two runs. Goes out: paired outcomes for every metric that has items. Always holds:
items are joined by id and in order of id; different items are refused; an outcome that a run could not score is None;
an unanswered question is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from moe_cli.errors import ArtifactError
from moe_cli.records.evaluation import EvaluationRecord

ATTACK_SUCCESS = "attack success"
OVER_REFUSAL = "over-refusal"
ACCURACY = "accuracy"
DEGENERATE = "degenerate answers"
PRIMARY = (ATTACK_SUCCESS, OVER_REFUSAL, ACCURACY)

Pair = tuple[EvaluationRecord, EvaluationRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcomes:
    """One metric of two runs: a yes or no for every item, N items in order of id."""

    metric: str  # "attack success: attacked"
    better: Literal["lower", "higher"]
    primary: bool  # in the Holm family
    clusters: tuple[str, ...]  # N
    a: tuple[bool | None, ...]  # N; None: unscored
    b: tuple[bool | None, ...]  # N


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    better: Literal["lower", "higher"]
    applies: Callable[[EvaluationRecord], bool]
    outcome: Callable[[EvaluationRecord], bool | None]
    per_suite: bool


_METRICS = (
    _Metric(ATTACK_SUCCESS, "lower", lambda r: r.item.kind == "harmful", lambda r: r.attack_succeeded, True),
    _Metric(OVER_REFUSAL, "lower", lambda r: r.item.kind == "benign", lambda r: r.refused, True),
    _Metric(ACCURACY, "higher", lambda r: r.item.expected is not None, lambda r: r.is_right, True),
    _Metric(DEGENERATE, "lower", lambda r: True, lambda r: r.is_degenerate, False),
)


def paired_outcomes(
    records_a: Sequence[EvaluationRecord], records_b: Sequence[EvaluationRecord], *, names: tuple[str, str] = ("a", "b")
) -> tuple[PairedOutcomes, ...]:
    """Every metric over all its items, and per suite where it has more than one.

    Raises:
        ArtifactError: the items of the two runs are not the same.
    """
    pairs = _pairs(_by_id(records_a, names[0]), _by_id(records_b, names[1]), names)
    return tuple(outcomes for metric in _METRICS for outcomes in _outcomes_of(metric, pairs))


def _by_id(records: Sequence[EvaluationRecord], name: str) -> dict[str, EvaluationRecord]:
    by_id = {record.item.id: record for record in records}
    if len(by_id) < len(records):
        raise ArtifactError(
            f"{name} has {len(records)} answers to only {len(by_id)} different items",
            hint="evaluate it again: every item must have an id of its own",
        )
    return by_id


def _pairs(a: dict[str, EvaluationRecord], b: dict[str, EvaluationRecord], names: tuple[str, str]) -> list[Pair]:
    changed = [id for id in a.keys() & b.keys() if a[id].item != b[id].item]
    if a.keys() != b.keys() or changed:
        only_a, only_b = len(a.keys() - b.keys()), len(b.keys() - a.keys())
        raise ArtifactError(
            f"{names[0]} and {names[1]} were not evaluated on the same items: {only_a} are only in {names[0]}, {only_b}"
            f" only in {names[1]}, and {len(changed)} of the {len(a.keys() & b.keys())} common ids hold another item",
            hint="evaluate both on the same items with moe evaluate",
        )
    return [(a[id], b[id]) for id in sorted(a)]


def _outcomes_of(metric: _Metric, pairs: Sequence[Pair]) -> Iterator[PairedOutcomes]:
    applicable = [pair for pair in pairs if metric.applies(pair[0])]
    if applicable:
        yield _outcomes(metric, metric.name, applicable)
    suites = sorted({pair[0].item.suite for pair in applicable})
    if metric.per_suite and len(suites) > 1:
        for suite in suites:
            of_suite = [pair for pair in applicable if pair[0].item.suite == suite]
            yield _outcomes(metric, f"{metric.name}: {suite}", of_suite)


def _outcomes(metric: _Metric, name: str, pairs: Sequence[Pair]) -> PairedOutcomes:
    return PairedOutcomes(
        metric=name,
        better=metric.better,
        primary=name in PRIMARY,
        clusters=tuple(a.item.cluster for a, _ in pairs),
        a=tuple(metric.outcome(a) for a, _ in pairs),
        b=tuple(metric.outcome(b) for _, b in pairs),
    )
