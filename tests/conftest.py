"""What tests of several rooms share: one thread, offline, and small settings on the tiny model."""

from __future__ import annotations

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "OMP_NUM_THREADS": "1",  # two threads on two busy cores wait for each other
}

from pathlib import Path

import pytest

from moe_cli.config import MoeConfig


@pytest.fixture(scope="session")
def small_settings():
    """Settings of a small experiment on the tiny model, below a directory."""

    def settings(directory: Path, **changes: dict[str, object]) -> MoeConfig:
        tree: dict[str, dict[str, object]] = {
            "model": {"name": "tiny", "device": "cpu"},
            "prepare": {
                "output_dir": directory / "prepared",
                "tiny_pairs": 24,
                "batch_size": 8,
                "max_new_tokens": 24,
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

    return settings
