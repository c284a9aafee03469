"""What the trainers put in the place of methods of the library is still there to be replaced, and still called."""

from __future__ import annotations

import inspect
import re

import pytest
from transformers import Trainer

from moe_cli.train.alternating_trainer import AlternatingTrainer
from moe_cli.train.trainer import FixedBatchTrainer

REPLACED = {
    FixedBatchTrainer: (
        "_defer_fsdp_gradient_reduction",
        "_get_grad_norm",
        "_load_from_checkpoint",
        "_load_optimizer_and_scheduler",
        "_load_rng_state",
        "_save_checkpoint",
        "_sync_replicated_trainable_parameters",
        "compute_loss",
        "get_batch_samples",
        "get_train_dataloader",
        "training_step",
    ),
    AlternatingTrainer: (
        "_get_learning_rate",
        "_load_from_checkpoint",
        "create_optimizer",
        "create_scheduler",
        "get_batch_samples",
    ),
}


@pytest.mark.parametrize(("own", "name"), [(own, name) for own, names in REPLACED.items() for name in names])
def test_the_library_calls_each_method_that_is_replaced(own, name):
    assert re.search(rf"\bself\.{name}\b", inspect.getsource(Trainer))
    theirs, ours = (inspect.signature(getattr(cls, name)).parameters for cls in (Trainer, own))
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("own", REPLACED)
def test_nothing_else_of_the_library_is_replaced(own):
    assert {name for name in vars(own) if hasattr(Trainer, name) and not name.startswith("__")} == set(REPLACED[own])
