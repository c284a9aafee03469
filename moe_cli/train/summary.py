"""The training run in one record: `training_metadata.json`.

Comes in: what was planned and what happened. Goes out: `TrainingSummary`. Always holds: every number is counted or
measured in this run; the names of the original file are kept. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from moe_cli.records import Arm, Masking, ModelIdentity, StepRecord, TrainingSummary
from moe_cli.train.arguments import Hyperparameters
from moe_cli.train.arms import ArmSetup
from moe_cli.train.fitting import FitResult
from moe_cli.train.inputs import PreparedRun

NOTES: dict[Masking | None, str] = {
    "update": "only the selected expert MLPs trained; each batch updated its own experts",
    "none": "only the selected expert MLPs trained; every batch updated all of them",
    None: "standard training of all parameters on the same batches",
}
NUM_BATCHES_SHOWN = 3


def training_summary(
    arm: Arm,
    base: ModelIdentity,
    masking: Masking | None,
    prepared: PreparedRun,
    setup: ArmSetup,
    fitted: FitResult,
    *,
    trained_fingerprint: str,
    shared: Hyperparameters,
    schedule: str,
    num_threads: int,
) -> TrainingSummary:
    """Everything that `training_metadata.json` holds."""
    selection = prepared.selection if arm == "selective" else None
    return TrainingSummary(
        training_mode="selective_experts" if selection else "full_model_baseline",
        base=base,
        trained_fingerprint=trained_fingerprint,
        prepared=prepared.run.digest,
        batches_digest=prepared.examples_digest,
        schedule_digest=schedule,
        total_unique_unsafe_experts=len(selection.union) if selection else None,
        per_batch_unsafe_expert_counts=tuple(map(len, selection.batches)) if selection else None,
        batch_unsafe_experts_summary=selection.batches[:NUM_BATCHES_SHOWN] if selection else None,
        count=setup.count,
        trainable_params=setup.count.trainable_params,
        total_params=setup.count.total_params,
        trainable_ratio=setup.count.trainable_ratio,
        note=NOTES[masking],
        masking=masking,
        hyperparameters=shared,
        num_steps=len(fitted.steps),
        validation=fitted.validation,
        final_step=fitted.final_step,
        num_answer_tokens=sum(step.num_answer_tokens for step in fitted.steps),
        num_tokens=sum(step.num_tokens for step in fitted.steps),
        num_padded_tokens=sum(step.num_padded_tokens for step in fitted.steps),
        final_loss=_last_epoch_loss(fitted.steps),
        seconds_training=sum(step.seconds for step in fitted.steps),
        peak_memory_bytes=fitted.peak_memory_bytes,
        peak_memory_of=fitted.peak_memory_of,
        experts_implementation=setup.implementation,
        experts_dtype=fitted.experts_dtype,
        num_threads=num_threads,
        proof=fitted.proof,
    )


def _last_epoch_loss(steps: Sequence[StepRecord]) -> float:
    """Mean over the answer tokens of the last epoch."""
    last = [step for step in steps if step.epoch > steps[-1].epoch - 1]
    return sum(step.loss * step.num_answer_tokens for step in last) / sum(step.num_answer_tokens for step in last)
