"""The tasks that were asked for, each measured once for the same weights.

Comes in: the models of an evaluation and its settings. Goes out: scores and samples of all tasks. Always holds: tasks
and package are checked before anything is answered; a task that this evaluation, or an earlier one of the same weights
in the same way, has is not measured again.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.evaluate.capability import capability_of, refuse_unknown_tasks
from moe_cli.evaluate.models import ModelPool
from moe_cli.evaluate.work import StageCache
from moe_cli.records import CapabilityResult, CapabilitySample, CapabilityScore, Progress


def refuse_unmeasurable(config: MoeConfig) -> None:
    """Stop before anything is answered where a task cannot be measured.

    Raises:
        EnvironmentFaultError: lm-eval is not installed.
        UsageError: there is no such task, or it was named twice.
    """
    tasks = config.evaluate.capability
    twice = [task for place, task in enumerate(tasks) if task in tasks[:place]]
    if twice:
        raise UsageError(f"the task {twice[0]} is named twice", hint="name every task once")
    if tasks:
        refuse_unknown_tasks(tasks, config.evaluate.capability_tasks)


def capability_results(
    models: ModelPool, config: MoeConfig, work: StageCache
) -> tuple[tuple[CapabilityScore, ...], tuple[CapabilitySample, ...]]:
    """Scores and samples of every task; one that is named and also in a named group stands once.

    Raises as `capability_of`.
    """
    results = list(_results_of_tasks(models, config, work))
    scores = {score.task: score for result in results for score in result.scores}
    samples = {sample.id: sample for result in results for sample in result.samples}
    return tuple(scores.values()), tuple(samples.values())


def _results_of_tasks(models: ModelPool, config: MoeConfig, work: StageCache) -> Iterator[CapabilityResult]:
    settings = config.evaluate
    for place, task in enumerate(settings.capability):
        work.notify(Progress(task=f"capability {task}", done=place, total=len(settings.capability)))
        yield _measured(models, task, config, work)
        work.notify(Progress(task=f"capability {task}", done=place + 1, total=len(settings.capability)))


def _measured(models: ModelPool, task: str, config: MoeConfig, work: StageCache) -> CapabilityResult:
    settings = config.evaluate
    how = (
        *(settings.capability_limit, settings.capability_batch_size, settings.capability_chat, config.seed),
        # Data of a directory's own tasks can lie anywhere: no other evaluation takes what was measured on it.
        *(version("lm_eval"), None if settings.capability_tasks is None else str(work.path)),
    )
    journal = work.journal("capability", f"capability {task}", CapabilityResult, models.tuned().depends_on, task, how)
    found = journal.records()
    if not found:
        scores, samples = capability_of(
            models.tuned(),
            task,
            limit=settings.capability_limit,
            batch_size=settings.capability_batch_size,
            chat=settings.capability_chat,
            include_path=settings.capability_tasks,
            seed=config.seed,
        )
        found = [CapabilityResult(scores=scores, samples=samples)]
        journal.append(found)
    return found[0]
