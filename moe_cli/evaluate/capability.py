"""Capability measured with the tasks of lm-eval, each task once for the same weights and settings.

Tasks and package are checked before anything is answered. lm-eval's own caches are never used, and what it prints is
held back. Model and tokenizer are afterwards as they were, also after an error. Metric and filter of a task follow one
rule (`chosen_metric`), the same in every run. A task that this evaluation, or an earlier one with the same weights and
settings, has measured is not measured again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from moe_cli.config import MoeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.capability_scores import scores_of
from moe_cli.evaluate.target import ModelPool
from moe_cli.model.load import LoadedModel
from moe_cli.records import CapabilityResult, CapabilitySample, CapabilityScore, Progress

EXTRA = "pip install 'moe-selective-repair[capability]'"


def capability_of(
    loaded: LoadedModel,
    task: str,
    *,
    limit: int | None,
    batch_size: int,
    chat: bool,
    include_path: Path | None,
    seed: int,
) -> tuple[tuple[CapabilityScore, ...], tuple[CapabilitySample, ...]]:
    """Scores of a task, or of a group and of each of its tasks, and the outcomes of all questions.

    `limit` keeps the first questions of every task, `chat` asks them in the model's chat template, `include_path` is a
    directory with further task definitions (YAML).

    Raises:
        EnvironmentFaultError: lm-eval, what a task needs of it, or a task's data is not there.
        UsageError: no such task, or one that runs code that the model writes.
    """
    _require_lm_eval()
    with _silence():
        return scores_of(_results(loaded, task, limit, batch_size, chat, include_path, seed))


def refuse_unknown_tasks(tasks: Iterable[str], include_path: Path | None) -> None:
    """Refuse tasks that cannot be measured, before any work is done.

    Raises:
        EnvironmentFaultError: lm-eval is not installed.
        UsageError: there is no such task, or no such directory of tasks.
    """
    _require_lm_eval()
    from moe_cli.evaluate.capability_tasks import make_task_manager

    with _silence():
        for task in tasks:
            make_task_manager(task, include_path)


def _require_lm_eval() -> None:
    if find_spec("lm_eval") is None:
        raise EnvironmentFaultError("capability is measured by lm-eval, which is not installed", hint=EXTRA)


def _results(
    loaded: LoadedModel,
    task: str,
    limit: int | None,
    batch_size: int,
    chat: bool,
    include_path: Path | None,
    seed: int,
) -> dict[str, Any]:
    """The result document of lm-eval, unchanged."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from moe_cli.evaluate.capability_tasks import make_task_manager

    manager = make_task_manager(task, include_path)
    with _unchanged(loaded), _without_git():
        document = simple_evaluate(
            model=HFLM(
                pretrained=loaded.model,
                tokenizer=deepcopy(loaded.tokenizer),  # a padding token may be chosen for it
                backend="causal",
                batch_size=batch_size,
            ),
            tasks=[task],
            task_manager=manager,
            limit=limit,
            log_samples=True,
            use_cache=None,
            cache_requests=False,
            bootstrap_iters=0,
            apply_chat_template=chat,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    return dict(document)


@contextmanager
def _unchanged(loaded: LoadedModel) -> Iterator[None]:
    """Restore the model's generation settings and mode after the block."""
    model, training = loaded.model, loaded.model.training
    generation = deepcopy(model.generation_config)
    try:
        yield
    finally:
        model.generation_config = generation
        model.train(training)


@contextmanager
def _without_git() -> Iterator[None]:
    """Keep lm-eval from asking git which commit it runs in: outside a checkout git itself writes to the terminal."""
    from lm_eval import evaluator

    asking = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = asking


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress what libraries print, progress bars included; errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets", "evaluate")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def refuse_unmeasurable_tasks(config: MoeConfig) -> None:
    """Refuse configured tasks that cannot be measured, before anything is answered.

    Raises:
        EnvironmentFaultError: lm-eval is not installed.
        UsageError: there is no such task, or it was named twice.
    """
    tasks = config.evaluate.capability
    twice = [task for index, task in enumerate(tasks) if task in tasks[:index]]
    if twice:
        raise UsageError(f"the task {twice[0]} is named twice", hint="name every task once")
    if tasks:
        refuse_unknown_tasks(tasks, config.evaluate.capability_tasks)


def capability_results(
    models: ModelPool, config: MoeConfig, work: StageCache
) -> tuple[tuple[CapabilityScore, ...], tuple[CapabilitySample, ...]]:
    """Scores and samples of every task; a task that is named and also in a named group appears once.

    Raises as `capability_of`.
    """
    results = list(_results_of_tasks(models, config, work))
    scores = {score.task: score for result in results for score in result.scores}
    samples = {sample.id: sample for result in results for sample in result.samples}
    return tuple(scores.values()), tuple(samples.values())


def _results_of_tasks(models: ModelPool, config: MoeConfig, work: StageCache) -> Iterator[CapabilityResult]:
    settings = config.evaluate
    for index, task in enumerate(settings.capability):
        work.notify(Progress(task=f"capability {task}", done=index, total=len(settings.capability)))
        yield _measured(models, task, config, work)
        work.notify(Progress(task=f"capability {task}", done=index + 1, total=len(settings.capability)))


def _measured(models: ModelPool, task: str, config: MoeConfig, work: StageCache) -> CapabilityResult:
    settings = config.evaluate
    settings_key = (
        *(settings.capability_limit, settings.capability_batch_size, settings.capability_chat, config.seed),
        # Data of a directory's own tasks can lie anywhere: no other evaluation takes what was measured on it.
        *(version("lm_eval"), None if settings.capability_tasks is None else str(work.path)),
    )
    journal = work.journal(
        "capability", f"capability {task}", CapabilityResult, models.tuned().depends_on, task, settings_key
    )
    results = journal.records()
    if not results:
        scores, samples = capability_of(
            models.tuned(),
            task,
            limit=settings.capability_limit,
            batch_size=settings.capability_batch_size,
            chat=settings.capability_chat,
            include_path=settings.capability_tasks,
            seed=config.seed,
        )
        results = [CapabilityResult(scores=scores, samples=samples)]
        journal.append(results)
    return results[0]
