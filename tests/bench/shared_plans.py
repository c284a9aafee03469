"""Steps that are followed once for all plans of one process: what a step takes depends on these arguments alone."""

import pytest

from moe_cli.bench import arm_needs, resources

FOLLOWED = {}


@pytest.fixture(autouse=True)
def followed_once(monkeypatch):
    """Plans that follow a step of the same arm, model, experts and shape share what it takes."""
    follow = arm_needs.followed_step

    def once(arm, config, dtype, union, shape):
        key = (arm, config.model.model_dump_json(), dtype, tuple(union), shape)
        if key not in FOLLOWED:
            FOLLOWED[key] = follow(arm, config, dtype, union, shape)
        return FOLLOWED[key]

    for module in (arm_needs, resources):
        monkeypatch.setattr(module, "followed_step", once)
