"""What the tests of export and push share: a selective run that was evaluated, and a baseline, on the tiny model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moe_cli.artifacts import Store
from moe_cli.evaluate import stage as evaluate
from moe_cli.prepare import stage as prepare
from moe_cli.train import stage as train
from moe_cli.views.model_card import model_card


@pytest.fixture(scope="session")
def runs(tmp_path_factory, small_settings):
    """Directories `selective` and `baseline`, and the store that knows their prepare run."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("runs")
    shorter = {"num_epochs": 1, "selective_dir": directory / "selective", "baseline_dir": directory / "baseline"}
    config = small_settings(directory, train=shorter)
    store = Store(directory / "registry")
    prepare.run(config, store, lambda _: None)
    for arm in ("selective", "baseline"):
        train.run(arm, config, store, lambda _: None, card=model_card)
    evaluate.run(str(directory / "selective"), config, store, lambda _: None)
    return SimpleNamespace(
        selective=directory / "selective", baseline=directory / "baseline", store=store, config=config
    )
