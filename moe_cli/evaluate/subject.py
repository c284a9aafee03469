"""What is evaluated: where the answers come from, what the model was trained on, which experts were selected.

Selected experts are the union of the batches that train, the same for both arms of one prepare run. What cannot be
found is None, never an empty selection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.examples import examples_of
from moe_cli.artifacts.files import naming_file
from moe_cli.codec import decode
from moe_cli.config import MoeConfig
from moe_cli.data.contamination import BY_WORDS, goals_trained_on, trained_goals
from moe_cli.data.source_names import kind_and_source, source_of
from moe_cli.evaluate.given_answers import GivenAnswers
from moe_cli.evaluate.target import EvaluationTarget
from moe_cli.records import AnswerFile, AnswerServer, EvaluationItem, ModelIdentity, Notice, TrainingSummary

NO_MODEL = "these answers come without one"  # why nothing is asked of a model
NOT_HERE = "an endpoint answers, whose weights are not here"
IMPORTED = "imported"  # the training mode of answers that were made elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Where the answers come from, for the summary."""

    model: ModelIdentity | None  # None: no weights were loaded
    run: Path | None
    training_mode: str
    base: ModelIdentity | None
    epochs: int | None
    generation: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)  # empty: not known
    name: str | None = None  # where no weights were loaded
    answer_files: tuple[AnswerFile, ...] = ()
    unanswered: int | None = None
    server: AnswerServer | None = None


def subject_of_files(config: MoeConfig, given: GivenAnswers) -> Subject:
    """Subject of answers from files: neither weights nor settings are known."""
    return Subject(
        model=None,
        run=None,
        training_mode=IMPORTED,
        base=None,
        epochs=given.epochs,
        name=name_of_files(config),
        answer_files=given.files,
        unanswered=given.unanswered,
    )


def name_of_files(config: MoeConfig) -> str:
    """Name after the answer files, such as `completions`; `moe compare` finds the evaluation under it."""
    names = [Path(source_of(kind_and_source(argument)[1]).place).stem for argument in config.evaluate.answers]
    return layout.file_stem("+".join(names))


def selected_experts_of(run: FinishedRun, store: Store) -> NDArray[np.bool_] | None:
    """bool [L, E]: experts that any batch of the training selected; L are the expert layers in order.

    A selective run holds the masks itself. For a baseline they are read from its prepare run: None where that is not
    registered, gone or changed.

    Raises:
        ArtifactError: a file of the training run, or the masks of the prepare run, are damaged.
    """
    metadata = run.file(layout.METADATA)
    training = decode(TrainingSummary, metadata.read_bytes(), source=str(metadata))
    holder = run if training.training_mode == "selective_experts" else store.with_digest(training.prepared, "prepare")
    if holder is None:
        return None
    num_training = int(training.hyperparameters["num_batches"] or 0)  # those held out stand behind them
    with naming_file(file := holder.file(layout.MASKS)):
        selected_LE: NDArray[np.bool_] = np.load(file, allow_pickle=False)[:num_training].any(axis=0)
    return selected_LE


def count_trained_goals(
    target: EvaluationTarget, asked: Sequence[EvaluationItem], store: Store, notify: Callable[[object], None]
) -> tuple[int, int] | None:
    """How many of the evaluated goals were trained on, and how many goals there are.

    None for a bare model, or where its examples are not found.
    """
    training = examples_of(target.training, store) if target.training else None
    if training is None:
        if target.training is not None:
            reason = "its prepare run is not registered here, or its examples are gone or changed"
            notify(Notice(text=f"how many of the evaluated goals were trained on is not known: {reason}", warning=True))
        return None
    num_trained, num_evaluated = goals_trained_on(trained_goals(training.examples, training.plain_forms), asked)
    if num_trained:
        count = f"{num_trained} of the {num_evaluated} evaluated goals were trained on ({BY_WORDS})"
        notify(Notice(text=f"{count}: these answers show what was taught", warning=True))
    return num_trained, num_evaluated
