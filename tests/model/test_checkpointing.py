"""Gradient checkpointing changes no bit of a gradient, and a router that moved in between changes no routing."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from moe_cli.errors import UsageError
from moe_cli.experts import attach
from moe_cli.experts.dense import dense_experts
from moe_cli.model.checkpointing import enable_checkpointing
from tests.experts.families import FAMILIES, mixtral, olmoe
from tests.experts.steps import dense_gradients, loss_of, same_bits, some_experts, token_ids

torch.set_num_threads(1)


def in_training(model):
    """With dropout in the attention, so that the repeat must draw the same numbers."""
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    return model.train()


@pytest.mark.parametrize("family", FAMILIES)
def test_slice_gradients_have_the_same_bits_with_checkpointing(family):
    model, gradients = in_training(FAMILIES[family]()), []
    for around in (nullcontext(), enable_checkpointing(model)):
        with attach(model, some_experts(model)) as slices, around:
            torch.manual_seed(1)
            loss_of(model, token_ids()).backward()
            gradients.append({name: master.grad for name, master in slices.parameters.items()})
    assert same_bits(*gradients)


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_gradients_have_the_same_bits_with_checkpointing(family):
    model, gradients = in_training(FAMILIES[family]()), []
    for around in (nullcontext(), enable_checkpointing(model)):
        with dense_experts(model, torch.float32), around:
            torch.manual_seed(1)
            gradients.append(dense_gradients(model, token_ids()))
    assert same_bits(*gradients)


def test_masked_experts_get_no_gradient_with_checkpointing():
    model = olmoe().train()
    chosen = some_experts(model)
    with attach(model, chosen) as slices, enable_checkpointing(model):
        slices.activate(chosen[:1])
        loss_of(model, token_ids()).backward()
        reached = {name for name, master in slices.parameters.items() if master.grad is not None}
        assert reached == set(slices.names_of(chosen[:1]))


@pytest.mark.parametrize("make", [olmoe, mixtral])  # mixtral divides the kept top-k in place
def test_the_repeat_meets_the_experts_of_the_forward_though_the_router_moved(make):
    """Rounding that differs between two runs of a kernel, exaggerated: the router is changed before the backward."""
    model, routed = make().train(), []
    routers = [p for name, p in model.named_parameters() if ".gate." in name or ".router." in name]
    for layer in model.model.layers:
        layer.mlp.experts.register_forward_pre_hook(lambda _, args: routed.append((args[1].clone(), args[2].clone())))
    with attach(model, some_experts(model)), enable_checkpointing(model):
        loss = loss_of(model, token_ids())
        first = list(routed)
        with torch.no_grad():
            for router in routers:
                router.data.normal_(std=3.0)  # through .data: no version counter tells
        loss.backward()
        repeated = routed[len(first) :]
    assert len(repeated) == len(first) == 2
    for (experts, weights), (experts_again, weights_again) in zip(first, reversed(repeated), strict=True):
        assert torch.equal(experts, experts_again)
        assert torch.equal(weights, weights_again)


def saved_bytes(model):
    """What a forward keeps for its backward, weights and what a repeat makes not counted."""
    kept, weights = {}, {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model, token_ids(4, 32))
    return sum(kept.values()), loss


def test_checkpointing_keeps_less():
    model = olmoe().train()
    with attach(model, some_experts(model)):
        plain, _ = saved_bytes(model)
        with enable_checkpointing(model):
            less, _ = saved_bytes(model)
    assert less < plain / 2


def test_layers_below_the_lowest_slice_are_not_repeated():
    model, runs = olmoe().train(), []
    model.model.layers[0].mlp.register_forward_hook(lambda *_: runs.append(0))
    with attach(model, [e for e in some_experts(model) if e.layer == 1]), enable_checkpointing(model):
        loss_of(model, token_ids()).backward()
    assert runs == [0]


def test_the_block_leaves_no_trace():
    model = olmoe()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    with pytest.raises(ZeroDivisionError), enable_checkpointing(model):
        assert all(layer.gradient_checkpointing for layer in model.model.layers)
        raise ZeroDivisionError
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_a_model_without_such_layers_is_refused():
    with (
        pytest.raises(UsageError, match="no layers that transformers can checkpoint"),
        enable_checkpointing(nn.Linear(2, 2)),
    ):
        pass
