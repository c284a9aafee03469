"""What the environment says to accelerate and to the arithmetic is refused, or recorded."""

import pytest

from moe_cli.config import MoeConfig
from moe_cli.errors import EnvironmentFaultError
from moe_cli.train.arguments import hyperparameters, refuse_environment


@pytest.mark.parametrize(
    "variable",
    [
        *("ACCELERATE_MIXED_PRECISION=bf16", "ACCELERATE_DYNAMO_BACKEND=inductor", "ACCELERATE_USE_FSDP=true"),
        *("ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4", "ACCELERATE_USE_CPU=1"),
    ],
)
def test_a_variable_that_changes_how_accelerate_trains_is_refused_by_name(variable):
    name, _, value = variable.partition("=")
    with pytest.raises(EnvironmentFaultError, match=variable):
        refuse_environment({name: value})


@pytest.mark.parametrize("environment", [{}, {"ACCELERATE_MIXED_PRECISION": "no"}, {"ACCELERATE_LOG_LEVEL": "info"}])
def test_variables_that_change_nothing_are_left_alone(environment):
    refuse_environment(environment)


def test_variables_of_the_arithmetic_are_recorded_and_compared(monkeypatch):
    def recorded():
        return hyperparameters(MoeConfig(), 3, 0, 1)

    plain = recorded()
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert recorded() == {**plain, "arithmetic": "NVIDIA_TF32_OVERRIDE=1"}
    assert plain["arithmetic"] is None and plain["prompts_cut"] == 1
