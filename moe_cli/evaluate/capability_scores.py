"""Tasks of lm-eval by name, and their results as records; lm-eval is imported where a task is asked for.

An unknown name is refused with the nearest known ones; a definition in the user's directory comes before lm-eval's own;
code that a model writes is never run.

The metric of a task is exact_match or acc where it has one, else the first that it lists, through the first filter that
it lists. Outcomes are kept only where all of a task's are yes or no. A question is identified by everything that the
model is given and by its target, so other few-shot examples, another template or other data make another question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from itertools import groupby
from math import isclose, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lm_eval.tasks import TaskManager

from moe_cli.data.column_names import by_precedence
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.records import CapabilitySample, CapabilityScore
from moe_cli.spelling import nearest
from moe_cli.stats.proportions import rate_of

KNOWN = ("arc_easy", "hellaswag", "mmlu")  # where no name is near

Loaded = dict[str, dict[str, object]]
STDERR = "_stderr"
Document = Mapping[str, Any]
Found = tuple[tuple[CapabilityScore, ...], tuple[CapabilitySample, ...]]


class TaskSet(TaskManager):
    """Task manager whose errors tell the user what to fix."""

    def load(self, task_list: object) -> Loaded:
        """Load tasks as lm-eval does.

        Raises:
            EnvironmentFaultError: a package or the data of a task is missing.
            UsageError: a task runs what the model writes.
        """
        names = ", ".join(map(str, task_list)) if isinstance(task_list, list) else str(task_list)
        try:
            loaded: Loaded = super().load(task_list)
        except ImportError as error:
            raise EnvironmentFaultError(
                f"the task {names} needs more than lm-eval: {error}", hint="install the package that it names"
            ) from error
        except OSError as error:
            raise EnvironmentFaultError(
                f"the data of the task {names} cannot be loaded: {error}",
                hint="let the machine reach the hub once (HF_HUB_OFFLINE=0), or name a directory of tasks with local "
                "data: --capability-tasks",
            ) from error
        _refuse_code(loaded)
        return loaded


def make_task_manager(task: str, include_path: Path | None) -> TaskManager:
    """A manager that knows the task; lm-eval's many definitions are read only if the directory lacks it.

    Raises:
        UsageError: no such directory, or no such task.
    """
    if include_path is not None:
        if not include_path.is_dir():
            raise UsageError(f"{include_path} is no directory of task definitions", hint="check --capability-tasks")
        own = TaskSet(include_path=str(include_path), include_defaults=False)
        if task in own.all_tasks:
            return own
    every = _every(None if include_path is None else str(include_path))
    if task not in every.all_tasks:
        near = nearest(task, every.all_tasks, num=5) or KNOWN
        raise UsageError(f"lm-eval has no task {task}", hint=f"did you mean one of: {', '.join(near)}")
    return every


@cache
def _every(include_path: str | None) -> TaskManager:
    """Manager of all definitions; reading lm-eval's thousands takes seconds."""
    return TaskSet(include_path=include_path)


def _refuse_code(loaded: Loaded) -> None:
    unsafe = sorted(name for name, task in loaded["tasks"].items() if getattr(task, "UNSAFE_CODE", False))
    if unsafe:
        raise UsageError(f"{', '.join(unsafe)} would run code that the model writes", hint="choose another task")


def scores_of(results: Document) -> Found:
    """Scores in order of name, and the samples of all tasks in order of id."""
    names = sorted(name for name in results["results"] if chosen_metric(results, name) is not None)
    samples = {name: _samples(results, name) for name in names if name in results["samples"]}
    scores = []
    for name in names:
        tasks = _tasks_of(results, name)
        scores.append(_score(results, name, [sample for task in tasks for sample in samples.get(task, ())]))
    every = (sample for of_task in samples.values() for sample in of_task)
    return tuple(scores), tuple(sorted(every, key=lambda sample: sample.id))


