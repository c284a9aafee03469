"""Settings of a small experiment on the tiny model: what the suite and the kill script run."""

from __future__ import annotations

from pathlib import Path

from moe_cli.config import MoeConfig

Section = dict[str, object]


def settings_of_small_experiment(directory: Path, **changes: Section) -> MoeConfig:
    """Everything below `directory`; `changes` are settings by section."""
    tree: dict[str, Section] = {
        "model": {"name": "tiny", "device": "cpu"},
        "prepare": {
            "output_dir": directory / "prepared",
            "tiny_pairs": 24,
            "batch_size": 8,
            "max_new_tokens": 24,
            "benign_max_new_tokens": 24,
            "budget": 0.2,
            "top_k": 6,
            "resamples": 50,
            "null_draws": 20,
        },
        "train": {
            "selective_dir": directory / "selective",
            "baseline_dir": directory / "baseline",
            "num_epochs": 2,
            "learning_rate": 1e-3,
        },
        "evaluate": {"tiny_items": 4, "max_new_tokens": 24},
        "compare": {"output_dir": directory / "comparison"},
    }
    for section, values in changes.items():
        tree[section] = {**tree.get(section, {}), **values}
    return MoeConfig.model_validate(tree)
