"""Attaching and detaching leaves the model as it was; merging leaves a plain model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moe_cli.errors import UsageError
from moe_cli.experts.interface import IMPLEMENTATION, attach
from moe_cli.experts.slices import ATTRIBUTE
from moe_cli.model.topology import expert_layers
from moe_cli.records import Expert
from tests.experts.families import FAMILIES, olmoe, qwen3_moe
from tests.experts.steps import loss_of, same_bits, some_experts, token_ids, weights_of

torch.set_num_threads(1)


def train(model, slices, steps=3):
    optimizer = torch.optim.AdamW(slices.parameters.values(), lr=1e-2, weight_decay=0.1)
    for seed in range(steps):
        model.zero_grad()
        loss_of(model, token_ids(seed=seed)).backward()
        optimizer.step()


def state_of(model):
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return flags, [name for name, _ in model.named_modules()], model.get_experts_implementation()


@pytest.mark.parametrize("family", FAMILIES)
def test_detaching_after_training_restores_every_bit_flag_and_module(family):
    model = FAMILIES[family]()
    model.lm_head.weight.requires_grad_(False)  # a flag of the caller's own
    weights, state = weights_of(model), state_of(model)
    with attach(model, some_experts(model)) as slices:
        assert model.get_experts_implementation() == {"": IMPLEMENTATION}
        assert {id(p) for p in model.parameters() if p.requires_grad} == set(map(id, slices.parameters.values()))
        train(model, slices)
        loss_of(model, token_ids())  # the trained values are in the bank now
        assert not same_bits(weights, {n: t for n, t in weights_of(model).items() if ATTRIBUTE not in n})
    assert same_bits(weights, weights_of(model))
    assert state_of(model) == state
    assert not slices.attached


def test_detaching_happens_after_an_exception_too():
    model = olmoe()
    model.set_experts_implementation("batched_mm")
    weights, state = weights_of(model), state_of(model)
    with pytest.raises(RuntimeError, match="mine"), attach(model, some_experts(model)) as slices:
        train(model, slices)
        raise RuntimeError("mine")
    assert same_bits(weights, weights_of(model))
    assert state_of(model) == state


def test_a_refused_selection_changes_nothing():
    model = olmoe()
    state = state_of(model)
    with pytest.raises(UsageError):
        attach(model, [Expert(layer=0, index=0), Expert(layer=9, index=0)])
    assert state_of(model) == state


@pytest.mark.parametrize("family", FAMILIES)
def test_merge_save_reload_is_bitwise_with_no_missing_or_unexpected_key(family, tmp_path):
    model, ids = FAMILIES[family](), token_ids()
    with attach(model, some_experts(model)) as slices:
        train(model, slices)
        attached = model(input_ids=ids, use_cache=False).logits
        slices.merge()
    model.save_pretrained(tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert same_bits(weights_of(model), weights_of(loaded))
    assert torch.equal(loaded.eval()(input_ids=ids, use_cache=False).logits, attached)


@pytest.mark.parametrize("family", FAMILIES)
def test_outside_the_selection_merged_is_base_bit_for_bit(family):
    model = FAMILIES[family]()
    base = weights_of(model)
    with attach(model, some_experts(model)) as slices:
        train(model, slices)
        slices.merge()
    banks = {f"{layer.name}.{weight}" for layer in expert_layers(model) for weight in layer.weights}
    rest = [index for index in range(8) if index not in (1, 3, 6)]
    for name, after in weights_of(model).items():
        if name in banks:
            assert torch.equal(after[rest], base[name][rest])
            assert not torch.equal(after, base[name])
        else:
            assert torch.equal(after, base[name])


def test_merging_casts_the_masters_once_to_the_banks_dtype():
    model = olmoe().bfloat16()
    with attach(model, some_experts(model)) as slices:
        train(model, slices)
        masters = slices.take()
        slices.merge()
    experts = model.model.layers[0].mlp.experts
    master = masters["layers.0.experts.3.down_proj"]
    assert not torch.equal(master, master.bfloat16().float()), "the masters must hold more than bfloat16 does"
    assert torch.equal(experts.down_proj[3], master.bfloat16())


def test_take_then_put_back_is_the_identity():
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        before = slices.take()
        train(model, slices)
        assert not same_bits(before, slices.take())
        slices.put_back(before)
        assert same_bits(before, slices.take())
        ids = token_ids()
        assert torch.equal(model(input_ids=ids).logits, olmoe()(input_ids=ids).logits)


def test_take_gives_copies():
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        taken = slices.take()
        name = next(iter(taken))
        taken[name].zero_()
        assert slices.parameters[name].any()


def test_putting_back_other_slices_is_refused():
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        taken = slices.take()
        name, value = taken.popitem()
        with pytest.raises(ValueError, match="not these slices"):
            slices.put_back(taken)
        with pytest.raises(ValueError, match="has shape"):
            slices.put_back(taken | {name: value[:1]})


def test_names_are_by_decoder_layer_and_index():
    model = qwen3_moe()
    with attach(model, [Expert(layer=2, index=7), Expert(layer=1, index=0)]) as slices:
        assert list(slices.parameters) == [
            "layers.1.experts.0.gate_up_proj",
            "layers.1.experts.0.down_proj",
            "layers.2.experts.7.gate_up_proj",
            "layers.2.experts.7.down_proj",
        ]
        assert slices.experts == (Expert(layer=1, index=0), Expert(layer=2, index=7))


@pytest.mark.parametrize(("layer", "index"), [(0, 8), (0, -1), (5, 0)])
def test_an_expert_outside_the_model_is_refused_with_what_exists(layer, index):
    with pytest.raises(UsageError, match=rf"no expert {index} in layer {layer}.*experts 0 to 7 in the layers 0, 1"):
        attach(olmoe(), [Expert(layer=layer, index=index)])


def test_a_layer_without_experts_has_none_to_train():
    with pytest.raises(UsageError, match=r"no expert 0 in layer 0.*layers 1, 2"):
        attach(qwen3_moe(), [Expert(layer=0, index=0)])


def test_no_selection_is_refused():
    with pytest.raises(UsageError, match="no expert is selected"):
        attach(olmoe(), [])


def test_a_family_whose_weights_are_not_what_its_flags_announce_is_refused():
    model = olmoe()
    experts = model.model.layers[0].mlp.experts
    experts.scale = nn.Parameter(torch.ones(8, 1))
    with pytest.raises(UsageError, match=r"holds \['down_proj', 'gate_up_proj', 'scale'\].*announce"):
        attach(model, [Expert(layer=0, index=0)])


def test_quantised_experts_are_refused():
    model = olmoe()
    experts = model.model.layers[0].mlp.experts
    experts.down_proj = nn.Parameter(experts.down_proj.data.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(UsageError, match="float8_e4m3fn"):
        attach(model, [Expert(layer=0, index=0)])


def test_attaching_twice_and_ending_twice_are_bugs_that_show():
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        with pytest.raises(ValueError, match="attached already"):
            attach(model, some_experts(model))
        slices.merge()
        with pytest.raises(ValueError, match="merged or detached already"):
            slices.detach()


def test_saving_while_attached_leaks_the_slices_so_nobody_may():
    """Why `merge` exists; fails when transformers stops writing them."""
    model = olmoe()
    with attach(model, some_experts(model)):
        assert any(ATTRIBUTE in name for name in model.state_dict())


def test_generating_while_attached_gives_the_models_own_tokens():
    model, ids = olmoe(), token_ids(1, 6)
    before = model.generate(ids, max_new_tokens=5, do_sample=False)
    with attach(model, some_experts(model)):
        assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), before)
