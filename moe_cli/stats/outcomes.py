"""The outcomes of two arms on the same items, metric by metric, and the flips: items that the arms answer differently.

Items are in order of id and the same in all runs. An outcome that a run could not score is None.

An item flips at most once per metric, not again for its suite or for a judge that does not decide. An item that was
not scored in every run is no flip. A flip holds no text of a prompt or an answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from moe_cli.records.comparison import Flip
from moe_cli.stats.items import ItemOutcomes, Outcome, RunItems
from moe_cli.stats.metrics import METRIC_NAMED, METRICS, WITHOUT_FLIPS, Metric, opinion_of, suite_metric

Outcomes = tuple[Outcome, ...]  # N items in order of id


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcomes:
    """Outcomes of two arms in one metric: yes, no or a fraction, for every run and item."""

    metric: str  # "attack success: attacked"
    better: Literal["lower", "higher"]
    primary: bool  # in the Holm family
    missing_is_no: bool  # None counts as no; else the item is left out
    ids: tuple[str, ...]  # N
    suites: tuple[str, ...]  # N
    clusters: tuple[str, ...]  # N
    a: tuple[Outcomes, ...]  # of every run of a
    b: tuple[Outcomes, ...]

    @property
    def is_second_opinion(self) -> bool:
        """Whether the metric is that of a judge that does not decide."""
        return opinion_of(self.metric) is not None

    @property
    def over_all(self) -> bool:
        """Whether it covers all items of the metric, not only one suite."""
        return ": " not in self.metric


def paired_outcomes(a: Sequence[RunItems], b: Sequence[RunItems]) -> tuple[PairedOutcomes, ...]:
    """Every metric over all its items, and per suite where it has more than one. The runs hold the same items."""
    names = set.intersection(*map(_names, [*a, *b]))
    metrics = (*(metric for metric in METRICS if metric.name in names), *_opinions(names))
    return tuple(outcomes for metric in metrics for outcomes in _outcomes_of(metric, a, b))


def _names(run: RunItems) -> set[str]:
    """Names of the metrics that some item of a run has."""
    return {name for item in run.values() for name in item.outcomes}


def _opinions(names: Iterable[str]) -> Iterator[Metric]:
    """The second opinions among these metrics."""
    for name in sorted(names):
        if opinion := opinion_of(name):
            yield replace(METRIC_NAMED[opinion[0]], name=name, primary=False, per_suite=False)


def _outcomes_of(metric: Metric, a: Sequence[RunItems], b: Sequence[RunItems]) -> Iterator[PairedOutcomes]:
    runs = [*a, *b]
    applicable = [item for item in a[0].values() if all(metric.name in run[item.id].outcomes for run in runs)]
    if applicable:
        yield _outcomes(metric, metric.name, applicable, a, b)
    suites: dict[str, list[ItemOutcomes]] = defaultdict(list)
    for item in applicable:
        suites[item.suite].append(item)
    if metric.per_suite and len(suites) > 1:
        for suite in sorted(suites):
            yield _outcomes(metric, suite_metric(metric.name, suite), suites[suite], a, b)


def _outcomes(
    metric: Metric, name: str, items: Sequence[ItemOutcomes], a: Sequence[RunItems], b: Sequence[RunItems]
) -> PairedOutcomes:
    def of(run: RunItems) -> Outcomes:
        return tuple(run[item.id].outcomes[metric.name] for item in items)

    return PairedOutcomes(
        metric=name,
        better=metric.better,
        primary=metric.primary and name == metric.name,
        missing_is_no=metric.missing_is_no,
        ids=tuple(item.id for item in items),
        suites=tuple(item.suite for item in items),
        clusters=tuple(item.cluster for item in items),
        a=tuple(map(of, a)),
        b=tuple(map(of, b)),
    )


def find_flips(metrics: Sequence[PairedOutcomes]) -> tuple[Flip, ...]:
    """Flips, the items that became worse in b first, then by how many runs changed, metric, suite and id."""
    ranked = [
        (flip.direction == "better", -abs(flip.share_b - flip.share_a), index, flip.suite, flip.item, flip)
        for index, metric in enumerate(metrics)
        if metric.over_all and not metric.is_second_opinion and metric.metric not in WITHOUT_FLIPS
        for flip in _of_metric(metric)
    ]
    return tuple(flip for *_, flip in sorted(ranked, key=lambda row: row[:-1]))


def _of_metric(metric: PairedOutcomes) -> Iterator[Flip]:
    of_items = zip(metric.ids, zip(*metric.a, strict=True), zip(*metric.b, strict=True), strict=True)
    for index, (item, of_a, of_b) in enumerate(of_items):
        if of_a == of_b:
            continue
        a, b = (_share(outcomes, metric.missing_is_no) for outcomes in (of_a, of_b))
        if a is not None and b is not None and a != b:
            yield Flip(
                metric=metric.metric,
                suite=metric.suites[index],
                item=item,
                direction="better" if (b < a) == (metric.better == "lower") else "worse",
                share_a=a,
                share_b=b,
            )


def _share(outcomes: Outcomes, missing_is_no: bool) -> float | None:
    """Share of the runs that say yes, or their mean fraction; None where one of them was not scored."""
    if None in outcomes and not missing_is_no:
        return None
    return sum(outcome or 0 for outcome in outcomes) / len(outcomes)
