"""The router's weights are summed over the tokens that are counted, exactly."""

from __future__ import annotations

import pytest
import torch

from moe_cli.model.routing import record_routing
from moe_cli.model.topology import expert_layers
from tests.experts.families import FAMILIES, olmoe
from tests.experts.steps import token_ids

torch.set_num_threads(1)


def reference_gates(seen, regions_RBS, num_experts):
    """[B, R, L, E] by adding one by one what reached the experts."""
    num_regions, num_rows, num_positions = regions_RBS.shape
    gates = torch.zeros(num_rows, num_regions, len(seen), num_experts, dtype=torch.float64)
    for region, row, position in regions_RBS.nonzero().tolist():
        for layer, (experts_TK, weights_TK) in enumerate(seen):
            token = row * num_positions + position
            for expert, weight in zip(experts_TK[token].tolist(), weights_TK[token].tolist(), strict=True):
                gates[row, region, layer, expert] += weight
    return gates


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_summed_per_region_row_layer_and_expert(family):
    model, ids = FAMILIES[family](), token_ids(3, 9)
    regions_RBS = torch.rand(3, 3, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    seen, hooks = [], []
    for layer in expert_layers(model):
        hook = layer.module.register_forward_pre_hook(
            lambda _, args: seen.append((args[1], args[2].reshape(args[1].shape)))
        )
        hooks.append(hook)
    with torch.no_grad(), record_routing(model) as recorder:
        recorder.watch(regions_RBS)
        model(input_ids=ids, use_cache=False)
        gates = recorder.gates()
    for hook in hooks:
        hook.remove()
    assert gates.dtype is torch.float64
    torch.testing.assert_close(gates, reference_gates(seen, regions_RBS, 8), rtol=0, atol=1e-11)


def test_a_choice_without_weight_is_not_counted_and_adds_nothing():
    model = olmoe()
    with record_routing(model) as recorder:
        recorder.watch(torch.ones(1, 1, 2, dtype=torch.bool))
        recorder._before = [lambda module, tokens, experts, weights: tokens] * 2
        for layer in expert_layers(model):
            layer.module(torch.zeros(2, 32), torch.tensor([[0, 3], [3, 5]]), torch.tensor([[0.25, 0.0], [0.5, 0.125]]))
        assert recorder.counts()[0, 0, 0].tolist() == [1, 0, 0, 1, 0, 1, 0, 0]
        assert recorder.gates()[0, 0, 0].tolist() == [0.25, 0, 0, 0.5, 0, 0.125, 0, 0]


def test_a_region_without_a_token_counts_nothing():
    model, ids = olmoe(), token_ids(2, 5)
    regions_RBS = torch.stack([torch.ones(2, 5), torch.zeros(2, 5)]).bool()
    with torch.no_grad(), record_routing(model) as recorder:
        recorder.watch(regions_RBS)
        model(input_ids=ids, use_cache=False)
        assert recorder.counts().sum((0, 2, 3)).tolist() == [2 * 5 * 2 * 2, 0]
        assert recorder.gates()[:, 1].any().item() is False
