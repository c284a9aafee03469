"""The fairness gate: what must be the same in all runs, training data included, before their numbers may be compared.

There is one check for every condition, with the value of each run as text. A difference that is seen is "differs"
even if another run has no value. A run without a value makes the check "unknown", never "same". Answers of a file or
a server are never "same", because what made them is not known. Where the examples of a run cannot be found, nothing
is said about them.

An untrained model takes no part in the checks of training, which are left out where fewer than two runs were
trained, or where none of them was trained by moe. Several runs of one arm differ in their seed and in what is drawn
by it: such a condition is the same if every arm has the same values in its runs, in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from moe_cli.compare.compared_runs import TrainingData
from moe_cli.records import TrainingSummary
from moe_cli.records.comparison import FairnessCheck, RunColumn
from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.inputs import ModelIdentity
from moe_cli.records.judging import QUESTIONS
from moe_cli.records.training import BATCHES_PER_STEP

ITEMS = "items"
DATA = ("goals trained on", "target lengths", "distinct refusals")
SEEDED = {
    "training: seed",
    "training: num batches",
    "training data",
    "batch order",
    "steps",
    "tokens",
    "answer tokens",
    *DATA,
}
NOT_APPLICABLE = "-"
FROM_FILES = "from a file; settings unknown"
FROM_SERVER = "from a server; weights unknown"
LOADED = "of the loaded weights"
OF_ONE_PROCESS = "gradient_accumulation_steps"  # the batches of a step, in runs written before several could train
DIGEST_LENGTH = 12
HEXADECIMAL = frozenset("0123456789abcdef")
Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class _Unsaid:
    """Stands for a value that a run does not record; None is a value of its own."""

    text: str = "unknown"


UNSAID = _Unsaid()

Value = Setting | _Unsaid


@dataclass(frozen=True, slots=True)
class _Run:
    column: RunColumn
    training: TrainingSummary | None
    data: TrainingData | None
    arm: int | None  # None: every arm is one run

    @property
    def trained(self) -> bool:
        return not self.column.is_untrained

    @property
    def known(self) -> bool:
        """Whether the training is known: of answers that were made elsewhere, it is not."""
        return self.column.is_trained_here

    @property
    def trains_routers(self) -> bool:
        """Whether it is known to have trained its routers in turn with the experts."""
        return self.column.routers is not None

    @property
    def base(self) -> ModelIdentity | None:
        """The model that this run started from; a bare model is its own base."""
        if self.training:
            return self.training.base
        if self.column.evaluation is None:
            return None
        return self.column.evaluation.base if self.trained else self.column.evaluation.unsteered_model


Applies = Callable[[_Run], bool]  # whether a condition is one of the run


def check_fairness(
    columns: Sequence[RunColumn],
    trainings: Sequence[TrainingSummary | None],
    data: Sequence[TrainingData | None] | None = None,
    arm_sizes: Sequence[int] | None = None,
) -> tuple[FairnessCheck, ...]:
    """Every condition of a fair comparison.

    `trainings` and `data` have None for a bare model and where nothing is known (no `data`: not looked for);
    `arm_sizes` says how many of the columns, in their order, are runs of one arm.
    """
    if all(column.imported for column in columns):
        return ()
    arms: list[int | None] = [None] * len(columns)
    if arm_sizes is not None and max(arm_sizes) > 1:
        arms = [arm for arm, size in enumerate(arm_sizes) for _ in range(size)]
    training_data = [None] * len(columns) if data is None else data
    runs = [_Run(*of_run) for of_run in zip(columns, trainings, training_data, arms, strict=True)]
    of_data = () if data is None else _data_checks(runs)
    return (*_base_checks(runs), *_evaluation_checks(runs), *_training_checks(runs), *of_data)


def _base_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    yield _check("base model", runs, lambda run: run.base.fingerprint if run.base else UNSAID)
    if any(run.base and run.base.revision for run in runs):
        # Models from a directory have no revision; there the fingerprint alone says which it is.
        yield _check("base revision", runs, lambda run: (run.base and run.base.revision) or UNSAID)


def _evaluation_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    evaluations = [run.column.evaluation for run in runs]
    if not any(evaluations):
        return
    models = [evaluation.model if evaluation else None for evaluation in evaluations]
    values: dict[str, list[Value]] = {
        ITEMS: [evaluation.items_digest if evaluation else UNSAID for evaluation in evaluations],
        "chat template": [model.chat_template if model else UNSAID for model in models],
        "model settings": [(model.settings or UNSAID) if model else UNSAID for model in models],
        "dtype": [model.dtype if model else UNSAID for model in models],
        "answers per item": [(evaluation.epochs or UNSAID) if evaluation else UNSAID for evaluation in evaluations],
    }
    if any(evaluation and evaluation.model is None for evaluation in evaluations):
        values["answers"] = [_origin(evaluation) if evaluation else UNSAID for evaluation in evaluations]
        values["engine"] = [_engine(evaluation) if evaluation else UNSAID for evaluation in evaluations]
    if any(evaluation and evaluation.steering for evaluation in evaluations):
        values["router steering"] = [_steering(evaluation) if evaluation else UNSAID for evaluation in evaluations]
    for question in QUESTIONS:
        judges = [evaluation.judge_of(question) if evaluation else None for evaluation in evaluations]
        if any(judges):
            values[f"judge of {question}"] = [judge.name if judge else UNSAID for judge in judges]
            values[f"judge of {question}: revision"] = [judge.revision if judge else UNSAID for judge in judges]
    for name, of_runs in values.items():
        yield _checked(name, runs, of_runs)
    yield from _setting_checks(
        "generation", runs, [evaluation.generation if evaluation else {} for evaluation in evaluations]
    )


def _origin(evaluation: EvaluationSummary) -> Value:
    """Where the answers come from. A value for answers of loaded weights; other origins never count as the same."""
    return LOADED if evaluation.model else _Unsaid(FROM_SERVER if evaluation.server else FROM_FILES)


def _engine(evaluation: EvaluationSummary) -> Value:
    return "transformers" if evaluation.model else "openai" if evaluation.server else UNSAID


def _steering(evaluation: EvaluationSummary) -> Value:
    if evaluation.steering is None:
        return None if evaluation.model else UNSAID
    return evaluation.steering.title


def _training_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    if sum(run.trained for run in runs) < 2 or not any(run.known for run in runs):
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
        yield _check(name, runs, _of_training(value), applies=lambda run: run.trained)
    settings = [_hyperparameters(run.training) if run.training else {} for run in runs]
    yield from _setting_checks("training", runs, settings, applies=lambda run: run.trained)
    if sum(run.trains_routers for run in runs) > 1:
        settings = [_router_settings(run.training) for run in runs]
        yield from _setting_checks("routers", runs, settings, applies=lambda run: run.trains_routers)


def _hyperparameters(training: TrainingSummary) -> dict[str, Setting]:
    return {BATCHES_PER_STEP if name == OF_ONE_PROCESS else name: n for name, n in training.hyperparameters.items()}


def _router_settings(training: TrainingSummary | None) -> dict[str, Setting]:
    if training is None or training.routers is None:
        return {}
    settings = {**asdict(training.routers), "reselect": training.reselected}
    return {name: str(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _data_checks(runs: Sequence[_Run]) -> Iterator[FairnessCheck]:
    """Checks of the training examples; evaluated goals among them weaken even a single run."""
    if not any(run.known for run in runs):
        return
    values: tuple[Callable[[_Run], Value], ...] = (
        lambda run: _shared(run.column.goals_trained_on),
        lambda run: _lengths(run.data) if run.data else UNSAID,
        lambda run: _refusals(run.data) if run.data else UNSAID,
    )
    for name, value in zip(DATA, values, strict=True):
        yield _check(name, runs, value, applies=lambda run: run.trained)


def _shared(goals: tuple[int, int] | None) -> Value:
    return UNSAID if goals is None else f"{goals[0]} of {goals[1]} by words"


def _lengths(data: TrainingData) -> str:
    low, middle, high, longest = data.target_lengths
    return f"median {middle} ({low}-{high}), longest {longest} characters"


def _refusals(data: TrainingData) -> str:
    return f"{data.distinct_refusals} in {data.num_refusals}"


def _of_training(value: Callable[[TrainingSummary], Value]) -> Callable[[_Run], Value]:
    return lambda run: value(run.training) if run.training else UNSAID


def _setting_checks(
    prefix: str, runs: Sequence[_Run], settings: Sequence[Mapping[str, Setting]], *, applies: Applies = lambda run: True
) -> Iterator[FairnessCheck]:
    """One check for every setting that any run has; a run that lacks it has no value."""
    for key in sorted({key for of_run in settings for key in of_run}):
        values: list[Value] = [of_run.get(key, UNSAID) for of_run in settings]
        yield _checked(f"{prefix}: {key.replace('_', ' ')}", runs, values, applies=applies)


def _check(
    name: str, runs: Sequence[_Run], value: Callable[[_Run], Value], *, applies: Applies = lambda run: True
) -> FairnessCheck:
    return _checked(name, runs, [value(run) for run in runs], applies=applies)


def _checked(
    name: str, runs: Sequence[_Run], values: Sequence[Value], *, applies: Applies = lambda run: True
) -> FairnessCheck:
    applicable = [(run, value) for run, value in zip(runs, values, strict=True) if applies(run)]
    recorded = [(run, value) for run, value in applicable if not isinstance(value, _Unsaid)]
    texts = tuple(_text(value) if applies(run) else NOT_APPLICABLE for run, value in zip(runs, values, strict=True))
    if not _alike(name, recorded):
        return FairnessCheck(name=name, status="differs", values=texts)
    return FairnessCheck(name=name, status="same" if len(recorded) == len(applicable) else "unknown", values=texts)


def _alike(name: str, recorded: Sequence[tuple[_Run, Value]]) -> bool:
    """Whether all runs have one value or, for what a seed decides, the runs of every arm have the same values."""
    if len({value for _, value in recorded}) <= 1:
        return True
    arms: dict[int | None, Counter[Value]] = {}
    for run, value in recorded:
        arms.setdefault(run.arm, Counter())[value] += 1
    alike = all(values == next(iter(arms.values())) for values in arms.values())
    return name in SEEDED and None not in arms and alike


def _text(value: Value) -> str:
    if isinstance(value, _Unsaid):
        return value.text
    if value is None:
        return "none"
    text = str(value)
    return text[:DIGEST_LENGTH] if len(text) == 64 and HEXADECIMAL.issuperset(text) else text
