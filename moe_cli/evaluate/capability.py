"""Capability by the tasks of lm-eval, in process, on the model that is loaded already.

Comes in: a model, the name of a task or of a group of tasks, and the settings. Goes out: a score for each, and an
outcome for every question. Always holds: lm-eval's caches are never used; the model and its tokenizer are as they were,
also after an error; nothing is printed; the metric and the filter follow one rule (`chosen_metric`), the same in every
run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from moe_cli.errors import EnvironmentFaultError
from moe_cli.evaluate.capability_scores import scores_of
from moe_cli.model.load import LoadedModel
from moe_cli.records import CapabilitySample, CapabilityScore

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

    `limit` is the first questions of every task, `chat` whether they are asked in the model's chat template,
    `include_path` a directory with further task definitions (YAML).

    Raises:
        EnvironmentFaultError: lm-eval, what a task needs of it, or a task's data is not there.
        UsageError: no such task, or one that runs code that the model writes.
    """
    _require_lm_eval()
    with _silence():
        return scores_of(_results(loaded, task, limit, batch_size, chat, include_path, seed))


def refuse_unknown_tasks(tasks: Iterable[str], include_path: Path | None) -> None:
    """Stop where a task cannot be measured, before anything is done.

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
    """What lm-eval says, as it says it."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from moe_cli.evaluate.capability_tasks import make_task_manager

    manager = make_task_manager(task, include_path)
    with _unchanged(loaded), _without_git():
        found = simple_evaluate(
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
    return dict(found)


@contextmanager
def _unchanged(loaded: LoadedModel) -> Iterator[None]:
    """Generation settings and mode of the model are put back."""
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
    """Hold back what libraries print, their progress bars among it; errors are raised as ever."""
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
