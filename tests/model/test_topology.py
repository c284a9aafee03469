"""Where the expert layers are, and the facts about transformers that finding them rests on."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, use_experts_implementation

from moe_cli.errors import UsageError
from moe_cli.model.topology import FLAGS, NOT_TEXT, expert_layers, experts_function, switch_experts
from tests.experts.catalog import build, tiny_config
from tests.experts.families import FAMILIES, SHAPE, gpt_oss, olmoe, qwen3_moe


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_tells_its_layers_experts_top_k_and_weights(family):
    for layer in expert_layers(FAMILIES[family]()):
        assert (layer.num_experts, layer.top_k) == (8, 2)
        assert all(layer.module.get_parameter(name).shape[0] == 8 for name in layer.weights)
        assert layer.params_per_expert == sum(p.numel() for p in map(layer.module.get_parameter, layer.weights)) // 8


def test_the_layer_is_the_decoders_own_index_not_a_position():
    assert [layer.layer for layer in expert_layers(qwen3_moe())] == [1, 2]


def test_layers_come_in_the_order_of_the_decoder_beyond_ten():
    model = hf.OlmoeForCausalLM(
        hf.OlmoeConfig(**SHAPE | {"num_hidden_layers": 12}, intermediate_size=8, num_experts=4, num_experts_per_tok=1)
    )
    assert [layer.layer for layer in expert_layers(model)] == list(range(12))


def test_biases_are_weights_of_an_expert_too():
    layer = expert_layers(gpt_oss())[0]
    assert layer.weights == ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")
    assert layer.params_per_expert == 2 * 16 * 32 + 2 * 16 + 16 * 32 + 32


def test_a_dense_model_is_refused_with_what_was_looked_for():
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE, intermediate_size=32))
    with pytest.raises(UsageError, match=r"LlamaForCausalLM.*use_experts_implementation") as error:
        expert_layers(model)
    assert error.value.hint


def test_experts_of_another_kind_are_refused_by_their_name():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(2, 2)])

    with pytest.raises(UsageError, match="experts of its own kind"):
        expert_layers(nn.Sequential(Block()))


def test_two_banks_in_one_decoder_layer_are_refused():
    model = olmoe()
    model.other = nn.ModuleDict({"layers": model.model.layers})
    model.other["layers"] = nn.ModuleList([nn.ModuleDict({"experts": olmoe().model.layers[0].mlp.experts})])
    with pytest.raises(UsageError, match=r"two banks of experts in layer 0.*other"):
        expert_layers(model)


@pytest.mark.parametrize("holder", NOT_TEXT)
def test_experts_that_no_text_reaches_are_left_out_beside_those_that_it_does(holder):
    """Ernie 4.5 VL has experts for image tokens in every layer, Qwen3 Omni a second decoder that speaks."""
    text, other = olmoe(), olmoe()
    both = nn.ModuleDict({"thinker": text, holder: other})
    assert [layer.name for layer in expert_layers(both)] == [
        "thinker.model.layers.0.mlp.experts",
        "thinker.model.layers.1.mlp.experts",
    ]
    assert len(expert_layers(other)) == 2, "by itself it is a model like any other"


def test_the_experts_for_image_tokens_in_a_decoder_layer_are_not_the_layers_experts():
    model = build("ernie4_5_vl_moe")
    assert [layer.name for layer in expert_layers(model)] == [f"layers.{n}.mlp.text_moe.experts" for n in (0, 1)]
    assert any(name.endswith("vision_moe.experts") for name, _ in model.named_modules())


def test_an_encoder_and_a_decoder_with_experts_in_the_same_layers_are_refused():
    modeling = pytest.importorskip("transformers.models.diffusion_gemma.modeling_diffusion_gemma")
    kind = modeling.DiffusionGemmaForBlockDiffusion
    with torch.device("meta"):
        model = kind(tiny_config(kind.config_class, {"vision_config": {"model_type": "gemma4_vision"}}))
    with pytest.raises(UsageError, match=r"two banks of experts in layer 0: model.encoder.*model.decoder"):
        expert_layers(model)


def test_a_bank_outside_any_list_of_layers_is_refused():
    with pytest.raises(UsageError, match="outside any list"):
        expert_layers(nn.ModuleDict({"experts": olmoe().model.layers[0].mlp.experts}))


def test_top_k_is_read_from_the_config_where_the_router_does_not_tell():
    model = olmoe()
    for layer in model.model.layers:
        del layer.mlp.gate.top_k
    assert [layer.top_k for layer in expert_layers(model)] == [2, 2]


def test_top_k_is_none_where_nothing_tells():
    model = olmoe()
    for layer in model.model.layers:
        del layer.mlp.gate.top_k
        layer.mlp.experts.config = nn.Module()
    assert [layer.top_k for layer in expert_layers(model)] == [None, None]


def test_switching_reaches_every_bank_and_undoing_restores_each_name():
    model = olmoe()
    model.set_experts_implementation("eager")
    layer = expert_layers(model)[0]
    ALL_EXPERTS_FUNCTIONS["moe_test"] = lambda *_: torch.zeros(())
    undo = switch_experts(model, "moe_test")
    assert model.get_experts_implementation() == {"": "moe_test"}
    assert experts_function(layer) is ALL_EXPERTS_FUNCTIONS["moe_test"]
    undo()
    assert model.get_experts_implementation() == {"": "eager"}
    assert experts_function(layer) is type(layer.module).forward.__wrapped__
    del ALL_EXPERTS_FUNCTIONS["moe_test"]


def test_switching_a_config_leaves_the_configs_inside_it_alone():
    model = olmoe()
    outer = hf.LlavaConfig(text_config=model.config)
    outer._experts_implementation = {"": "grouped_mm", "vision_config": "batched_mm", "text_config": "eager"}
    for layer in model.model.layers:
        layer.mlp.experts.config = outer
    undo = switch_experts(model, "moe_test")
    during = (outer._experts_implementation, outer.vision_config._experts_implementation)
    undo()
    after = (outer._experts_implementation, outer.vision_config._experts_implementation)
    assert (during, after) == (("moe_test", "batched_mm"), ("grouped_mm", "batched_mm"))
    assert outer.text_config._experts_implementation == "eager"


# What is built on: if one of these fails, transformers changed and topology.py must follow.


def test_upstream_marks_its_experts_with_the_flags_and_keeps_the_familys_own_forward():
    @use_experts_implementation
    class Experts(nn.Module):
        def __init__(self, config):
            super().__init__()

        def forward(self, hidden_states, top_k_index, top_k_weights):
            return hidden_states

    module = Experts(hf.OlmoeConfig(**SHAPE))
    assert all(hasattr(module, flag) for flag in FLAGS)
    assert callable(Experts.forward.__wrapped__)
    assert callable(module._apply_gate)


def test_upstream_default_is_grouped_mm_and_is_not_written_to_the_config(tmp_path):
    model = olmoe()
    assert model.get_experts_implementation() == {"": "grouped_mm"}
    switch_experts(model, "eager")
    model.config.save_pretrained(tmp_path)
    assert "experts_implementation" not in (tmp_path / "config.json").read_text()
