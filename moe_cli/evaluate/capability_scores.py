"""Results of lm-eval's tasks as records; needs no lm-eval.

The metric of a task is exact_match or acc where it has one, else the first that it lists, through the first filter that
it lists. Outcomes are kept only where all of a task's are yes or no. A question is identified by everything that the
model is given and by its target, so other few-shot examples, another template or other data make another question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from math import isclose, sqrt
from statistics import fmean, stdev
from typing import Any

from moe_cli.data.column_names import by_precedence
from moe_cli.records import CapabilitySample, CapabilityScore
from moe_cli.stats.proportions import rate_of

STDERR = "_stderr"

Document = Mapping[str, Any]
Found = tuple[tuple[CapabilityScore, ...], tuple[CapabilitySample, ...]]


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
