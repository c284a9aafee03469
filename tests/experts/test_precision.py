"""Both arms compute their experts in one dtype."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations import moe

from moe_cli.experts.interface import attach
from moe_cli.experts.precision import compute_experts_in
from tests.experts.families import FAMILIES, olmoe
from tests.experts.steps import dense_gradients, some_experts, token_ids

torch.set_num_threads(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_weights_computed_in_bfloat16_give_the_bits_of_a_bfloat16_bank(family):
    """The selective arm keeps a bfloat16 bank, the baseline float32 weights that hold the same values."""
    selective, baseline, ids = FAMILIES[family](), FAMILIES[family](), token_ids()
    for model in (selective, baseline):
        for name, parameter in model.named_parameters():
            if ".experts." in name:
                parameter.data = parameter.data.bfloat16()
    undo = compute_experts_in(baseline, torch.bfloat16)
    for name, parameter in baseline.named_parameters():
        if ".experts." in name:
            parameter.data = parameter.data.float()
    with attach(selective, some_experts(selective)), torch.autocast("cpu", torch.bfloat16):
        one = selective(input_ids=ids, use_cache=False).logits
        other = baseline(input_ids=ids, use_cache=False).logits
        undo()
        in_float32 = baseline(input_ids=ids, use_cache=False).logits
    assert torch.equal(one, other)
    assert not torch.equal(other, in_float32)


def test_the_weights_get_float32_gradients_close_to_the_float32_ones():
    model, ids = olmoe(), token_ids()
    exact = dense_gradients(model, ids)
    undo = compute_experts_in(model, torch.bfloat16)
    rounded = dense_gradients(model, ids)
    undo()
    assert model.get_experts_implementation() == {"": "grouped_mm"}
    for name, gradient in rounded.items():
        assert gradient.dtype is torch.float32
        assert (gradient - exact[name]).norm() <= 0.1 * exact[name].norm()
    assert any(not torch.equal(rounded[name], exact[name]) for name in exact)


def test_upstream_grouped_mm_is_not_reached_by_autocast():
    """Why `compute_experts_in` exists."""
    with torch.autocast("cpu", torch.bfloat16):
        out = moe._grouped_mm(torch.randn(4, 8), torch.randn(1, 8, 8), torch.tensor([4], dtype=torch.int32))
    assert out.dtype is torch.float32
