"""What one arm needs where its plan is asked for, and the changes of settings with which it would fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from moe_cli.activity import begin_activity
from moe_cli.bench.fake_step import StepShape, ValuesNeededError, follow_step
from moe_cli.bench.rank_needs import ModelSizes, rank_needs
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.model.skeleton import meta_model
from moe_cli.records import Arm, Expert, RankNeed, Remedy, StepMemory

ARMS: tuple[Arm, ...] = ("selective", "baseline", "alternating")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequest:
    """What the command line asks for beside the settings."""

    per_layer: int | None = None  # experts of the union in every layer; None: by the prepare run, else by the budget
    length: int | None = None  # tokens of a row; None: train.max_length
    num_batches: int | None = None  # None: those of the prepare run
    memory: int | None = None  # bytes that one process has; None: those of this machine
    memory_is_shared: bool = False  # by all processes, as the memory of this machine is where it has no card
    targets: int = 0  # bytes of the alternating arm's targets in the memory of the host
    ranks: tuple[int, ...] = (1, 2, 4, 8)
    benchmark: Path | None = None  # a record of `moe bench`
    arms: tuple[Arm, ...] = ARMS

    def bytes_beside(self, step: StepMemory) -> int:
        """What a process holds beside the peak of its steps where its memory is that of the host."""
        return step.host + self.targets if self.memory_is_shared else 0


def followed_step(
    arm: Arm, config: MoeConfig, dtype: torch.dtype, union: Sequence[Expert], shape: StepShape
) -> tuple[StepMemory | None, str | None]:
    """The bytes of a step, or why they are not known."""
    with begin_activity(f"following a step of the {arm} arm"):
        try:
            own = config.model.model_copy(update={"dtype": str(dtype).removeprefix("torch.")})
            return follow_step(arm, meta_model(own), union, shape), None
        except ValuesNeededError as error:
            return None, f"the model's own code asks for values, so no step can be followed without them: {error}"
        except UsageError as error:
            if arm != "alternating":
                raise
            return None, f"this arm cannot train the model: {error.message}"


def needs_of_ranks(
    arm: Arm, config: MoeConfig, sizes: ModelSizes, step: StepMemory, shape: StepShape, request: ResourceRequest
) -> tuple[RankNeed, ...]:
    """What each process of several needs that take such steps."""
    needs = rank_needs(
        arm,
        config,
        sizes,
        step,
        shape,
        ranks=request.ranks,
        memory=request.memory or 0,
        is_shared=request.memory_is_shared,
        beside=request.bytes_beside(step),
        num_batches=request.num_batches,
    )
    return tuple(needs)


def remedies(
    arm: Arm,
    config: MoeConfig,
    sizes: ModelSizes,
    union: Sequence[Expert],
    shape: StepShape,
    request: ResourceRequest,
    *,
    may_share: bool,
) -> Iterator[Remedy]:
    """Changes of settings in the order of what they cost, up to the first with which one process fits.

    If none does, the last is the number of processes that fit, or the largest one, where they share the weights beside
    the changes that help most.
    """
    checkpointing, smallest = replace(shape, checkpointing=True), replace(shape, forward_tokens=shape.length)
    of_checkpointing = "train.gradient_checkpointing=true"
    of_forwards = f"train.max_forward_tokens={shape.length}"
    both = replace(smallest, checkpointing=True)
    tries = [
        ((of_checkpointing,), sizes.dtype, checkpointing),
        ((of_forwards,), sizes.dtype, smallest),
        ((of_checkpointing, of_forwards), sizes.dtype, both),
    ]
    if sizes.dtype is torch.float32:
        tries.append(((of_checkpointing, of_forwards, "model.dtype=bfloat16"), torch.bfloat16, both))
    memory, tried = request.memory or 0, []
    for settings, dtype, changed in tries:
        if changed == shape and dtype is sizes.dtype:
            continue
        step, _ = followed_step(arm, config, dtype, union, changed)
        if step is None:
            return
        fits = step.peak + request.bytes_beside(step) <= memory
        yield Remedy(settings=settings, peak=step.peak, fits=fits)
        if fits:
            return
        tried.append((step, settings, dtype, changed))
    several = tuple(sorted(number for number in request.ranks if number > 1))
    if tried and may_share and several:
        step, settings, dtype, changed = min(tried, key=lambda one: one[0].peak)
        own = replace(sizes, dtype=dtype)
        needs = needs_of_ranks(arm, config, own, step, changed, replace(request, ranks=several))
        shared = [need for need in needs if need.placement == "sharded"]
        best = next((need for need in shared if need.fits), shared[-1])
        more = (*settings, "train.placement=sharded")
        yield Remedy(settings=more, peak=best.peak, fits=best.fits, ranks=best.ranks)
