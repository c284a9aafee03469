"""What a training run starts from: a prepare run of the same model, and a directory of its own.

A selection made on other weights is refused. The selection is that of the batches that train. The baseline never writes
where a selective run lies or will lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts import FinishedRun, RunWriter, Store, finished_run, layout, state_of
from moe_cli.artifacts.examples import plain_forms_of, require_trainable
from moe_cli.artifacts.files import sha256_of
from moe_cli.artifacts.finished import kind_in
from moe_cli.artifacts.registry import describe_change, require_unchanged_run
from moe_cli.codec import decode_lines
from moe_cli.config import MoeConfig
from moe_cli.data.contamination import clusters_trained_on, trained_goals
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.model.same_machine import require_shared
from moe_cli.ranks import is_first, num_ranks, on_first
from moe_cli.records import Arm, Message, ModelIdentity, Notice, Selection, TrainingExample
from moe_cli.records.manifest import Notify

# transformers 5.24 reads some converted weights so that the shares, put together, are not those of the checkpoint.
OR_WRONG_SHARES = "; if that is done, transformers puts shares of this one together wrongly: --placement replicated"


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What training uses of a prepare run."""

    run: FinishedRun
    selection: Selection  # of the batches that train
    examples: tuple[TrainingExample, ...]  # of the batches that train
    held_out: tuple[TrainingExample, ...]  # of the last batches, without goals that train
    examples_digest: str  # sha256 of the file: equal in both arms


def prepared_run(
    config: MoeConfig, store: Store, base: ModelIdentity, writer: RunWriter, notify: Notify
) -> PreparedRun:
    """The prepare run that the user named, or that the interrupted run used; else the newest one of this very model.

    Of several processes the first finds it, and the others read the same one.

    Raises:
        ArtifactError: there is none, it is damaged, or it was made on another model.
        EnvironmentFaultError: a process does not see it.
        UsageError: no batch is left to train on.
    """
    run = on_first(lambda: _newest_or_requested(config, store, base, writer, notify))
    manifest = run.path / layout.MANIFEST
    require_shared(manifest, lambda: manifest.is_file() and sha256_of(manifest) == run.digest)
    selection = run.record(layout.SELECTION, Selection)
    if is_first():
        writer.remember("prepared", run.path)
    name = layout.training_examples(selection.base.name)
    trains = require_trainable(selection, config.train.validation_batches)
    examples, held_out = split_held_out(
        tuple(decode_lines(TrainingExample, run.file(name))),
        len(trains.batches),
        notify,
        plain_forms_of(run, selection.base.name),
    )
    return PreparedRun(
        run=run,
        selection=trains,
        examples=examples,
        held_out=held_out,
        examples_digest=run.manifest.files[name],
    )


def _newest_or_requested(
    config: MoeConfig, store: Store, base: ModelIdentity, writer: RunWriter, notify: Notify
) -> FinishedRun:
    """As `prepared_run`, without its content."""
    requested = config.train.prepared or writer.remembered("prepared")
    run = (
        require_unchanged_run(requested, store, "prepare")
        if requested is not None
        else store.newest("prepare", base_fingerprint=base.fingerprint)
    )
    if (
        requested is None
        and (changed := describe_change(store, "prepare", base_fingerprint=base.fingerprint)) is not None
    ):
        require_unchanged_run(changed, store, "prepare")  # says what changed
    if run is None and (other := _newest_of_name(store, base.name)) is not None:
        _refuse_other_model(other, base)
    if run is None:
        raise ArtifactError(
            f"there is no prepare run of {base.name} in {store.registry}",
            hint=f"run moe prepare --model-name {base.name} first, or name one with --prepared",
        )
    if requested is None:
        notify(Notice(text=f"using the newest prepare run of this model: {run.path}"))
    _refuse_other_model(run.record(layout.SELECTION, Selection).base, base)
    return run


def params_of_union(named: Path | None) -> int:
    """Parameters of the experts that a prepare run has selected; 0 where none is named yet."""
    return finished_run(named, "prepare").record(layout.SELECTION, Selection).trainable_params if named else 0


def split_held_out(
    examples: Sequence[TrainingExample],
    num_training: int,
    notify: Notify,
    plain_forms: Mapping[str, Sequence[Message]] | None = None,
) -> tuple[tuple[TrainingExample, ...], tuple[TrainingExample, ...]]:
    """Split the examples: those of the batches that train, and those of the last batches whose goals do not train.

    A goal trains if its cluster does, or if a training example holds its words. `plain_forms` are those of the pairs.

    Raises:
        UsageError: every held-out example is of a goal that trains, too.
    """
    training = tuple(example for example in examples if example.batch_idx < num_training)
    last = [example for example in examples if example.batch_idx >= num_training]
    trained_clusters = {example.cluster for example in training}
    trained_clusters |= clusters_trained_on(
        trained_goals(training, plain_forms), [(example.cluster, example.messages) for example in last]
    )
    held_out = tuple(example for example in last if example.cluster not in trained_clusters)
    if last and not held_out:
        raise UsageError(
            f"the goals of all {len(last)} held-out examples are in the training batches, too: they would measure "
            "what was learnt by heart",
            hint="hold out more batches, prepare with fewer attacks per goal, or without train.validation_batches",
        )
    if len(held_out) < len(last):
        left_out = len(last) - len(held_out)
        notify(Notice(text=f"{left_out} of {len(last)} held-out examples share a goal with training and are left out"))
    return training, held_out


def output_directory(config: MoeConfig, arm: Arm, notify: Notify) -> Path:
    """Where the arm writes; the baseline moves to `D_baseline` where D is, or holds, a selective run."""
    if arm == "selective":
        return config.train.selective_dir
    if arm == "alternating":
        return config.alternating.output_dir
    configured = config.train.baseline_dir
    if configured.resolve() != config.train.selective_dir.resolve() and kind_in(configured) != "selective":
        return configured
    alternative = layout.beside(configured, "_baseline")
    notify(
        Notice(text=f"{configured} belongs to a selective run; the baseline is written to {alternative}", warning=True)
    )
    return alternative


def _newest_of_name(store: Store, name: str) -> ModelIdentity | None:
    """The model of the newest prepare run that was made on a model of this name."""
    records = [
        record for record in store.records("prepare") if record.model_name == name and state_of(record) == "complete"
    ]
    return finished_run(Path(records[-1].path), "prepare").record(layout.SELECTION, Selection).base if records else None


def _refuse_other_model(made_on: ModelIdentity, base: ModelIdentity) -> None:
    if made_on.fingerprint == base.fingerprint:
        return
    if made_on.dtype != base.dtype:
        raise ArtifactError(
            f"this selection was made in {made_on.dtype}, but {base.name} is loaded in {base.dtype}",
            hint=f"give every command the same dtype, such as --set model.dtype={made_on.dtype}",
        )
    shapes = [f"{len(m.layers)} layers of {m.num_experts} experts" for m in (made_on, base)]
    difference = (
        f"{shapes[0]}, but {base.name} has {shapes[1]}"
        if shapes[0] != shapes[1]
        else (f"the weights {made_on.fingerprint[:12]} ({made_on.name}), but {base.name} has {base.fingerprint[:12]}")
    )
    raise ArtifactError(
        f"this selection is for {difference}",
        hint="run moe prepare on this model" + (OR_WRONG_SHARES if num_ranks() > 1 else ""),
    )
