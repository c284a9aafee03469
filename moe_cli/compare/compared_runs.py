"""The runs to compare, read from the directories and names given, and what each was selected by and trained on.

Every run becomes a column with its newest complete evaluation and its items. Files are read only if their digests
match, and a run never gets numbers of weights other than those it trained, nor those of a steered router unless that
evaluation is named. What is missing is named, with the command that makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.examples import TrainingInputs, examples_of
from moe_cli.artifacts.finished import kind_in
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.codec import decode_lines
from moe_cli.data.contamination import TrainedGoals, trained_goals
from moe_cli.errors import ArtifactError
from moe_cli.records import CapabilitySample, EvaluationRecord, EvaluationSummary, RunColumn, Selection, TrainingSummary
from moe_cli.records.training import ARMS, MODES, UNTRAINED
from moe_cli.stats.metrics import metrics_of
from moe_cli.stats.outcomes import RunItems, evaluated_items


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run to compare."""

    column: RunColumn
    training: TrainingSummary | None  # None: a bare model
    records: tuple[EvaluationRecord, ...] | None  # None: not evaluated, or made elsewhere
    items: RunItems | None  # None: not evaluated
    digests: dict[str, str]  # of the manifests it was read from
    samples: tuple[CapabilitySample, ...] = ()  # questions of lm-eval's tasks
    passed_over: tuple[Path, ...] = ()  # newer evaluations in the run that are of other weights
    steered: tuple[Path, ...] = ()  # newer evaluations whose router was steered, and that were not named


def read_sources(names: Sequence[str], evaluation: str | None, store: Store) -> list[ComparedRun]:
    """One source for every argument, with distinct names.

    Raises:
        ArtifactError: nothing to compare there, a damaged file, an evaluation of other weights than the run's, or a
            manifest that is not the one that `store` or an evaluation knows.
    """
    return rename_duplicates([_read(word, evaluation, store) for word in names])


