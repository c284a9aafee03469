"""Settings of alternating runs of two rounds on the tiny model."""

from __future__ import annotations

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
