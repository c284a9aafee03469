"""What the alternating arm is given beside the rest: the order of its phases, its learning rates, pairs and targets.

A run is R rounds of expert epochs and router epochs, or of joint epochs, in which both train. Everything is a function
of the number of steps done, so that a resumed run needs nothing else. Experts and routers have one linear schedule each
over the whole run: a step of the others does not move it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from math import ceil
from typing import Protocol

import numpy as np
import torch
from transformers import get_linear_schedule_with_warmup

from moe_cli.artifacts import FinishedRun
from moe_cli.config import AlternatingConfig, MoeConfig
from moe_cli.experts.router_masters import RouterMasters
from moe_cli.model.load import LoadedModel
from moe_cli.ranks import on_first
from moe_cli.records import Expert, Notice, RoundSelection
from moe_cli.records.manifest import Notify
from moe_cli.records.training import Phase, RouterTraining
from moe_cli.train.arguments import WARMUP_CAP, batches_per_step
from moe_cli.train.dataset import FixedBatches, drawn_order, epoch_order
from moe_cli.train.paired_rows import PairedBatch, paired_batches
from moe_cli.train.prepared_run import PreparedRun

Reselect = Callable[[Collection[Expert]], RoundSelection]  # of the experts that have trained
ExpertsOfBatches = tuple[tuple[Expert, ...], ...]
LEAST_MOVE = 0.001  # of the median weight; below it the routers hardly train


@dataclass(frozen=True, slots=True)
class AlternatingEpoch:
    """One pass over the batches."""

    phase: Phase
    round: int  # 1 for the first
    number: int  # 0 for the first of its phase in the whole run
    in_round: int  # 0 for the first of its phase in the round

    def order(self, num_batches: int, seed: int) -> list[int]:
        """The order of the batches: where experts train, that of the other arms."""
        if self.phase == "router":
            return drawn_order(num_batches, f"router {seed} {self.round} {self.in_round}")
        return epoch_order(num_batches, seed, self.number)

    def trains(self, kind: Phase) -> bool:
        """Whether experts, or routers, train in it."""
        return self.phase in (kind, "joint")


@dataclass(frozen=True)
class AlternatingSchedule:
    """All epochs of a run, in order."""

    num_rounds: int
    expert_epochs: int  # of each round
    router_epochs: int
    steps_per_epoch: int
    joint: bool = False  # the routers train in the experts' epochs

    @cached_property
    def epochs(self) -> tuple[AlternatingEpoch, ...]:
        """Every pass over the batches."""
        return tuple(
            AlternatingEpoch(phase, index + 1, index * num_epochs + in_round, in_round)
            for index in range(self.num_rounds)
            for phase, num_epochs in self._epochs_of_round
            for in_round in range(num_epochs)
        )

    @property
    def _epochs_of_round(self) -> tuple[tuple[Phase, int], ...]:
        return ("joint" if self.joint else "experts", self.expert_epochs), ("router", self.router_epochs)

    def epoch_of(self, step: int) -> AlternatingEpoch:
        """The epoch of the step after `step` steps; after the last one, the last epoch."""
        return self.epochs[min(step // self.steps_per_epoch, len(self.epochs) - 1)]

    def num_steps(self, phase: Phase) -> int:
        """Steps of all phases in which this kind trains."""
        return self.steps_per_epoch * sum(epoch.trains(phase) for epoch in self.epochs)

    def num_done(self, phase: Phase, step: int) -> int:
        """Steps of this kind among the first `step`."""
        whole, begun = divmod(step, self.steps_per_epoch)
        done = self.steps_per_epoch * sum(epoch.trains(phase) for epoch in self.epochs[:whole])
        return done + (begun if whole < len(self.epochs) and self.epochs[whole].trains(phase) else 0)

    def span(self, step: int) -> tuple[int, int]:
        """First and last step (1 for the first of the run) of the phase that the step after `step` steps is in."""
        of = self.epoch_of(step)
        inside = [i for i, epoch in enumerate(self.epochs) if (epoch.phase, epoch.round) == (of.phase, of.round)]
        return inside[0] * self.steps_per_epoch + 1, (inside[-1] + 1) * self.steps_per_epoch

    def rate(self, phase: Phase, warmup_steps: int) -> Callable[[int], float]:
        """The part of the peak learning rate that holds after so many steps of the run."""
        linear = linear_schedule(warmup_steps, self.num_steps(phase))
        return lambda step: linear(self.num_done(phase, step))


def linear_schedule(warmup_steps: int, num_steps: int) -> Callable[[int], float]:
    """The part of the peak learning rate after so many steps, as transformers' linear schedule has it."""
    nothing = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rate: Callable[[int], float] = get_linear_schedule_with_warmup(nothing, warmup_steps, num_steps).lr_lambdas[0]
    return rate


def schedule_of(settings: AlternatingConfig, steps_per_epoch: int) -> AlternatingSchedule:
    """The schedule that the settings ask for."""
    return AlternatingSchedule(
        num_rounds=settings.num_rounds,
        expert_epochs=settings.expert_epochs,
        router_epochs=settings.router_epochs,
        steps_per_epoch=steps_per_epoch,
        joint=settings.joint,
    )


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
        f"a router's weight can move by about {routers.largest_move:.2g} in {routers.num_steps} steps, "
        f"{100 * moved:.2g} % of the median weight ({routers.median_weight:.2g}): the routers hardly train; raise "
        "--router-lr"
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
