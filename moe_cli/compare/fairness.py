"""The fairness gate: what must be the same in all runs before their numbers may be compared.

Comes in: the columns of the comparison and what each training run says about itself. Goes out: one check for every
condition, with the value of each run as text. Always holds: a difference that is seen is "differs" even where another
run says nothing; a run that says nothing is "unknown", never "same"; a model that was not trained takes no part in the
checks of training, which are left out where fewer than two runs were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from moe_cli.records.comparison import FairnessCheck, RunColumn
from moe_cli.records.inputs import ModelIdentity
from moe_cli.records.training import TrainingSummary

UNTRAINED = "base"  # the training mode of a bare model
NOT_APPLICABLE = "-"
UNKNOWN = "unknown"
DIGEST_LENGTH = 12
HEXADECIMAL = frozenset("0123456789abcdef")

Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class _Unsaid:
    """Stands for a value that a run does not tell; None is a value of its own."""


UNSAID = _Unsaid()

Value = Setting | _Unsaid


@dataclass(frozen=True, slots=True)
class _Run:
    column: RunColumn
    training: TrainingSummary | None

    @property
    def trained(self) -> bool:
        return self.column.training_mode != UNTRAINED

    @property
    def base(self) -> ModelIdentity | None:
        """The model that this run began with; a bare model is its own base."""
        if self.training:
            return self.training.base
        if self.column.evaluation is None:
            return None
        return self.column.evaluation.base if self.trained else self.column.evaluation.model


def fairness_checks(
    columns: Sequence[RunColumn], trainings: Sequence[TrainingSummary | None]
) -> tuple[FairnessCheck, ...]:
    """Every condition of a fair comparison; `trainings` has None for a bare model and where nothing is known."""
    runs = [_Run(column, training) for column, training in zip(columns, trainings, strict=True)]
    return (*_base_checks(runs), *_evaluation_checks(runs), *_training_checks(runs))


def _base_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    yield _check("base model", runs, lambda run: run.base.fingerprint if run.base else UNSAID)
    if any(run.base and run.base.revision for run in runs):
        # Models from a directory have no revision; there the fingerprint alone says which it is.
        yield _check("base revision", runs, lambda run: (run.base and run.base.revision) or UNSAID)


def _evaluation_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    evaluations = [run.column.evaluation for run in runs]
    if not any(evaluations):
        return
    values: dict[str, list[Value]] = {
        "items": [found.items_digest if found else UNSAID for found in evaluations],
        "chat template": [found.model.chat_template if found else UNSAID for found in evaluations],
        "dtype": [found.model.dtype if found else UNSAID for found in evaluations],
        "judge": [found.judge.name if found else UNSAID for found in evaluations],
        "judge revision": [found.judge.revision if found else UNSAID for found in evaluations],
    }
    for name, of_runs in values.items():
        yield _checked(name, of_runs)
    yield from _setting_checks("generation", [found.generation if found else {} for found in evaluations])


def _training_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    if sum(run.trained for run in runs) < 2:
        return
    conditions: dict[str, Callable[[TrainingSummary], Value]] = {
        "training data": lambda training: training.batches_digest,
        "batch order": lambda training: training.schedule_digest,
        "steps": lambda training: training.num_steps,
        "tokens": lambda training: training.num_tokens,
        "answer tokens": lambda training: training.num_answer_tokens,
        "experts dtype": lambda training: training.experts_dtype,
        "threads": lambda training: training.num_threads,
    }
    for name, value in conditions.items():
        yield _check(name, runs, _of_training(value), only_trained=True)
    settings = [run.training.hyperparameters if run.training else {} for run in runs]
    yield from _setting_checks("training", settings, applies=[run.trained for run in runs])


def _of_training(value: Callable[[TrainingSummary], Value]) -> Callable[[_Run], Value]:
    return lambda run: value(run.training) if run.training else UNSAID


def _setting_checks(
    prefix: str, settings: Sequence[Mapping[str, Setting]], applies: Sequence[bool] | None = None
) -> Iterator[FairnessCheck]:
    """One check for every setting that any run has; a setting that a run lacks is unsaid."""
    for key in sorted({key for of_run in settings for key in of_run}):
        values: list[Value] = [of_run.get(key, UNSAID) for of_run in settings]
        yield _checked(f"{prefix}: {key.replace('_', ' ')}", values, applies)


def _check(
    name: str, runs: Sequence[_Run], value: Callable[[_Run], Value], *, only_trained: bool = False
) -> FairnessCheck:
    return _checked(name, [value(run) for run in runs], [run.trained or not only_trained for run in runs])


def _checked(name: str, values: Sequence[Value], applies: Sequence[bool] | None = None) -> FairnessCheck:
    applies = [True] * len(values) if applies is None else applies
    asked = [value for value, applicable in zip(values, applies, strict=True) if applicable]
    said = [value for value in asked if not isinstance(value, _Unsaid)]
    texts = tuple(_text(v) if applicable else NOT_APPLICABLE for v, applicable in zip(values, applies, strict=True))
    if any(value != said[0] for value in said[1:]):
        return FairnessCheck(name=name, status="differs", values=texts)
    return FairnessCheck(name=name, status="same" if len(said) == len(asked) else "unknown", values=texts)


def _text(value: Value) -> str:
    if isinstance(value, _Unsaid):
        return UNKNOWN
    if value is None:
        return "none"
    text = str(value)
    return text[:DIGEST_LENGTH] if len(text) == 64 and HEXADECIMAL.issuperset(text) else text
