"""What trains of a router in every family, and that masters come and go without a trace."""

from __future__ import annotations

import pytest
import torch

from moe_cli.experts import frozen_digest
from moe_cli.experts.router_masters import attach_routers, logit_parameters
from moe_cli.model.tensors import stored_tensors
from moe_cli.model.topology import expert_layers, parameter_groups
from tests.experts.catalog import LOOPED, build, families
from tests.experts.families import mixtral, olmoe
from tests.experts.steps import token_ids

torch.set_num_threads(1)
SEEN = [family for family in families() if family not in LOOPED]


def output(model):
    result = model(input_ids=token_ids(2, 9), use_cache=False)
    return result.logits if "logits" in result else result.last_hidden_state


@pytest.mark.parametrize("family", SEEN)
def test_masters_of_the_routers_change_no_bit_and_leave_no_trace_in_any_family(family):
    model = build(family)
    before = {name: tensor.clone() for name, tensor in stored_tensors(model)}
    with torch.no_grad():
        expected = output(model)
    with attach_routers(model, [layer.layer for layer in expert_layers(model)]) as routers:
        groups = parameter_groups(model)
        assert {groups[name] for name in routers.parameters} == {"router"}
        with routers.learning(), torch.no_grad():
            assert torch.equal(output(model), expected)
        with routers.learning():
            output(model).float().sum().backward()
        reached = [name for name, master in routers.parameters.items() if master.grad is not None]
        assert reached  # the last router may have nothing behind it that hears of it
        with torch.no_grad():
            for master in routers.parameters.values():
                master.add_(1.0)
        routers.write()
    after = dict(stored_tensors(model))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_only_what_the_logits_depend_on_trains():
    """DeepSeek-V3 chooses by a correction bias that its logits do not know."""
    for family, names in (("olmoe", {"weight"}), ("gpt_oss", {"weight", "bias"}), ("deepseek_v3", {"weight"})):
        for own in logit_parameters(build(family)).values():
            assert set(own) == names


def test_masters_of_a_bfloat16_router_get_float32_gradients_and_their_sum_keeps_small_steps():
    model = olmoe().to(torch.bfloat16).requires_grad_(False)
    with attach_routers(model, [layer.layer for layer in expert_layers(model)]) as routers:
        with routers.learning():
            output(model).float().sum().backward()
        name, master = next(iter(routers.parameters.items()))
        assert master.grad.dtype is torch.float32 and master.grad.any()
        assert model.get_parameter(name).grad is None
        with torch.no_grad():
            for _ in range(64):
                master += 1e-4 * master.abs()  # each too small for bfloat16, whose numbers are 0.4 % apart
        routers.merge()
    moved = model.get_parameter(name) != olmoe().to(torch.bfloat16).get_parameter(name)
    assert moved.float().mean() > 0.5


def test_merging_keeps_the_masters_and_moves_nothing_else():
    model = mixtral()
    routers = attach_routers(model, [0])
    assert set(routers.parameters) == {"model.layers.0.mlp.gate.weight"}
    rest = frozen_digest(model, [], routers.parameters.keys())
    with torch.no_grad():
        for master in routers.parameters.values():
            master.mul_(2.0)
    values = routers.take()
    routers.merge()
    assert frozen_digest(model, [], values.keys()) == rest
    assert all(torch.equal(model.get_parameter(name), value) for name, value in values.items())


def test_a_forward_can_compute_with_earlier_values():
    model = olmoe().requires_grad_(False)
    with attach_routers(model, [0, 1]) as routers, routers.learning():
        start = {name: master.detach().clone() for name, master in routers.parameters.items()}
        first = output(model)
        with torch.no_grad():
            for master in routers.parameters.values():
                master.mul_(-1.0)
        assert not torch.equal(output(model), first)
        with routers.computing_with(start):
            assert torch.equal(output(model), first)
