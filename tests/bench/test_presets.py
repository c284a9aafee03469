"""Words to a plan: presets have the true shapes, and what cannot run is refused with what to do."""

from __future__ import annotations

import pytest
import torch

from moe_cli.bench.arm_rows import _BUILDERS, params_of_selected
from moe_cli.bench.bench_model import build_model, describe_model
from moe_cli.bench.presets import ARMS, plan_of
from moe_cli.errors import UsageError
from tests.bench.small_benchmark import CONFIG, small_plan

LEFT = {"lora_rank": 16, "forward_tokens": 4096, "checkpointing": False, "repeats": 10, "memory": False}


# Parameters as their model cards and the issue say them; about 4 % are selected in the shape.
@pytest.mark.parametrize(
    ("preset", "total", "num_experts", "layers"),
    [("issue", 60_044_160, 64, 3), ("olmoe-1b-7b", 6_919_161_856, 64, 16), ("qwen3-30b-a3b", 30_532_122_624, 128, 48)],
)
def test_a_preset_has_the_parameters_of_its_model(preset, total, num_experts, layers):
    plan = plan_of(preset, LEFT)
    model = describe_model(build_model(plan, CONFIG, torch.device("meta")), plan)
    assert (model.total_params, model.num_experts, len(model.layers)) == (total, num_experts, layers)
    assert (preset == "issue") == (params_of_selected(model, 3) / total == pytest.approx(0.0442, abs=1e-4))


def test_what_is_given_takes_the_place_of_the_presets_value():
    plan = small_plan(arms="lora, selective", shares="8,0,3,3", dtype="bfloat16")
    assert plan.arms == ("selective", "lora")
    assert plan.shares == (0, 3, 8)
    assert (plan.dtype, plan.shape.hidden, plan.shape.heads, plan.shape.head_dim) == ("bfloat16", 32, 1, 32)


def test_every_arm_has_a_builder():
    assert set(_BUILDERS) == set(ARMS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hidden": 30}, "--hidden 30 is no multiple of 8"),
        ({"width": 20}, "--width 20 is no multiple of 8"),
        ({"hidden": 200}, "3 heads"),
        ({"top_k": 9}, "--top-k 9 of 8"),
        ({"selected": 9}, "9 experts per layer"),
        ({"shares": "1,9"}, "9 experts per layer"),
        ({"shares": "1,x"}, "'1,x' is no list of numbers"),
        ({"arms": "selective,fast"}, "'fast'"),
        ({"arms": ","}, "no row ','"),
        ({"dtype": "float16"}, "float16"),
        ({"length": 3}, "3 tokens"),
    ],
)
def test_a_shape_that_cannot_run_is_refused_with_a_hint(given, words):
    with pytest.raises(UsageError, match=words) as refused:
        small_plan(**given)
    assert refused.value.hint


def test_a_real_model_has_its_own_shape_and_dtype():
    plan = plan_of("issue", LEFT, "tiny")
    assert (plan.model, plan.shape, plan.dtype, plan.rows) == ("tiny", None, None, 16)
    with pytest.raises(UsageError, match="--width makes a random model"):
        plan_of("issue", LEFT | {"width": 16}, "tiny")
