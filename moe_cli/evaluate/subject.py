"""Where the answers of an evaluation come from, and what is known of the model that gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moe_cli.artifacts import layout
from moe_cli.config import MoeConfig
from moe_cli.data.source_names import kind_and_source, source_of
from moe_cli.evaluate.given_answers import GivenAnswers
from moe_cli.records import AnswerFile, AnswerServer, ModelIdentity
from moe_cli.records.ablation import Steering
from moe_cli.records.training import IMPORTED, TrainingMode

NO_MODEL = "these answers come without one"  # why nothing is asked of a model
NOT_HERE = "an endpoint answers, whose weights are not here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Where the answers come from, for the summary."""

    model: ModelIdentity | None  # None: no weights were loaded
    run: Path | None
    training_mode: TrainingMode
    base: ModelIdentity | None
    epochs: int | None
    generation: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)  # empty: not known
    name: str | None = None  # where no weights were loaded
    answer_files: tuple[AnswerFile, ...] = ()
    unanswered: int | None = None
    server: AnswerServer | None = None
    steering: Steering | None = None
    unsteered_fingerprint: str | None = None  # where the router was steered


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
