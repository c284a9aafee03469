"""The order of phases in an alternating run, and the learning rates that follow from it.

A run is R rounds of expert epochs and router epochs, or of joint epochs, in which both train. Everything is a function
of the number of steps done, so that a resumed run needs nothing else. Experts and routers have one linear schedule each
over the whole run: a step of the others does not move it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import get_linear_schedule_with_warmup

from moe_cli.config.study_settings import AlternatingConfig
from moe_cli.records.training import Phase
from moe_cli.train.dataset import drawn_order, epoch_order


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
