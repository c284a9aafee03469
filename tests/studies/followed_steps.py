"""Predicted memory of a step against the measured one, for every family and arm.

    python -m tests.studies.followed_steps

`moe plan` follows a step with tensors that have no values; here the same step also runs with random weights, and all
storages that are alive at once are counted.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from moe_cli.bench.bench_model import draw_selection
from moe_cli.bench.fake_step import LiveBytes, StepShape, ValuesNeededError, follow_step, run_step
from moe_cli.config import ModelConfig
from moe_cli.model.foreign_files import auto_class, config_of
from moe_cli.model.skeleton import meta_model
from moe_cli.model.topology import expert_layers
from moe_cli.records import Arm, StepMemory
from tests.experts.checkpoints import openable, written

SHAPE = StepShape(rows=12, length=16, forward_tokens=64, checkpointing=False)  # three forwards
ARMS: tuple[Arm, ...] = ("selective", "baseline", "alternating")
STATE = ("trained_params", "weights", "masters", "gradients", "moments", "saved_by_loss")  # must be equal


def both(directory: Path, arm: Arm, shape: StepShape = SHAPE) -> tuple[StepMemory, StepMemory]:
    """Bytes of a step as predicted, and as measured with random weights."""
    model = meta_model(ModelConfig(name=str(directory)))
    union = draw_selection(expert_layers(model), 2)
    auto, opened = auto_class(config_of(str(directory)))
    with LiveBytes() as live:
        torch.manual_seed(0)
        real = auto.from_config(opened, dtype=torch.float32 if arm == "baseline" else model.dtype)
        measured = run_step(arm, real, model.dtype, union, shape, live)
    return follow_step(arm, model, union, shape), measured


def main() -> None:
    """Print a line for every family and arm, the widest ratios, and how many have other weights or another state."""
    warnings.simplefilter("ignore")
    ratios, others = [], 0
    print("family                arm         saved  peak (predicted / measured), weights and state")
    for family in openable():
        for arm in ARMS:
            with TemporaryDirectory() as directory:
                try:
                    followed, measured = both(written(family, Path(directory)), arm)
                except ValuesNeededError as error:
                    print(f"{family:21} {arm:11} needs values: {error}")
                    continue
            ratios.append((followed.saved / measured.saved, followed.peak / measured.peak))
            same = all(getattr(followed, name) == getattr(measured, name) for name in STATE)
            others += not same
            print(
                f"{family:21} {arm:11} {ratios[-1][0]:.3f}  {ratios[-1][1]:.3f}  {'equal' if same else 'OTHER'}",
                flush=True,
            )
    saved, peaks = zip(*ratios, strict=True)
    print(f"{len(ratios)} of {len(ARMS) * len(openable())}: saved {min(saved):.3f} to {max(saved):.3f}, ", end="")
    print(f"peak {min(peaks):.3f} to {max(peaks):.3f}")
    print(f"weights, masters, gradients and moments differ in {others}")
    sys.exit(others > 0 or max(abs(ratio - 1) for ratio in saved) > 0.15)


if __name__ == "__main__":
    main()
