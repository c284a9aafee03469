"""Alternating runs of two rounds on the tiny model: their settings, and how one ends before its time."""

from __future__ import annotations

import pytest

from moe_cli.errors import StoppedError
from moe_cli.records import StepRecord
from moe_cli.train import stage as train
from tests.resume_everywhere import ask_to_stop_after
from tests.small_experiment import settings_of_small_experiment

WEIGHT = 5.0  # of joint steps
TWO_ROUNDS = {"num_rounds": 2, "router_learning_rate": 1e-3}


def settings_of(experiments, name: str, *, train_settings=None, **alternating):
    """Of a run in the directory `name`, on the prepare run of the experiments."""
    own = {"prepared": experiments.directory / "prepared", **(train_settings or {})}
    return settings_of_small_experiment(
        experiments.directory,
        model={"name": "tiny", "threads": 1},
        train=own,
        alternating={**TWO_ROUNDS, **alternating, "output_dir": experiments.directory / "alternating" / name},
    )


def settings_of_joint(experiments, name: str, **alternating):
    """Of a run of joint steps in the directory `joint-{name}`."""
    return settings_of(experiments, f"joint-{name}", **{"router_consistency_weight": WEIGHT, **alternating})


def end_after(experiments, config, step: int, last_step: int) -> None:
    """Train until a signal after this step; after the last one, until the process is gone."""

    def be_gone(event: object) -> None:
        if isinstance(event, StepRecord) and event.step == last_step:
            raise RuntimeError("gone")

    if step == last_step:
        with pytest.raises(RuntimeError, match="gone"):
            train.run("alternating", config, experiments.store, be_gone)
        return
    with pytest.raises(StoppedError, match=f"after step {step} of {last_step}"):
        train.run("alternating", config, experiments.store, lambda event: ask_to_stop_after(step, event))
