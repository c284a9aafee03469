"""The summary of a training run: the content of `training_metadata.json`, and how the loss fell by turn. Pure.

Every number is counted or measured in this run; the names of the original file are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from moe_cli.ranks import num_ranks
from moe_cli.records import Arm, Masking, ModelIdentity, StepRecord, TrainingSummary, TurnLoss, TurnTraining
from moe_cli.records.training import MODES, OF_EXPERTS, RouterTraining
from moe_cli.train.arguments import Hyperparameters
from moe_cli.train.arm_setup import ArmSetup
from moe_cli.train.fitting import FitResult
from moe_cli.train.prepared_run import PreparedRun

NUM_BATCHES_SHOWN = 3
NOTES: dict[Masking | None, str] = {
    "update": "only the selected expert MLPs trained; each batch updated its own experts",
    "none": "only the selected expert MLPs trained; every batch updated all of them",
    None: "standard training of all parameters on the same batches",
}
LIKE_PLAIN = "trained to route attacked goals like plain ones"
AND_ROUTERS = f"; in turn with the experts, the routers {LIKE_PLAIN}"
WITH_ROUTERS = "; in the same steps the routers, by one loss: cross-entropy + {weight:g} x their consistency"
ROUTERS_ALONE = f"no expert trained; the routers {LIKE_PLAIN}"


def _of_routers(routers: RouterTraining | None) -> str:
    if routers is None:
        return ""
    return WITH_ROUTERS.format(weight=routers.joint_weight) if routers.joint else AND_ROUTERS


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
    routers: RouterTraining | None = None,
) -> TrainingSummary:
    """The content of `training_metadata.json`."""
    alone = routers is not None and routers.alone
    batches = prepared.selection.batches if arm in OF_EXPERTS and not alone else None
    steps = [step for step in fitted.steps if step.phase != "router"]
    of_routers = [step for step in fitted.steps if step.phase == "router"]
    return TrainingSummary(
        training_mode=MODES[arm],
        base=base,
        trained_fingerprint=trained_fingerprint,
        prepared=prepared.run.digest,
        batches_digest=prepared.examples_digest,
        schedule_digest=schedule,
        total_unique_unsafe_experts=len(setup.trained_experts) if arm in OF_EXPERTS else None,
        per_batch_unsafe_expert_counts=None if batches is None else tuple(map(len, batches)),
        batch_unsafe_experts_summary=None if batches is None else batches[:NUM_BATCHES_SHOWN],
        count=setup.count,
        trainable_params=setup.count.trainable_params,
        total_params=setup.count.total_params,
        trainable_ratio=setup.count.trainable_ratio,
        note=ROUTERS_ALONE if alone else NOTES[masking] + _of_routers(routers),
        masking=None if alone else masking,
        hyperparameters=shared,
        num_steps=len(steps),
        validation=fitted.validation,
        final_step=fitted.final_step,
        num_answer_tokens=sum(step.num_answer_tokens for step in steps),
        num_tokens=sum(step.num_tokens for step in steps),
        num_padded_tokens=sum(step.num_padded_tokens for step in steps),
        final_loss=mean_loss(last_epoch(steps)) if steps else None,
        seconds_training=sum(step.seconds for step in fitted.steps) + sum(phase.seconds for phase in fitted.phases),
        peak_memory_bytes=fitted.peak_memory_bytes,
        peak_memory_of=fitted.peak_memory_of,
        experts_implementation=setup.implementation,
        experts_dtype=fitted.experts_dtype,
        num_threads=num_threads,
        proof=fitted.proof,
        num_ranks=num_ranks(),
        gradient_bytes=sum(step.gradient_bytes for step in fitted.steps),
        routers=routers,
        phases=fitted.phases,
        num_router_tokens=sum(phase.num_tokens for phase in fitted.phases)
        + sum(step.num_tokens for step in of_routers),
        turns=turn_trainings(steps),
    )


def turn_trainings(steps: Sequence[StepRecord]) -> tuple[TurnTraining, ...]:
    """How the loss on the answers fell by turn; empty unless there are steps and each has it by turn."""
    if not (steps and all(step.turns for step in steps)):
        return ()
    last = last_epoch(steps)
    first = _first_epoch(steps) if len(last) < len(steps) else []  # of a single epoch it would be the same
    turns = sorted({measured.turn for step in last for measured in step.turns})
    return tuple(_turn_training(turn, first, last) for turn in turns)


def _turn_training(turn: int, first: Sequence[StepRecord], last: Sequence[StepRecord]) -> TurnTraining:
    before, after = ([one for step in steps for one in step.turns if one.turn == turn] for steps in (first, last))
    return TurnTraining(
        turn=turn,
        num_rows=sum(measured.num_rows for measured in after),
        num_answer_tokens=sum(measured.num_answer_tokens for measured in after),
        first_loss=mean_loss(before) if before else None,
        final_loss=mean_loss(after),
    )


def _first_epoch(steps: Sequence[StepRecord]) -> list[StepRecord]:
    return [step for step in steps if step.epoch <= ceil(steps[0].epoch)]


def last_epoch(steps: Sequence[StepRecord]) -> list[StepRecord]:
    """The steps of the last epoch; there is one."""
    return [step for step in steps if step.epoch > steps[-1].epoch - 1]


def mean_loss(measured: Sequence[StepRecord] | Sequence[TurnLoss]) -> float:
    """Mean over all their answer tokens."""
    return sum(one.loss * one.num_answer_tokens for one in measured) / sum(one.num_answer_tokens for one in measured)