def chosen_metric(results: Document, name: str) -> str | None:
    """`acc,none`: metric and filter of a task or a group; None: a group without a score of its own."""
    measured = [str(key) for key in results["results"][name] if "," in key and STDERR not in key]
    listed = [str(entry["metric"]) for entry in results["configs"].get(name, {}).get("metric_list") or ()]
    metrics = listed or [key.partition(",")[0] for key in measured]
    for metric in by_precedence(metrics):
        keys = [key for key in measured if key.partition(",")[0] == metric]
        if keys:
            return keys[0]
    return measured[0] if measured else None


def _tasks_of(results: Document, name: str) -> list[str]:
    """The task itself, or all tasks of a group and of its subgroups."""
    if name in results["samples"]:
        return [name]
    return [task for subtask in results["group_subtasks"].get(name, ()) for task in _tasks_of(results, subtask)]


def _score(results: Document, name: str, samples: Sequence[CapabilitySample]) -> CapabilityScore:
    key = chosen_metric(results, name)
    if key is None:
        raise AssertionError("a score is made for what has a metric")
    measured = results["results"][name]
    score = float(measured[key])
    correct = rate_of([(sample.cluster, sample.correct) for sample in samples])
    shares = correct.unscored == 0 and correct.rate is not None and isclose(correct.rate, score, abs_tol=1e-9)
    return CapabilityScore(
        task=name,
        version=str(results["versions"].get(name, "unknown")),
        metric=key,
        num_fewshot=int(results["n-shot"].get(name, 0)),
        n=int(measured.get("sample_count", {}).get(key, measured["sample_len"])),
        correct=correct if shares else None,
        score=score,
        stderr=_stderr(results, name, key, score),
    )


def _stderr(results: Document, name: str, key: str, score: float) -> float | None:
    """Standard error of a mean, s / sqrt(n) as in lm-eval.

    None where the score is no mean over the questions of one task.
    """
    values = [line[key.partition(",")[0]] for line in _lines(results, name, key)]
    if len(values) < 2 or not all(isinstance(value, (int, float)) for value in values):
        return None
    return stdev(values) / sqrt(len(values)) if isclose(fmean(values), score, abs_tol=1e-9) else None


def _samples(results: Document, name: str) -> list[CapabilitySample]:
    key = chosen_metric(results, name)
    if key is None:
        raise AssertionError("samples are made of what has a metric")
    lines = _lines(results, name, key)
    outcomes = [_outcome(line[key.partition(",")[0]]) for line in lines]
    all_scored = None not in outcomes
    kind = results["configs"][name].get("output_type")
    return [
        CapabilitySample(
            task=name,
            id=f"{name}/{line['doc_id']}",
            cluster=f"{name}/{line['doc_id']}",
            digest=_digest(line),
            correct=outcome if all_scored else None,
            answer=_answer(line, kind),
        )
        for line, outcome in zip(lines, outcomes, strict=True)
    ]


def _lines(results: Document, name: str, key: str) -> list[Document]:
    """The questions of a task, as filtered for the metric; none for a group."""
    metric, _, filter_name = key.partition(",")
    lines = [line for line in results["samples"].get(name, ()) if line["filter"] == filter_name and metric in line]
    ordered = sorted(lines, key=lambda line: int(line["doc_id"]))
    return [next(same) for _, same in groupby(ordered, key=lambda line: int(line["doc_id"]))]


def _outcome(value: object) -> bool | None:
    """The value as yes or no; None where it is neither."""
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def _digest(line: Document) -> str:
    content = json.dumps([line["arguments"], line["doc"], line["target"]], sort_keys=True, default=str)
    return sha256(content.encode()).hexdigest()


def _answer(line: Document, kind: object) -> str:
    """The option that the model finds likeliest, or the text it wrote."""
    if kind != "multiple_choice":
        responses = line["filtered_resps"]
        return (
            responses[0]
            if len(responses) == 1 and isinstance(responses[0], str)
            else json.dumps(responses, default=str)
        )
    likeliest = max(range(len(line["filtered_resps"])), key=lambda index: line["filtered_resps"][index][0])
    context, option = line["arguments"][likeliest]
    options = {written for _, written in line["arguments"]}
    return str(option) if len(options) > 1 else f"{context}{option}"