def rename_duplicates(sources: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The sources; names that several of them have are followed by the position of the source."""
    names = [source.column.name for source in sources]
    return [
        source if names.count(source.column.name) == 1 else _renamed(source, f"{source.column.name} ({number})")
        for number, source in enumerate(sources, start=1)
    ]


def _renamed(source: ComparedRun, name: str) -> ComparedRun:
    return replace(source, column=replace(source.column, name=name))


def _read(word: str, evaluation: str | None, store: Store) -> ComparedRun:
    path = Path(word).parent if Path(word).name == layout.FINAL_MODEL else Path(word)
    kind = kind_in(path)
    if kind == "evaluation":
        evaluated = require_unchanged_run(path, store, "evaluation")
        trained = path.parent.parent if _summary(evaluated).run else None
        of = require_unchanged_run(trained, store, *ARMS) if trained else None
        return _source(of, [evaluated], named=True)
    if kind in ARMS:
        evaluations = _complete(path / layout.EVALUATIONS, evaluation, store)
        run = require_unchanged_run(path, store, *ARMS)
        return _source(run, evaluations, named=evaluation is not None)
    if kind is not None:
        raise ArtifactError(f"{path} is a {kind} run: there is nothing to compare in it", hint="name training runs")
    bare = _complete(Path(layout.EVALUATIONS) / layout.file_stem(word), evaluation, store)
    if not bare:
        raise ArtifactError(
            f"{word} is no training run and no evaluation, and no evaluation of a model of that name is in "
            f"./{layout.EVALUATIONS}",
            hint=f"moe runs list shows the runs there are; moe evaluate {word} evaluates a model",
        )
    return _source(None, bare, named=evaluation is not None)


def _complete(evaluations: Path, name: str | None, store: Store) -> list[FinishedRun]:
    """The complete evaluations in a directory, newest first, or only the one of that name."""
    names = sorted(manifest.parent.name for manifest in evaluations.glob(f"*/{layout.MANIFEST}"))
    if name is not None and names and name not in names:
        raise ArtifactError(f"{evaluations} has no complete evaluation {name}", hint=f"there are: {', '.join(names)}")
    wanted = [evaluations / each for each in names if name is None or each == name]
    runs = [require_unchanged_run(path, store, "evaluation") for path in wanted]
    return sorted(runs, key=lambda run: (run.manifest.finished, run.manifest.id), reverse=True)


def _source(run: FinishedRun | None, evaluations: Sequence[FinishedRun], *, named: bool) -> ComparedRun:
    """The run with the first of the evaluations whose weights are the run's; a steered one only if it was `named`."""
    training = _training(run) if run else None
    passed_over = list(takewhile(lambda evaluated: not _is_of(training, evaluated, named=named), evaluations))
    evaluated = evaluations[len(passed_over)] if len(passed_over) < len(evaluations) else None
    if evaluations and evaluated is None:
        if not named:
            _refuse_all_steered(evaluations)
        if run is not None and training is not None:
            _refuse_other_weights(run, training, evaluations[0])
    if run is not None:
        run.refuse_added(layout.FINAL_MODEL)
        _refuse_another_manifest(run, evaluated)
    summary = _summary(evaluated) if evaluated else None
    records = tuple(decode_lines(EvaluationRecord, evaluated.file(layout.RECORDS))) if evaluated else None
    digests = {"run": run.digest} if run else {}
    column = _column(run, training, summary)
    return ComparedRun(
        column=column,
        training=training,
        records=records,
        items=evaluated_items(column.name, records, metrics_of(summary)) if summary and records else None,
        digests=digests | ({"evaluation": evaluated.digest} if evaluated else {}),
        samples=_samples(evaluated) if evaluated else (),
        passed_over=tuple(other.path for other in passed_over if named or not _summary(other).steering),
        steered=tuple(other.path for other in passed_over if not named and _summary(other).steering),
    )


def _training(run: FinishedRun) -> TrainingSummary:
    training = run.record(layout.METADATA, TrainingSummary)
    if run.manifest.kind not in ARMS or training.training_mode != MODES[run.manifest.kind]:
        raise ArtifactError(
            f"the manifest of {run.path} says {run.manifest.kind}, but {layout.METADATA} {training.training_mode}",
            hint="put the manifest back as it was, or train again",
        )
    return training


def _is_of(training: TrainingSummary | None, evaluated: FinishedRun, *, named: bool) -> bool:
    """Whether the evaluated weights are those that the training wrote; a bare model is known by its name alone.

    An evaluation of a steered router is one of the run only if it was `named`.
    """
    summary = _summary(evaluated)
    if summary.steering is not None and not named:
        return False
    model = summary.unsteered_model
    return training is None or model is None or model.fingerprint == training.trained_fingerprint


def _refuse_all_steered(evaluations: Sequence[FinishedRun]) -> None:
    """Refuse to take one of them where it was not named and the router was steered in all."""
    if all(_summary(evaluated).steering for evaluated in evaluations):
        raise ArtifactError(
            f"the router was steered in {evaluations[0].path}, and there is no evaluation without that",
            hint=f"name that directory to compare it, or evaluate without --steer: moe compare {evaluations[0].path}",
        )


def _refuse_other_weights(run: FinishedRun, training: TrainingSummary, evaluated: FinishedRun) -> None:
    model = _summary(evaluated).unsteered_model
    raise ArtifactError(
        f"{evaluated.path} is an evaluation of other weights (fingerprint "
        f"{model.fingerprint[:12] if model else 'unknown'}) than {run.path} wrote "
        f"({training.trained_fingerprint[:12]})",
        hint=f"moe evaluate {run.path}",
    )


def _refuse_another_manifest(run: FinishedRun, evaluated: FinishedRun | None) -> None:
    """Refuse a run whose manifest is not the one that its evaluation was made of."""
    if evaluated is not None and evaluated.manifest.parents.get("run", run.digest) != run.digest:
        raise ArtifactError(
            f"{evaluated.path} was made with another manifest of {run.path} than is there now, of the same weights",
            hint=f"put {run.path}/manifest.json back as it was, or moe evaluate {run.path}",
        )


def _samples(evaluated: FinishedRun) -> tuple[CapabilitySample, ...]:
    if layout.CAPABILITY not in evaluated.manifest.files:
        return ()
    return tuple(decode_lines(CapabilitySample, evaluated.file(layout.CAPABILITY)))


def _summary(evaluated: FinishedRun) -> EvaluationSummary:
    return evaluated.record(layout.EVALUATION_SUMMARY, EvaluationSummary).with_plain_goals_apart


def _column(run: FinishedRun | None, training: TrainingSummary | None, summary: EvaluationSummary | None) -> RunColumn:
    model = training.base if training else summary.model if summary else None
    name = run.path.resolve().name if run else summary.title if summary else None
    if name is None:
        raise AssertionError("a source is a training run or an evaluation")
    steering = summary.steering if summary else None
    return RunColumn(
        name=f"{name} {steering.name}" if steering else name,
        path=str(run.path) if run else name,
        training_mode=training.training_mode if training else summary.training_mode if summary else UNTRAINED,
        trainable_params=training.trainable_params if training else None,
        total_params=model.total_params if model else None,
        trainable_ratio=training.trainable_ratio if training else None,
        experts_per_layer=training.count.experts_per_layer if training else None,
        num_experts=model.num_experts if model else None,
        layers=model.layers if model else (),
        seconds_training=training.seconds_training if training else None,
        peak_memory_bytes=training.peak_memory_bytes if training else None,
        peak_memory_of=training.peak_memory_of if training else None,
        final_model_bytes=_size(run, f"{layout.FINAL_MODEL}/"),
        delta_bytes=_size(run, layout.DELTA),
        num_steps=training.num_steps if training else None,
        final_step=training.final_answer_step if training else None,
        final_loss=training.final_loss if training else None,
        held_out_loss=_held_out_loss(training) if training else None,
        items_left_out=None,
        goals_trained_on=None,
        evaluation=summary,
        imported=None,
        masking=training.masking if training else None,
        routers=training.routers if training else None,
        num_router_tokens=training.num_router_tokens if training else 0,
        final_router_step=training.final_router_step if training else 0,
    )


def _held_out_loss(training: TrainingSummary) -> float | None:
    """The held-out loss of the weights in final_model/; None where no batch was held out."""
    return next((record.loss for record in training.validation if record.step == training.final_step), None)


def _size(run: FinishedRun | None, prefix: str) -> int | None:
    """Total bytes of the run's files whose names have this prefix; None where there are none, or they were removed."""
    files = [layout.path_in(run.path, name) for name in run.manifest.files if name.startswith(prefix)] if run else []
    return sum(file.stat().st_size for file in files) if files and all(file.is_file() for file in files) else None


def add_selection(sources: Sequence[ComparedRun], store: Store) -> list[ComparedRun]:
    """The sources with the method of their selection, if the prepare run is still in the registry.

    Raises:
        ArtifactError: its selection is damaged.
    """
    return [replace(source, column=replace(source.column, selection=_method(source, store))) for source in sources]


def _method(source: ComparedRun, store: Store) -> str | None:
    if source.training is None or source.training.training_mode == "full_model_baseline":
        return None
    prepared = store.with_digest(source.training.prepared, "prepare")
    if prepared is None or layout.SELECTION not in prepared.manifest.files:
        return None
    return prepared.record(layout.SELECTION, Selection).method


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The fixed batches of a prepare run, including those that are held out."""

    goals: TrainedGoals
    target_lengths: tuple[int, int, int, int]  # characters: quartiles and longest
    num_refusals: int
    distinct_refusals: int


def read_training_data(trainings: Sequence[TrainingSummary | None], store: Store) -> list[TrainingData | None]:
    """What every run was trained on; None for a bare model, or if the prepare run is gone or not registered."""
    known: dict[tuple[str, str], TrainingData | None] = {}
    read: list[TrainingData | None] = []
    for training in trainings:
        if training is None:
            read.append(None)
            continue
        key = training.prepared, training.batches_digest  # both arms share one prepare run
        if key not in known:
            examples = examples_of(training, store)
            known[key] = None if examples is None else _training_data(examples)
        read.append(known[key])
    return read


def _training_data(trained: TrainingInputs) -> TrainingData:
    examples = trained.examples
    lengths = [len(example.messages[-1].content) for example in examples]
    refusals = [example.messages[-1].content for example in examples if example.kind != "benign"]
    quartiles = np.quantile(lengths, (0.25, 0.5, 0.75), method="lower")
    return TrainingData(
        goals=trained_goals(examples, trained.plain_forms),
        target_lengths=(int(quartiles[0]), int(quartiles[1]), int(quartiles[2]), max(lengths)),
        num_refusals=len(refusals),
        distinct_refusals=len(set(refusals)),
    )
