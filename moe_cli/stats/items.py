"""The outcomes of one run by item, and the check that all runs have the same items.

Items are matched by id and are in order of id. Different items are refused, or left out and counted if that was
requested.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from moe_cli.errors import ArtifactError
from moe_cli.records.evaluation import EvaluationRecord
from moe_cli.stats.metrics import METRIC_NAMED, METRICS, Metric, mean_over_runs

Outcome = bool | float | None  # yes or no; a fraction from 0 to 1; None: not scored


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
        hint="choose evaluations of the same items with --evaluation NAME, or pair the common ones with --intersect",
    )


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
