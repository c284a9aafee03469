"""A masked expert does not exist in a step: weight, moments, step count and decay stay bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from moe_cli.experts.interface import attach
from moe_cli.records import Expert
from tests.experts.families import FAMILIES, gpt_oss, olmoe
from tests.experts.steps import dense_gradients, loss_of, same_bits, some_experts, token_ids

torch.set_num_threads(1)

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, foreach=True),
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1, fused=True),
}


def step(model, slices, optimizer, experts, seed):
    slices.activate(experts)
    optimizer.zero_grad()
    loss_of(model, token_ids(seed=seed)).backward()
    torch.nn.utils.clip_grad_norm_(slices.parameters.values(), 1.0)
    optimizer.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_moments_and_step_count_of_a_masked_expert_keep_their_bits(optimizer):
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        stepper = OPTIMIZERS[optimizer](slices.parameters.values())
        step(model, slices, stepper, None, seed=0)  # everybody has moments now
        masked = [expert for expert in slices.experts if expert.index != 3]
        names = slices.names_of(masked)
        weights = {name: slices.parameters[name].detach().clone() for name in names}
        moments = {name: copy.deepcopy(stepper.state[slices.parameters[name]]) for name in names}
        for seed in (1, 2):
            step(model, slices, stepper, [e for e in slices.experts if e.index == 3], seed)
        assert same_bits(weights, {name: slices.parameters[name].detach() for name in names})
        assert all(same_bits(tensors(moments[n]), tensors(stepper.state[slices.parameters[n]])) for n in names)
        assert all(slices.parameters[name].grad is None for name in names)
        moved = set(slices.parameters) - set(names)
        assert all(slices.parameters[name].grad is not None for name in moved)


def tensors(state):
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_next_forward_sees_what_the_optimizer_did(optimizer):
    """Fused optimizers do not raise the version counter of a parameter: nothing may rely on it."""
    model, ids = olmoe(), token_ids()
    with attach(model, some_experts(model)) as slices:
        stepper = OPTIMIZERS[optimizer](slices.parameters.values())
        step(model, slices, stepper, None, seed=0)
        after = model(input_ids=ids, use_cache=False).logits
        slices.merge()
    assert torch.equal(model(input_ids=ids, use_cache=False).logits, after)
    assert not torch.equal(olmoe()(input_ids=ids, use_cache=False).logits, after)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_experts_gradient_comes_from_its_own_micro_batches_alone(family):
    model = FAMILIES[family]().double()
    model.set_experts_implementation("batched_mm")
    ids = [token_ids(seed=seed) for seed in range(3)]
    dense = [dense_gradients(model, micro) for micro in ids]
    plan = [(1,), (1, 3), (3,)]  # expert index -> micro-batches: 1 -> 0, 1; 3 -> 1, 2; 6 -> none
    with attach(model, some_experts(model)) as slices:
        for micro, indices in zip(ids, plan, strict=True):
            slices.activate([expert for expert in slices.experts if expert.index in indices])
            loss_of(model, micro).backward()
        for name, master in slices.parameters.items():
            own = [k for k, indices in enumerate(plan) if int(name.split(".")[3]) in indices]
            if own:
                torch.testing.assert_close(master.grad, sum(dense[k][name] for k in own), rtol=1e-9, atol=1e-14)
            else:
                assert master.grad is None


def test_the_activation_at_forward_time_decides_however_late_the_backward_comes():
    model = olmoe().double()
    with attach(model, some_experts(model)) as slices:
        ones = [expert for expert in slices.experts if expert.index == 1]
        slices.activate(ones)
        loss = loss_of(model, token_ids())
        slices.activate([expert for expert in slices.experts if expert.index == 6])
        loss.backward()
        assert {n for n, p in slices.parameters.items() if p.grad is not None} == set(slices.names_of(ones))


@pytest.mark.parametrize("build", [olmoe, gpt_oss])
def test_under_checkpointing_the_original_forwards_activation_decides_and_gradients_are_equal(build):
    model, ids = build(), token_ids()
    with attach(model, some_experts(model)) as slices:
        ones = [expert for expert in slices.experts if expert.index == 1]
        slices.activate(ones)
        loss_of(model, ids).backward()
        plain = {name: slices.parameters[name].grad.clone() for name in slices.names_of(ones)}
        model.zero_grad()
        model.train()
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # 5.17
        enable({"use_reentrant": False})
        loss = loss_of(model, ids)
        slices.activate([expert for expert in slices.experts if expert.index == 6])  # before the recompute
        loss.backward()
        got = {name: p.grad for name, p in slices.parameters.items() if p.grad is not None}
        assert same_bits(plain, got)


@pytest.mark.parametrize("later", [(), (Expert(layer=1, index=6),), (Expert(layer=0, index=6),)])
def test_under_checkpointing_the_lowest_layer_recomputes_whoever_is_active_by_then(later):
    """Nothing below it needs a gradient, so its slices alone make it part of the backward."""
    model = olmoe()
    block = model.model.layers[0].mlp
    hidden = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
    with attach(model, some_experts(model)) as slices:
        first = [Expert(layer=0, index=1), Expert(layer=0, index=3)]
        slices.activate(first)
        loss = checkpoint(block, hidden, use_reentrant=False).square().sum()
        slices.activate(later)
        loss.backward()
        assert {n for n, p in slices.parameters.items() if p.grad is not None} == set(slices.names_of(first))


def test_a_checkpointed_block_of_experts_alone_recomputes_with_the_same_bits():
    model = olmoe()
    block = model.model.layers[0].mlp
    hidden = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3), requires_grad=True)
    with attach(model, some_experts(model)) as slices:
        block(hidden).square().sum().backward()
        plain = {name: p.grad.clone() for name, p in slices.parameters.items() if p.grad is not None}
        plain["hidden"] = hidden.grad.clone()
        model.zero_grad()
        hidden.grad = None
        checkpoint(block, hidden, use_reentrant=False).square().sum().backward()
        got = {name: p.grad for name, p in slices.parameters.items() if p.grad is not None} | {"hidden": hidden.grad}
        assert same_bits(plain, got)


@pytest.mark.parametrize("layers", [(0,), (0, 1)])
def test_with_nobody_active_a_backward_runs_and_gives_nobody_a_gradient(layers):
    model, ids = olmoe(), token_ids()
    with attach(model, [expert for expert in some_experts(model) if expert.layer in layers]) as slices:
        slices.activate(())
        assert slices.active == ()
        loss_of(model, ids).backward()
        assert all(parameter.grad is None for parameter in model.parameters())
        slices.activate(None)
        assert slices.active == slices.experts
        loss_of(model, ids).backward()
        assert all(master.grad is not None for master in slices.parameters.values())


def test_activating_an_expert_without_a_slice_is_a_bug_that_shows():
    model = olmoe()
    with attach(model, some_experts(model)) as slices, pytest.raises(ValueError, match="has no slice"):
        slices.activate([Expert(layer=0, index=2)])


def test_training_all_experts_as_slices_is_training_them_in_the_dense_model():
    """The reference: the union is everything and nothing is masked."""
    dense, sliced = olmoe(), olmoe()
    banks = [p for name, p in dense.named_parameters() if ".experts." in name]
    reference = torch.optim.AdamW(banks, lr=1e-3)
    losses = []
    with attach(sliced, some_experts(sliced, tuple(range(8)))) as slices:
        stepper = torch.optim.AdamW(slices.parameters.values(), lr=1e-3)
        for seed in range(5):
            ids = token_ids(seed=seed)
            pair = []
            for model, optimizer in ((dense, reference), (sliced, stepper)):
                model.zero_grad()
                loss = loss_of(model, ids)
                loss.backward()
                optimizer.step()
                pair.append(loss.item())
            losses.append(pair)
    for one, other in losses:
        assert one == pytest.approx(other, rel=1e-5)
    assert losses[0][0] != pytest.approx(losses[-1][0], rel=1e-3)
