"""The training examples behind a training run, with the plain forms of their goals.

They are exactly the bytes that the run was trained on; if the prepare run is not registered, gone or changed, there are
none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import naming_file
from moe_cli.artifacts.finished import FinishedRun
from moe_cli.artifacts.registry import Store
from moe_cli.codec import decode_lines
from moe_cli.records import Message, TrainingExample, TrainingSummary


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """The inputs of a training run."""

    examples: tuple[TrainingExample, ...]  # the fixed batches of the prepare run, those held out included
    plain_forms: dict[str, tuple[Message, ...]] = field(default_factory=dict)  # of pairs, by their id


def examples_of(training: TrainingSummary, store: Store) -> TrainingInputs | None:
    """The examples of the prepare run; None if it is not registered, gone or changed."""
    run = store.with_digest(training.prepared, "prepare")
    name, answers = layout.training_examples(training.base.name), layout.batch_outputs(training.base.name)
    if run is None or run.manifest.files.get(name) != training.batches_digest or not run.is_whole(name):
        return None
    if answers in run.manifest.files and not run.is_whole(answers):
        return None
    return TrainingInputs(
        tuple(decode_lines(TrainingExample, run.path / name)), plain_forms_of(run, training.base.name)
    )


def plain_forms_of(prepared: FinishedRun, model_name: str) -> dict[str, tuple[Message, ...]]:
    """The plain form of every pair of a prepare run, by its id; empty where it wrote no answers.

    Raises:
        ArtifactError: the answers are gone or changed.
    """
    if layout.batch_outputs(model_name) not in prepared.manifest.files:
        return {}
    return _plain_forms(prepared.file(layout.batch_outputs(model_name)))


def _plain_forms(file: Path) -> dict[str, tuple[Message, ...]]:
    import pyarrow.parquet as pq  # here, as every other command starts without it

    with naming_file(file), file.open("rb") as content:
        rows = pq.read_table(content, columns=["source_id", "messages"], filters=[("side", "=", "safe")]).to_pylist()
        return {row["source_id"]: tuple(Message(**turn) for turn in row["messages"]) for row in rows}
