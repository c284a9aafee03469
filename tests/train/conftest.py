"""What the tests of training share: one prepare run of the tiny model, and the uninterrupted runs on it."""

import pytest
import torch

from moe_cli.artifacts import layout
from moe_cli.codec import decode
from moe_cli.records import Selection
from tests.resume_everywhere import Experiments


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
