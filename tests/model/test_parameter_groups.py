"""Every weight of every family has one group; the router of every family is found, and nothing else is taken for it."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from moe_cli.model.tensors import stored_tensors
from moe_cli.model.topology import expert_layers, parameter_groups, router_tensors
from tests.experts.catalog import build, families
from tests.experts.families import olmoe
from tests.experts.steps import token_ids

torch.set_num_threads(1)


def names_of(groups, group):
    return {name for name, found in groups.items() if found == group}


@pytest.mark.parametrize("family", families())
def test_every_weight_of_the_family_has_one_group_and_experts_are_the_banks(family):
    model = build(family)
    groups = parameter_groups(model)
    assert list(groups) == [name for name, _ in stored_tensors(model)]
    layers = expert_layers(model)
    assert names_of(groups, "experts") == {f"{layer.name}.{weight}" for layer in layers for weight in layer.weights}
    for group in ("attention", "norms", "embeddings"):
        assert names_of(groups, group), group
    assert all("norm" in name for name in names_of(groups, "norms"))
    assert all("shared_" in name for name in names_of(groups, "shared experts"))
    assert len(names_of(groups, "embeddings")) == 1
    other = names_of(groups, "other")
    assert not [
        name for name in other for part in ("shared_", "self_attn.", "lm_head.", "embed_tokens.") if part in name
    ]


@pytest.mark.parametrize("family", families())
def test_the_router_of_every_layer_is_found_and_the_choices_of_experts_hang_on_it(family):
    model = build(family)
    groups, layers = parameter_groups(model), expert_layers(model)
    routers = names_of(groups, "router")
    for layer in layers:
        block = layer.name.rpartition(".")[0]
        assert [name for name in routers if name.startswith(f"{block}.")], layer.name
    assert all(any(name.startswith(layer.name.rpartition(".")[0]) for layer in layers) for name in routers)
    assert not [name for name in routers if "shared" in name or "self_attn" in name]
    before = choices_of(model)[0]
    with torch.no_grad():
        for name, tensor in router_tensors(model).items():
            assert name in routers
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)))
            else:  # a table of experts by token
                tensor.copy_((tensor + 1) % layers[0].num_experts)
    assert not torch.equal(choices_of(model)[0], before)


def choices_of(model):
    """Of every layer: the chosen experts with their weights."""
    seen, hooks = [], []
    for layer in expert_layers(model):
        hooks.append(
            layer.module.register_forward_pre_hook(
                lambda _, inputs: seen.append(torch.cat([inputs[1].float(), inputs[2].reshape(inputs[1].shape)]))
            )
        )
    with torch.no_grad():
        model(input_ids=token_ids(), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def test_tied_embeddings_count_once_and_an_untied_head_is_the_head():
    model = olmoe()
    assert parameter_groups(model)["lm_head.weight"] == "head"
    model.lm_head.weight = model.model.embed_tokens.weight
    groups = parameter_groups(model)
    assert [name for name in groups if groups[name] in ("head", "embeddings")] == ["lm_head.weight"]
    assert groups["lm_head.weight"] == "embeddings"


def test_parts_that_read_images_are_other_whatever_they_consist_of():
    groups = parameter_groups(build("qwen3_vl_moe"))
    seen = {group for name, group in groups.items() if ".visual." in name}
    assert seen == {"other"}
    assert groups["model.language_model.layers.0.self_attn.q_proj.weight"] == "attention"


@pytest.mark.parametrize(
    ("family", "name", "group"),
    [
        ("jamba", "model.layers.0.mamba.in_proj.weight", "attention"),
        ("lfm2_moe", "model.layers.0.conv.conv.weight", "attention"),
        ("qwen3_next", "model.layers.0.linear_attn.out_proj.weight", "attention"),
        ("qwen2_moe", "model.layers.0.mlp.shared_expert_gate.weight", "shared experts"),
        ("granitemoeshared", "model.layers.0.shared_mlp.input_linear.weight", "shared experts"),
        ("deepseek_v3", "model.layers.0.mlp.gate.e_score_correction_bias", "router"),
        ("minimax_m2", "model.layers.0.mlp.e_score_correction_bias", "router"),
        ("gemma4", "model.language_model.layers.0.router.per_expert_scale", "router"),
        ("gemma4", "model.language_model.layers.0.mlp.up_proj.weight", "other"),
        ("gpt_oss", "model.layers.0.self_attn.sinks", "attention"),
        ("muse_spark", "layers.0.mlp.experts.post_expert_norm.weight", "norms"),
        ("ernie4_5_vl_moe", "layers.0.mlp.vision_moe.gate.weight", "other"),
    ],
)
def test_hard_cases_go_where_they_belong(family, name, group):
    if family not in families():
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    assert parameter_groups(build(family))[name] == group


def test_a_bias_of_the_block_belongs_to_the_router_only_if_it_has_one_value_per_expert():
    model = olmoe()
    block = model.model.layers[0].mlp
    block.register_buffer("correction", torch.zeros(8))
    block.scale = nn.Parameter(torch.ones(1))
    groups = parameter_groups(model)
    assert groups["model.layers.0.mlp.correction"] == "router"
    assert groups["model.layers.0.mlp.scale"] == "other"
