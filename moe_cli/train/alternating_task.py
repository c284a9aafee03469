"""What the alternating arm is given beside the rest: its rounds, its pairs, what its routers train to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from math import ceil
from typing import Protocol

import numpy as np

from moe_cli.artifacts import FinishedRun
from moe_cli.config import AlternatingConfig, MoeConfig
from moe_cli.experts.router_masters import RouterMasters
from moe_cli.model.load import LoadedModel
from moe_cli.ranks import on_first
from moe_cli.records import Expert, Notice, RoundSelection
from moe_cli.records.manifest import Notify
from moe_cli.records.training import RouterTraining
from moe_cli.train.alternating_schedule import AlternatingSchedule, linear_schedule, schedule_of
from moe_cli.train.alternating_trainer import Reselect
from moe_cli.train.arguments import WARMUP_CAP, batches_per_step
from moe_cli.train.dataset import FixedBatches
from moe_cli.train.paired_rows import PairedBatch, paired_batches
from moe_cli.train.prepared_run import PreparedRun

ExpertsOfBatches = tuple[tuple[Expert, ...], ...]
LEAST_MOVE = 0.001  # of the median weight; below it the routers hardly train


class ReselectExperts(Protocol):
    """Selects the experts of every batch anew, between two rounds."""

    @property
    def refuse(self) -> Callable[[FinishedRun], None]:
        """Refuse, before anything trains, a prepare run whose selection cannot be made anew."""
        ...

    @property
    def select(self) -> Callable[[LoadedModel, FinishedRun, Collection[Expert], Notify], RoundSelection]:
        """Select the experts of every batch for the model as it is now; also given the experts of earlier rounds."""
        ...


@dataclass(frozen=True, slots=True)
class AlternatingTask:
    """What the alternating arm needs beside the rest."""

    schedule: AlternatingSchedule
    paired: tuple[PairedBatch, ...]
    settings: AlternatingConfig
    warmup_steps: int  # of the routers' schedule
    reselect: Reselect | None  # before every round but the first


def with_rounds(config: MoeConfig) -> MoeConfig:
    """The settings with the epochs on the answers that the rounds have.

    Raises:
        UsageError: settings that the arm cannot train with.
    """
    config.refuse_for_alternating()
    own = config.train.model_copy(update={"num_epochs": config.alternating.num_expert_epochs})
    return config.model_copy(update={"train": own})


def alternating_task(config: MoeConfig, prepared: PreparedRun, batches: FixedBatches) -> AlternatingTask:
    """The schedule and the pairs of an alternating run.

    Raises:
        UsageError: no batch has a pair.
    """
    settings = config.alternating
    schedule = schedule_of(settings, ceil(len(batches) / batches_per_step(config)))
    return AlternatingTask(
        schedule=schedule,
        paired=paired_batches(
            prepared.examples,
            batches,
            max_padding=config.train.max_padding,
            max_tokens=config.train.max_forward_tokens,
            together=settings.consistency_over == "batch",
        ),
        settings=settings,
        reselect=None,
        warmup_steps=min(config.train.warmup_steps, int(WARMUP_CAP * schedule.num_steps("router"))),
    )


def reselecting(
    task: AlternatingTask,
    config: MoeConfig,
    loaded: LoadedModel,
    prepared: PreparedRun,
    reselect: ReselectExperts | None,
    notify: Notify,
) -> AlternatingTask:
    """The task, with what selects the experts anew before a round.

    Raises:
        UsageError: the selection cannot be made anew.
    """
    if reselect is None:
        raise ValueError("nothing was given to select experts anew with (a bug of the caller)")
    on_first(lambda: reselect.refuse(prepared.run))

    def select(trained: Collection[Expert]) -> RoundSelection:
        anew = reselect.select(loaded, prepared.run, trained, notify)
        if not any(anew.batches):
            notify(Notice(text=_none_trains(anew), warning=True))
        return anew

    return replace(task, reselect=select)


def _none_trains(anew: RoundSelection) -> str:
    return (
        "this round trains no expert: none that has trained is selected anew, and the budget of the prepare run has no "
        f"room for the {anew.num_left_out} that are"
    )


def router_layers(config: MoeConfig, loaded: LoadedModel, prepared: PreparedRun) -> list[int]:
    """Decoder layers whose routers train."""
    chosen = {expert.layer for expert in prepared.selection.union}
    every = [layer.layer for layer in loaded.layers]
    return every if config.alternating.consistency_layers == "all" else [layer for layer in every if layer in chosen]


def router_training(routers: RouterMasters, task: AlternatingTask, notify: Notify) -> RouterTraining:
    """What the routers are trained to; a warning where they can hardly move."""
    settings, schedule, warmup_steps = task.settings, task.schedule, task.warmup_steps
    num_steps = schedule.num_steps("router")
    rate = linear_schedule(warmup_steps, num_steps)
    training = RouterTraining(
        num_rounds=settings.num_rounds,
        expert_epochs_per_round=settings.expert_epochs,
        router_epochs_per_round=settings.router_epochs,
        learning_rate=settings.router_learning_rate,
        warmup_steps=warmup_steps,
        num_steps=num_steps,
        largest_move=settings.router_learning_rate * sum(rate(step) for step in range(num_steps)),
        median_weight=routers.median_weight(),
        divergence=settings.kl_type,
        region=settings.consistency_at,
        target=settings.consistency_target,
        over=settings.consistency_over,
        layers=routers.layers,
        keep=settings.keep,
        temperature=settings.temperature,
        num_pairs=sum(len(batch.pairs) for batch in task.paired),
        num_params=sum(master.numel() for master in routers.parameters.values()),
        reselect=settings.reselect,
        joint_weight=settings.router_consistency_weight,
    )
    if (moved := training.largest_move / training.median_weight) < LEAST_MOVE:
        notify(Notice(text=_too_slow(training, moved), warning=True))
    return training


def _too_slow(routers: RouterTraining, moved: float) -> str:
    return (
        f"a router's weight can move by about {routers.largest_move:.2g} in {routers.num_steps} steps, {moved:.2%} of "
        f"the median weight ({routers.median_weight:.2g}): the routers hardly train; raise --router-lr"
    )


def with_selections(masks: bytes, selections: Sequence[ExpertsOfBatches], layers: Sequence[int]) -> bytes:
    """The masks of the prepare run, with what later rounds selected beside; its very bytes where nothing was."""
    if not selections:
        return masks
    masks_BLE = np.load(BytesIO(masks), allow_pickle=False)
    for batches in selections:
        for batch, experts in enumerate(batches):
            for expert in experts:
                masks_BLE[batch, layers.index(expert.layer), expert.index] = True
    content = BytesIO()
    np.save(content, masks_BLE, allow_pickle=False)
    return content.getvalue()
