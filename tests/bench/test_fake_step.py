"""A step followed without values needs the bytes of the real one; `tests/studies/followed_steps.py` is every family."""

import pytest

from moe_cli.bench.bench_model import draw_selection
from moe_cli.bench.fake_step import StepShape, ValuesNeededError, follow_step
from moe_cli.config import ModelConfig
from moe_cli.model.skeleton import meta_model
from moe_cli.model.topology import expert_layers
from moe_cli.tiny import CHECKPOINT_PATH
from tests.experts.checkpoints import openable, written
from tests.studies.followed_steps import SHAPE, both

FAMILIES = ("aria", "deepseek_v3", "gpt_oss", "jamba", "minimax", "mixtral", "qwen3_next", "qwen3_omni_moe")


def assert_close(followed, measured):
    assert (followed.weights, followed.masters, followed.trained_params, followed.host) == (
        *(measured.weights, measured.masters, measured.trained_params, measured.host),
    )
    assert (followed.gradients, followed.moments) == (measured.gradients, measured.moments)
    assert followed.saved == pytest.approx(measured.saved, rel=0.05)
    assert followed.peak == pytest.approx(measured.peak, rel=0.03)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("arm", ["selective", "baseline"])
def test_the_tiny_model_needs_what_was_predicted(arm, checkpointing):
    shape = StepShape(rows=16, length=48, forward_tokens=768, checkpointing=checkpointing)
    followed, measured = both(CHECKPOINT_PATH, arm, shape)
    assert_close(followed, measured)
    assert followed.gradients == followed.masters == 4 * followed.trained_params == followed.moments // 2


@pytest.mark.parametrize("arm", ["selective", "baseline"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family in openable()])
def test_a_step_of_other_families_needs_what_was_predicted(family, arm, tmp_path):
    assert_close(*both(written(family, tmp_path / "model"), arm))


def test_a_family_whose_code_asks_for_values_is_said_to(tmp_path):
    with pytest.raises(ValuesNeededError, match="nonzero"):
        both(written("qwen4_exp", tmp_path / "model"), "selective")


def test_a_bfloat16_model_has_float32_masters_in_both_arms():
    config = ModelConfig(name="tiny", dtype="bfloat16")
    model = meta_model(config)
    total, union = sum(p.numel() for p in model.parameters()), draw_selection(expert_layers(model), 1)
    selective, baseline = (follow_step(arm, meta_model(config), union, SHAPE) for arm in ("selective", "baseline"))
    assert selective.weights >= 2 * total  # and a few buffers
    assert selective.masters == 4 * selective.trained_params and selective.host == 2 * selective.trained_params
    assert (baseline.masters, baseline.moments) == (4 * total, 8 * total)


def test_further_forwards_of_a_step_need_no_more_memory():
    peaks = set()
    for rows in (8, 12, 40):
        shape = StepShape(rows=rows, length=16, forward_tokens=64, checkpointing=False)
        model = meta_model(ModelConfig(name="tiny"))
        peaks.add(follow_step("selective", model, draw_selection(expert_layers(model), 2), shape).peak)
    assert len(peaks) == 1
