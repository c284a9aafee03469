"""Cases of training in several processes, and what the processes do in them."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode
from moe_cli.records import StepRecord, TrainingSummary
from moe_cli.train import stage as train
from moe_cli.train.selective_trainer import ExpertMaskingTrainer
from tests.in_ranks import run_in_ranks
from tests.resume_everywhere import train_to_the_end
from tests.train.several_turns import of_several_turns

SAME = {"random generators", "trainer state"}  # what one process has of itself: not compared
NUM_BATCHES, EPOCHS = 6, 2


def all_to_the_end(store: Store, runs: list[tuple]) -> None:
    """In every process: the trainings one after the other."""
    torch.set_num_threads(1)
    for arm, config, last_step, empty in runs:
        with no_experts_in(empty):
            train_to_the_end(arm, config, store, lambda _: None, last_step=last_step)


@contextmanager
def no_experts_in(batches: tuple[int, ...]):
    """Masks that select nothing in these batches, if there are any, on answers of several turns."""
    with masks_without(batches), of_several_turns() if batches else nullcontext():
        yield


def masks_without(batches: tuple[int, ...]):
    """Masks that select nothing in these batches."""
    honest = ExpertMaskingTrainer.mask_with

    def mask_with(trainer, slices, batch_experts):
        honest(trainer, slices, [set() if index in batches else mask for index, mask in enumerate(batch_experts)])

    return patch.object(ExpertMaskingTrainer, "mask_with", mask_with)


ORDERED = {"learning_rate": 5e-5}  # the default; where sums are taken in another order, AdamW makes it a part of that
# settings of one process, of two, the batches without experts, and the largest difference of a weight (0: same bits)
CASES = {
    "accumulation 2": ({"gradient_accumulation_steps": 2}, {}, (), 0.0),
    "odd number of batches": (
        {"gradient_accumulation_steps": 2, "validation_batches": 1, **ORDERED},
        {"validation_batches": 1, **ORDERED},
        (),
        0.0,
    ),
    "different numbers of forwards": (
        {"gradient_accumulation_steps": 2, "max_forward_tokens": 150, **ORDERED},
        {"max_forward_tokens": 150, **ORDERED},
        (),
        1e-6,
    ),
    "two batches in each": (
        {"gradient_accumulation_steps": 4, **ORDERED},
        {"gradient_accumulation_steps": 2, **ORDERED},
        (),
        1e-6,
    ),
    "empty masks": ({"gradient_accumulation_steps": 2}, {}, (0, 1, 4), 0.0),
    "gradient checkpointing": (
        {"gradient_accumulation_steps": 2, "gradient_checkpointing": True},
        {"gradient_checkpointing": True},
        (),
        0.0,
    ),
}


def last_step(settings: dict[str, object]) -> int:
    batches = NUM_BATCHES - int(settings.get("validation_batches", 0))
    return EPOCHS * -(-batches // int(settings["gradient_accumulation_steps"]))


def summary_of(path: Path) -> TrainingSummary:
    file = path / layout.METADATA
    return decode(TrainingSummary, file.read_bytes(), source=str(file))


def stopped_by_a_signal_to(rank: int, step: int, arm, config, store: Store) -> None:
    """In every process: train, and let one of them be asked to stop at the end of a step."""
    from moe_cli.ranks import this_rank

    def ask(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == step and this_rank().index == rank:
            os.kill(os.getpid(), signal.SIGUSR1)

    train.run(arm, config, store, ask)


def resumed(arm, config, store: Store, last: int) -> None:
    """In every process: go on to the end."""
    train_to_the_end(arm, config, store, lambda _: None, last_step=last, resume=True)


def killed_after(rank: int, step: int, arm, config, store: Store, resume: bool) -> None:
    """In every process: train; one of them is gone after a step."""
    from moe_cli.ranks import this_rank

    def kill(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == step and this_rank().index == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    train.run(arm, config, store, kill, resume=resume)


def in_two_processes(experiments, alone: dict, placement: str) -> dict:
    """Every case by one process and by two: the directories of both, by arm and case."""
    runs, pairs = [], {}
    for (arm, name), one in alone.items():
        single, together, empty, _ = CASES[name]
        config = experiments.settings(f"{name}-{placement}", placement=placement, **together)
        runs.append((arm, config, last_step(single), empty))
        pairs[arm, name] = one, one.parent / f"{name}-{placement}"
    ended = run_in_ranks(2, all_to_the_end, experiments.store, runs)
    assert ended.codes == [0, 0], ended.said
    return pairs
