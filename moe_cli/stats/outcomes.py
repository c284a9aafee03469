"""Outcomes by item: of one run, and of two arms on the same items with their flips, items answered differently.

Items are matched by id, are in order of id and the same in all runs: different items are refused, or left out and
counted if that was requested. An outcome that a run could not score is None.

An item flips at most once per metric, not again for its suite or for a judge that does not decide. An item that was
not scored in every run is no flip. A flip holds no text of a prompt or an answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Literal

from moe_cli.errors import ArtifactError
from moe_cli.records.comparison import Flip
from moe_cli.records.evaluation import EvaluationRecord
from moe_cli.stats.metrics import METRIC_NAMED, METRICS, WITHOUT_FLIPS, Metric, mean_over_runs, opinion_of, suite_metric

Outcome = bool | float | None  # yes or no; a fraction from 0 to 1; None: not scored
Outcomes = tuple[Outcome, ...]  # N items in order of id
SAME_GOALS = "; of tables whose prompts are written in other ways, a column `goal` says which items are the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcomes:
    """One item with the outcomes of one run's answer to it."""

    id: str  # "attacked/goal-90/story"
    suite: str  # "attacked"
    cluster: str  # "goal-90"
    content: object  # equal in two runs where the item is the same
    outcomes: Mapping[str, Outcome]  # by metric; a metric that does not apply is not in it


RunItems = Mapping[str, ItemOutcomes]  # by id, in order of id


@dataclass(frozen=True, slots=True)
class MatchedSources:
    """Runs that have the same items."""

    runs: tuple[RunItems, ...]
    left_out: tuple[int, ...] | None  # items of every run that not all have; None: all are the same


def run_items(name: str, outcomes: Sequence[ItemOutcomes]) -> RunItems:
    """The items of one run by id.

    Raises:
        ArtifactError: an item was answered twice.
    """
    by_id = {item.id: item for item in sorted(outcomes, key=attrgetter("id"))}
    if len(by_id) < len(outcomes):
        raise ArtifactError(
            f"{name} has {len(outcomes)} answers to only {len(by_id)} different items",
            hint="evaluate it again: every item must have an id of its own",
        )
    return by_id


def evaluated_items(name: str, records: Sequence[EvaluationRecord], metrics: Sequence[Metric] = METRICS) -> RunItems:
    """The items of an evaluation with their outcomes in these metrics.

    Raises:
        ArtifactError: as `run_items`.
    """
    return run_items(
        name,
        [
            ItemOutcomes(
                id=record.item.id,
                suite=record.item.suite,
                cluster=record.item.cluster,
                content=record.item,
                outcomes={metric.name: metric.outcome(record) for metric in metrics if metric.applies(record)},
            )
            for record in records
        ],
    )


def mean_run(runs: Sequence[RunItems]) -> RunItems:
    """One run in place of several on the same items: the mean outcome of each item, None where one was not scored.

    What counts as no where it is missing is taken for no.
    """
    if len(runs) == 1:
        return runs[0]
    return {
        name: replace(
            item, outcomes={metric: _mean_outcome(metric, [run[name] for run in runs]) for metric in item.outcomes}
        )
        for name, item in runs[0].items()
    }


def _mean_outcome(metric: str, items: Sequence[ItemOutcomes]) -> Outcome:
    named = METRIC_NAMED.get(metric)
    outcomes = [item.outcomes.get(metric) for item in items]
    if named is not None and named.missing_is_no:
        outcomes = [outcome or 0.0 for outcome in outcomes]
    return mean_over_runs(outcomes)


def drop_metrics(items: RunItems, names: Collection[str]) -> RunItems:
    """The items without their outcomes in these metrics."""
    return {
        id: replace(item, outcomes={name: yes for name, yes in item.outcomes.items() if name not in names})
        for id, item in items.items()
    }


def match_items(names: Sequence[str], runs: Sequence[RunItems], *, intersect: bool) -> MatchedSources:
    """The runs, if their items are the same; with `intersect` only the items that all of them have.

    Raises:
        ArtifactError: different items, or not one that is the same in all.
    """
    if not runs:
        return MatchedSources((), None)
    first = runs[0]
    common = [id for id in first if all(id in run and run[id].content == first[id].content for run in runs[1:])]
    if all(len(run) == len(common) for run in runs):
        return MatchedSources(tuple(runs), None)
    if not intersect:
        other = next(index for index, run in enumerate(runs) if _differ(first, run))
        _refuse(first, runs[other], names[0], names[other])
    if not common:
        raise ArtifactError(
            f"{_and(names)} have no item in common", hint="evaluate them on the same items with moe evaluate"
        )
    return MatchedSources(
        tuple({id: run[id] for id in common} for run in runs), tuple(len(run) - len(common) for run in runs)
    )


def _differ(first: RunItems, run: RunItems) -> bool:
    return first.keys() != run.keys() or any(first[id].content != run[id].content for id in first)


def _refuse(a: RunItems, b: RunItems, name_a: str, name_b: str) -> None:
    both = a.keys() & b.keys()
    changed = sum(a[id].content != b[id].content for id in both)
    only_a, only_b = len(a.keys() - b.keys()), len(b.keys() - a.keys())
    raise ArtifactError(
        f"{name_a} and {name_b} were not evaluated on the same items: {only_a} are only in {name_a}, {only_b}"
        f" only in {name_b}, and {changed} of the {len(both)} common ids hold another item",
        hint="choose evaluations of the same items with --evaluation NAME, or pair the common ones with --intersect"
        + (SAME_GOALS if changed else ""),
    )


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


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
