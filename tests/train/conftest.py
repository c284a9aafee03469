"""What the tests of training share: one prepare run of the tiny model, and the uninterrupted runs on it."""

import pytest
import torch

from moe_cli.artifacts import layout
from moe_cli.codec import decode
from moe_cli.records import Selection
from tests.resume_everywhere import ARMS, Experiments, train_to_the_end
from tests.train.rank_cases import CASES, last_step, no_experts_in


@pytest.fixture(scope="session")
def experiments(tmp_path_factory):
    """Training runs below one directory; those that nobody stopped are made once."""
    torch.set_num_threads(1)
    return Experiments(tmp_path_factory.mktemp("experiments"))


@pytest.fixture(scope="session")
def selection(experiments):
    """What the prepare run selected."""
    file = experiments.directory / "prepared" / layout.SELECTION
    return decode(Selection, file.read_bytes(), source=str(file))


@pytest.fixture(scope="session")
def alone(experiments):
    """Every case of several processes, trained by one: the directory, by arm and case."""
    runs = {}
    for arm in ARMS:
        for name, (settings, _, empty, _) in CASES.items():
            if empty and arm == "baseline":  # which has no masks
                continue
            config = experiments.settings(f"{name}-alone", **settings)
            with no_experts_in(empty):
                runs[arm, name] = train_to_the_end(
                    arm, config, experiments.store, lambda _: None, last_step=last_step(settings)
                )
    return runs
