"""The grouped product is transformers' kernel, with a loop where that one cannot go; and the facts it rests on."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.integrations import moe

from moe_cli.experts.grouped_products import bounds_of, gather_experts, multiply_grouped, multiply_outer, sort_by_expert

torch.set_num_threads(1)

OFFSETS = torch.tensor([5, 5, 12, 18], dtype=torch.int32)  # expert 1 has no row, two rows belong to nobody


def by_hand(rows, weights):
    bounds = [(0, 5), (5, 5), (5, 12), (12, 18)]
    return torch.cat([rows[a:b] @ weight for (a, b), weight in zip(bounds, weights, strict=True)])


@pytest.mark.parametrize("sizes", [(8, 16), (7, 5)], ids=["aligned", "odd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_each_row_meets_its_experts_weight(dtype, sizes):
    rows, weights = torch.randn(20, sizes[0]).to(dtype), torch.randn(4, *sizes).to(dtype)
    tolerance = 5e-2 if dtype is torch.bfloat16 else 1e-5
    product = multiply_grouped(rows, weights, OFFSETS)
    torch.testing.assert_close(product[:18], by_hand(rows, weights), rtol=tolerance, atol=tolerance)
    turned = multiply_grouped(rows, weights.transpose(1, 2).contiguous().transpose(1, 2), OFFSETS)
    torch.testing.assert_close(turned[:18], product[:18], rtol=tolerance, atol=tolerance)


def test_it_has_the_bits_of_transformers_own():
    rows, weights = torch.randn(20, 8), torch.randn(4, 8, 16)
    assert torch.equal(multiply_grouped(rows, weights, OFFSETS)[:18], moe._grouped_mm(rows, weights, OFFSETS)[:18])


def test_outer_products_of_bfloat16_accumulate_in_float32():
    left, right = torch.randn(300, 4).bfloat16(), torch.randn(300, 6).bfloat16()
    torch.testing.assert_close(multiply_outer(left, right, torch.float32), left.float().T @ right.float())
    assert multiply_outer(left[:0], right[:0], torch.float32).eq(0).all()


def test_the_order_of_rows_is_transformers_own():
    experts_TK = torch.randint(0, 8, (50, 4))
    dispatch = sort_by_expert(experts_TK, 8, biased=True, sentinels=False)
    sorted_S, place_S = torch.sort(experts_TK.reshape(-1))
    assert torch.equal(dispatch.place_S, place_S)
    assert torch.equal(dispatch.expert_S, sorted_S)
    assert torch.equal(dispatch.token_S, place_S // 4)
    assert torch.equal(dispatch.offsets_E, torch.bincount(experts_TK.reshape(-1), minlength=8).cumsum(0).int())
    assert torch.equal(experts_TK.reshape(-1)[dispatch.place_S][dispatch.row_of_choice()], experts_TK.reshape(-1))


def test_sentinels_lie_behind_the_last_offset():
    dispatch = sort_by_expert(torch.tensor([[0, 9], [8, 3]]), 8, biased=True, sentinels=True)
    assert dispatch.offsets_E.tolist() == [1, 1, 1, 2, 2, 2, 2, 2]
    assert dispatch.sentinel_S.tolist() == [False, False, True, True]
    assert dispatch.expert_S.tolist() == [0, 3, 7, 7]
    assert dispatch.mask(torch.full((4, 2), torch.nan)).isnan().any(1).tolist() == [True, True, False, False]


def test_a_few_experts_rows_become_experts_0_1_and_so_on():
    whole = sort_by_expert(torch.tensor([[0, 2], [2, 3], [3, 2]]), 4, biased=True, sentinels=False)
    bounds = dict(enumerate(bounds_of(whole)))
    packed, where = gather_experts(whole, [1, 2], bounds)
    assert where == {1: (0, 0), 2: (0, 3)}
    assert packed.offsets_E.tolist() == [0, 3]
    assert sorted(packed.token_S.tolist()) == [0, 1, 2]
    assert packed.expert_S.tolist() == [1, 1, 1]


# What is built on: if one of these fails, torch or transformers changed and grouped_products.py may get simpler.


def test_upstream_kernel_knows_no_float64_and_no_odd_sizes():
    with pytest.raises(RuntimeError, match="Double"):
        nn.functional.grouped_mm(torch.randn(20, 8).double(), torch.randn(4, 8, 16).double(), offs=OFFSETS)
    with pytest.raises(RuntimeError, match="16 bytes"):
        nn.functional.grouped_mm(torch.randn(20, 7), torch.randn(4, 7, 16), offs=OFFSETS)


def test_upstream_grouped_mm_is_not_reached_by_autocast():
    """Why the dtype of the experts' products is asserted in both arms."""
    with torch.autocast("cpu", torch.bfloat16):
        out = moe._grouped_mm(torch.randn(4, 8), torch.randn(1, 8, 8), torch.tensor([4], dtype=torch.int32))
    assert out.dtype is torch.float32


def test_upstream_fused_adamw_does_not_raise_the_version_of_a_parameter():
    """Why the slices are written in every forward."""
    parameter = nn.Parameter(torch.ones(4))
    parameter.grad = torch.ones(4)
    before = parameter._version
    torch.optim.AdamW([parameter], lr=0.1, fused=True).step()
    assert parameter._version == before
    assert not torch.equal(parameter, torch.ones(4))
