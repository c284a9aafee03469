"""The questions of lm-eval's tasks as items of the paired comparison.

Every question of a task that all runs measured becomes an item, and a sentence names every task that is not
compared. The task's name is the suite of its items, and accuracy their metric, so that over all suites accuracy
pools the items that expect an answer and the questions of all these tasks, one vote each. Different questions in one
of the runs are different items, which are refused as always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.records import CapabilityScore
from moe_cli.stats.metrics import ACCURACY
from moe_cli.stats.outcomes import ItemOutcomes, run_items

PREFIX = "lm-eval"  # keeps the ids apart from those of suites


def add_capability(sources: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The sources with an item for every question of the tasks that all evaluated ones measured as right or wrong."""
    paired = _paired_tasks(sources)
    return [_joined(source, paired) if paired and source.items is not None else source for source in sources]


def unpaired_tasks_of(sources: Sequence[ComparedRun]) -> tuple[str, ...]:
    """A sentence for every task that is not compared, with the reason."""
    evaluated = _evaluated(sources)
    paired = _paired_tasks(sources)
    names = sorted({task for source in evaluated for task in _scores(source)} - set(paired))
    return tuple(sentence for task in names for sentence in _why(task, evaluated))


def _paired_tasks(sources: Sequence[ComparedRun]) -> tuple[str, ...]:
    evaluated = _evaluated(sources)
    metrics = [_asked(source) for source in evaluated]
    if not metrics:
        return ()
    return tuple(
        task for task, metric in sorted(metrics[0].items()) if all(of_run.get(task) == metric for of_run in metrics)
    )


def _why(task: str, evaluated: Sequence[ComparedRun]) -> Iterator[str]:
    scores = [_scores(source).get(task) for source in evaluated]
    missing = [source.column.name for source, score in zip(evaluated, scores, strict=True) if score is None]
    metrics = sorted({score.metric for score in scores if score is not None})
    if missing:
        yield f"{task} is not compared: it was not measured for {', '.join(missing)}."
    elif len(metrics) > 1:
        yield f"{task} is not compared: it was measured by {' and by '.join(metrics)}."
    elif any(_has_questions(source, task) for source in evaluated):
        yield f"{task} is not compared: {metrics[0]} is no yes or no for every question."


def _joined(source: ComparedRun, tasks: Sequence[str]) -> ComparedRun:
    metric = _asked(source)
    samples = {
        sample.id: sample for sample in source.samples if sample.task in tasks
    }  # once, if two groups share a task
    questions = [
        ItemOutcomes(
            id=f"{PREFIX}/{sample.id}",
            suite=sample.task,
            cluster=f"{PREFIX}/{sample.cluster}",
            content=(metric[sample.task], sample.digest),
            outcomes={ACCURACY: sample.correct},
        )
        for sample in samples.values()
    ]
    return replace(source, items=run_items(source.column.name, [*(source.items or {}).values(), *questions]))


def _evaluated(sources: Sequence[ComparedRun]) -> list[ComparedRun]:
    return [source for source in sources if source.items is not None]


def _asked(source: ComparedRun) -> dict[str, str]:
    """The metric of each task whose every question was answered right or wrong."""
    unknown = {sample.task for sample in source.samples if sample.correct is None}
    known = {sample.task for sample in source.samples} - unknown
    return {task: score.metric for task, score in _scores(source).items() if task in known}


def _has_questions(source: ComparedRun, task: str) -> bool:
    """Whether a task has questions of its own; a group has none, and its tasks are compared instead."""
    return any(sample.task == task for sample in source.samples)


def _scores(source: ComparedRun) -> dict[str, CapabilityScore]:
    summary = source.column.evaluation
    return {score.task: score for score in summary.capability} if summary is not None else {}
