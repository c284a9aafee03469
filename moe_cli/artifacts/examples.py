"""What a training takes of its prepare run: the selection of the batches that train, and the examples behind it.

The examples are exactly the bytes that the run was trained on, with the plain forms of their goals; if the prepare run
is not registered, gone or changed, there are none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import naming_file
from moe_cli.artifacts.finished import FinishedRun
from moe_cli.artifacts.registry import Store
from moe_cli.codec import decode_lines
from moe_cli.errors import UsageError
from moe_cli.records import Message, Selection, TrainingExample, TrainingSummary


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """The inputs of a training run."""

    examples: tuple[TrainingExample, ...]  # the fixed batches of the prepare run, those held out included
    plain_forms: dict[str, tuple[Message, ...]] = field(default_factory=dict)  # of pairs, by their id


def require_trainable(selection: Selection, num_held_out: int) -> Selection:
    """The selection without its last `num_held_out` batches, and without experts that only those selected.

    Raises:
        UsageError: no batch is left to train on.
    """
    num_batches = len(selection.batches)
    if num_held_out == 0:
        return selection
    if num_held_out >= num_batches:
        raise UsageError(
            f"train.validation_batches is {num_held_out}, but the prepare run has {num_batches} batches; none is left",
            hint=f"hold out at most {num_batches - 1}, or prepare with more pairs",
        )
    batches = selection.batches[: num_batches - num_held_out]
    chosen = {expert for experts in batches for expert in experts}
    union = tuple(expert for expert in selection.union if expert in chosen)
    return replace(
        selection,
        batches=batches,
        union=union,
        trainable_params=len(union) * selection.params_per_expert,
        trainable_ratio=selection.trainable_ratio * len(union) / max(1, len(selection.union)),
        evidence=tuple(evidence for evidence in selection.evidence if evidence.expert in chosen),
        null_union=None,  # it is of all batches, as the next one
        separation=None,
    )


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
